"""What the service gives on this machine, beside the usual stack and beside what the machine allows."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks import report
from benchmarks.journey import Wrong
from benchmarks.measures import MEASURES, verdicts
from benchmarks.rounds import Figures, run
from benchmarks.scale import FULL, QUICK

RESULTS = Path(__file__).with_name("results.md")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main(quick: Annotated[bool, typer.Option("--quick", help="Under 2 minutes; keeps no results")] = False) -> None:
    """Measure every contestant, in rounds. Fails if a bound is missed by more than what noise explains."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is stopped
    load, began = os.getloadavg()[0], time.perf_counter()
    try:
        figures = run(QUICK if quick else FULL, lambda line: console.print(line, style="dim", soft_wrap=True))
    except (OSError, Wrong) as error:
        console.print(f"[red]✗[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    console.print(report.table(figures))
    console.print(f"{report.machine()}; load average before: {load:.1f}; {time.perf_counter() - began:.0f} s")
    raise typer.Exit(1 if broken(figures) else 0)


def broken(figures: Figures) -> list[str]:
    """What misses a bound by more than noise explains."""
    judged = ((measure, verdict) for measure in MEASURES for verdict in verdicts(measure, figures[measure.key]))
    return [measure.what for measure, verdict in judged if verdict.broken]


if __name__ == "__main__":
    typer.run(main)

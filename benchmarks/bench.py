"""What the service gives on this machine, beside the usual stack and beside what the machine allows."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks.load.connections import Wrong
from benchmarks.measures import beside, growth, scaling
from benchmarks.measures.bounds import Figures, Measure, Say, broken
from benchmarks.shown import chart, report
from benchmarks.shown import scaling as scaling_shown

HERE = Path(__file__).parent

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


class What(StrEnum):
    """What can be measured."""

    full = "full"
    quick = "quick"
    growth = "growth"
    scaling = "scaling"


RUNS: dict[What, tuple[Sequence[Measure], Callable[[Say], Figures]]] = {
    What.full: (beside.MEASURES, partial(beside.run, beside.FULL)),
    What.quick: (beside.MEASURES, partial(beside.run, beside.QUICK)),
    What.growth: (growth.MEASURES, growth.run),
    What.scaling: (scaling.MEASURES, scaling.run),
}


def main(what: Annotated[What, typer.Argument()] = What.full) -> None:
    """Measure and show it; but for the quick run, keep it beside this file. Fails if a ratio is missed for certain.

    The quick run, whose rounds are few, then measures once more and fails only for what is missed both times.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is stopped
    missed = _measure(what)
    if missed and what is What.quick:
        _tell(missed)
        console.print("This may be noise: all is measured once more, and only what is missed again fails.")
        again = _measure(what)
        missed = {ratio: again[ratio] for ratio in missed if ratio in again}
    _tell(missed)
    raise typer.Exit(1 if missed else 0)


def _measure(what: What) -> dict[tuple[str, str], str]:
    """Measure, show and keep it; returns what is broken."""
    asked, run = RUNS[what]
    load, began = os.getloadavg()[0], time.perf_counter()
    try:
        figures = run(lambda line: console.print(line, style="dim", soft_wrap=True))
    except (OSError, Wrong) as error:
        console.print(f"[red]✗[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    circumstances = f"{report.machine()}. Load average before: {load:.1f}. It took {time.perf_counter() - began:.0f} s."
    console.print(report.table(asked, figures), circumstances)
    if what is What.full:
        report.write(HERE / "results.md", asked, figures, circumstances)
        chart.write(HERE / "results.svg", asked, figures)
    if what is What.growth:
        report.write(HERE / "growth.md", asked, figures, circumstances)
    if what is What.scaling:
        scaling_shown.write(HERE / "scaling.md", figures, circumstances)
        scaling_shown.draw(HERE / "scaling.svg", figures)
    return broken(asked, figures)


def _tell(missed: dict[tuple[str, str], str]) -> None:
    for ratio in missed.values():
        console.print(f"[red]✗[/] {escape(ratio)}")


if __name__ == "__main__":
    typer.run(main)

"""`make storm`: processes are killed and frozen under load, and everything is accounted for."""

import asyncio
import contextlib
import shutil
import signal
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from shared.settings import Settings
from tests.faults.storm.case import WORDS
from tests.faults.storm.faults import Engine, schedule
from tests.faults.storm.run import Storm
from tests.faults.storm.verdict import BACK_WITHIN, BACK_WITHIN_P50, Verdict
from tests.support.postgresql import Postgres

DISK = Path("/var/tmp")
"""Not /tmp, which is memory on many systems: a write costs nothing there."""

LOOK_EVERY, SAY_EVERY = 1.0, 5.0
"""Seconds between two looks at the progress, on a terminal and elsewhere."""

SHOWN = 5
"""Findings of each kind that are printed."""

console = Console(highlight=False, soft_wrap=True)


def main(
    seed: int = 1,
    kills: Annotated[int, typer.Option(min=0)] = 200,
    seconds: Annotated[float, typer.Option(min=0)] = 1800,
    store: Engine = "sqlite",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stores, also if all went well.")] = False,
) -> None:
    """Kill so many processes of a service under load, one fault after another, and judge what it did meanwhile.

    The same seed gives the same faults on the same engine. None is begun after so many seconds.
    """
    folder = Path(tempfile.mkdtemp(prefix="cqrs-storm-", dir=DISK))
    server = Postgres(durable=True) if store == "postgresql" else None
    verdict = None
    try:
        urls = server.start().stores() if server else {}
        settings = Settings(data_dir=folder / "data", _env_file=None, **urls)
        storm = Storm(settings, seed, schedule(seed, kills, store), seconds, server)
        verdict = uvloop.run(_watched(storm))
        _report(verdict, storm)
    finally:
        _put_away(folder, server, keep=keep or not (verdict and verdict.holds))
    raise typer.Exit(not verdict.holds)


def _put_away(folder: Path, server: Postgres | None, *, keep: bool) -> None:
    if not keep:
        shutil.rmtree(folder)
    else:
        console.print(f"the stores and what clients saw: {folder / 'data'}, the log: {folder / 'data.log'}")
    if server and keep:
        server.stop()
        console.print(f"PostgreSQL's stores: {server.folder}")
    elif server:
        server.remove()


async def _watched(storm: Storm) -> Verdict:
    watching, going = asyncio.create_task(_watch(storm)), asyncio.create_task(storm.go())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, going.cancel)
    try:
        return await going
    finally:
        storm.over.set()
        await watching


async def _watch(storm: Storm) -> None:
    if not console.is_terminal:
        return await _every(SAY_EVERY, storm, console.print)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        return await _every(LOOK_EVERY, storm, partial(live.update, refresh=True))


async def _every(seconds: float, storm: Storm, show: Callable[[str], None]) -> None:
    while not storm.over.is_set():
        show(await _progress(storm))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(storm.over.wait(), seconds)


async def _progress(storm: Storm) -> str:
    done, planned = (sum(fault.kills for fault in faults) for faults in (storm.struck, storm.faults))
    stores = await storm.progress()
    handled, visible = (f"{stores.handled:,}", f"{stores.visible:,}") if stores else ("?", "?")
    acknowledged = f"{len(storm.ledger.acknowledged):,}"
    return f"kills {done} of {planned}   acknowledged {acknowledged}   handled {handled}   visible {visible}"


def _report(verdict: Verdict, storm: Storm) -> None:
    for word in WORDS:
        for finding in [finding for finding in verdict.findings if finding.word == word][:SHOWN]:
            console.print(f"[red]{word}[/]: {escape(finding.what)}")
    _print_recoveries(verdict)
    kinds = Counter(fault.kind for fault in storm.struck)
    kills = f"{sum(fault.kills for fault in storm.struck)} of {sum(fault.kills for fault in storm.faults)}"
    others = f"{kinds['flush']} FLUSHALL, {kinds['freeze']} frozen"
    if storm.server:
        others += f", {kinds['cut']} times all of a process's connections ended"
    console.print(f"\nseed {storm.seed}: {kills} kills, {others}\n")
    for word, number in verdict.counts.items():
        console.print(f"{word:<13} {number:,}")
    times = f"recovery time p50 {verdict.p50:.2f} s, max {verdict.longest:.2f} s"
    slow = "" if verdict.quick else f"  [red]too long: {BACK_WITHIN_P50:.0f} s and {BACK_WITHIN:.0f} s are allowed[/]"
    console.print(f"{times} after the kill of one process{slow}")


def _print_recoveries(verdict: Verdict) -> None:
    console.print(f"\n{'seconds to a visible command after':<36} {'times':>5} {'p50':>6} {'max':>6}")
    for name in sorted({recovery.fault.name for recovery in verdict.recoveries}):
        those = [recovery for recovery in verdict.recoveries if recovery.fault.name == name]
        times = [recovery.seconds for recovery in those]
        stood = sum(recovery.stood for recovery in those)
        freeze = f"  from the thaw on; {len(those) - stood} worked around meanwhile, {stood} not"
        note = freeze if those[0].fault.kind == "freeze" else ""
        console.print(f"{name:<36} {len(those):>5} {statistics.median(times):>6.2f} {max(times):>6.2f}{note}")


if __name__ == "__main__":
    typer.run(main)

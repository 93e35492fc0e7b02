"""Thousands of people through a running service, and then a look whether it kept its promises."""

import asyncio
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.load.connections import Connections, Wrong
from benchmarks.load.journey import Run, holding, percentiles
from benchmarks.load.people import Person, invent
from shared.settings import Settings

console = Console(highlight=False, soft_wrap=True)


def main(
    url: str | None = None,
    people: Annotated[int, typer.Option(min=1)] = 10_000,
    changes: Annotated[int, typer.Option(min=0)] = 5_000,
    connections: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Send people and changes of their addresses to the service, wait until all is visible, and check everything."""
    settings = Settings()
    url = url or f"http://{settings.api_host}:{settings.api_port}"
    try:
        uvloop.run(_demo(url, invent(people, changes=changes), connections))
    except (OSError, Wrong) as error:
        console.print(f"[red]✗[/] {escape(f'{url}: {error}')}")
        raise typer.Exit(1) from None


async def _demo(url: str, people: list[Person], at_once: int) -> None:
    address = urlsplit(url)
    async with Connections(address.hostname or "", address.port or 80) as connections:
        run = Run(connections, people, at_once)
        await asyncio.gather(run.go(), _watch(run))
        async for what, found in holding(run):
            console.print(f"[green]✓[/] {what}: {found}")
    _report(run)


async def _watch(run: Run) -> None:
    await run.started.wait()
    columns = TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        accepted, visible = [progress.add_task(what, total=run.total) for what in ("accepted", "visible")]
        while True:
            done = run.seconds > 0
            progress.update(accepted, completed=run.accepted)
            progress.update(visible, completed=await run.count_visible())
            if done:
                return
            await asyncio.sleep(0.25)


def _report(run: Run) -> None:
    p50, p99 = percentiles(run.to_visible)
    sample = f"{len(run.to_visible):,} of them, at full load on {run.at_once} connections"
    console.print(f"\n{run.total / run.seconds:,.0f} commands a second, from the first POST to the last one visible")
    console.print(f"p50 {p50:.0f} ms and p99 {p99:.0f} ms from POST to visible: {sample}")
    console.print(f"{run.client_cpu / run.seconds:.0%} of a core for this client")


if __name__ == "__main__":
    typer.run(main)

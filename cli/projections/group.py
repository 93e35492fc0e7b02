"""`cqrs projections`: how far each one is and what stops it; making one anew, pausing one."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cli.errors import Refused, in_one_line
from cli.output import AsJson, console, example, say, show_json, table
from cli.projections.rebuild import rebuild as rebuild_
from cli.status import projection_lags, state
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import checkpoints

app = typer.Typer(no_args_is_help=True, help="How far the projections are; making one anew, pausing one.")

Name = Annotated[str, typer.Argument(help="Of the projection", autocompletion=lambda: list(PROJECTIONS))]


@app.command(epilog=example("cqrs projections status"))
@in_one_line
def status(as_json: AsJson = False) -> None:
    """Position and lag of each projection, and what stops it, if anything does. Exit code 1 if one stands still."""
    lags = projection_lags(Settings()).by_name
    progress = {name: lag.shown() for name, lag in lags.items()}
    if as_json:
        show_json(progress)
    else:
        rows = table("projection", "position", "lag", "state")
        for name, each in progress.items():
            rows.add(name, str(each["position"]), str(each["lag"]), state(each))
        console().print(rows)
    raise typer.Exit(1 if any(lag.progress.stands_still for lag in lags.values()) else 0)


@app.command(epilog=example("cqrs projections rebuild users --check"))
@in_one_line
def rebuild(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if they differ")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted one left")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Paused from the switch on, until it is resumed")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a projection anew beside the one that serves, compare them, and switch in one transaction.

    Commands and queries go on meanwhile.
    """
    done = rebuild_(Settings(), _projection(name), check=check, resume=resume, pause=pause)
    if as_json:
        show_json(done)
    else:
        for line in _told(done):
            say(line)
    raise typer.Exit(1 if check and done["differ"] else 0)


@app.command(epilog=example("cqrs projections pause users"))
@in_one_line
def pause(name: Name, as_json: AsJson = False) -> None:
    """Have a projection apply no more events, until it is resumed. Queries go on, and show what was."""
    _pause(name, paused=True, as_json=as_json)


@app.command(epilog=example("cqrs projections resume users"))
@in_one_line
def resume(name: Name, as_json: AsJson = False) -> None:
    """Have a paused projection go on, within seconds."""
    _pause(name, paused=False, as_json=as_json)


def _pause(name: str, *, paused: bool, as_json: bool) -> None:
    settings = Settings()
    url = settings.read_model_of(_projection(name).name)
    with engines.writing(url, lock=name) as connection:
        checkpoints.move(connection, name, checkpoints.position_of(connection, name), paused=paused)
    now = projection_lags(settings).by_name[name].shown()
    if as_json:
        show_json(now)
    else:
        say(f"cqrs: {name} is {state(now)}, at event {now['position']}")


def _projection(name: str) -> Projection:
    if name not in PROJECTIONS:
        raise Refused(f"there is no projection {name}: it is one of {', '.join(PROJECTIONS)}")
    return PROJECTIONS[name]


def _told(done: dict[str, Any]) -> Iterator[str]:
    name, switched = done["projection"], done["switched"]
    for its, each in done["tables"].items():
        yield from each["named"]
        rows = "its rows can't be compared" if each["rows"] is None else f"{each['rows']:,} rows differ"
        yield " ".join(["cqrs:", f"{its} at event {done['position']:,}:", rows, *each["columns"]])
    if switched:
        state_ = "paused" if switched["paused"] else "running"
        yield (
            f"cqrs: {name} is switched, at event {switched['position']:,}, and {state_}; "
            f"made in {done['seconds']:.1f} s, {switched['locked']:.3f} s of it locked"
        )
        if switched["paused"]:
            yield f"cqrs: once only workers of this version run: cqrs projections resume {name}"
        elif any(each["columns"] for each in done["tables"].values()):
            yield "cqrs: workers of the version before leave new columns empty: rebuild again once they are gone"

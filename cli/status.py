"""`cqrs status`: roles alive, commands waiting, projections behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from functools import lru_cache, partial
from threading import Thread
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from sqlalchemy.exc import DBAPIError

from cli.access import remote
from cli.access.remote import Api
from cli.errors import Refused
from cli.output import console, show_line, state, table
from cli.stores import protect
from shared.broker import bus
from shared.database import engines
from shared.database.probes import Probes
from shared.domain.projections import PROJECTIONS
from shared.errors.reasons import reason_of
from shared.errors.visible import visible
from shared.operations import unkeyed
from shared.schemas import check
from shared.schemas.check import locks
from shared.settings import Settings
from shared.stores import backlog, checkpoints, outcomes
from shared.stores.backlog import Backlog, Handled, Lags

ANSWER_TIMEOUT = 1.0
"""Seconds in which roles must answer; handled commands are counted meanwhile."""

LOOK_EVERY = 1.0
"""Seconds from one look to the next while the status is watched."""

PEOPLE_EVERY = 60
"""Seconds from one look for people whose keys are lost to the next, which reads an index of the whole log."""

NOT_ASKED = "unknown: they are asked through Redis"


class View(NamedTuple):
    """What is looked at: `look` returns a status, and `show` makes it what people read."""

    look: Callable[[], dict[str, Any]]
    show: Callable[[dict[str, Any]], RenderableType]


def view_of(settings: Settings, api: str) -> View:
    """The view of the service on this machine or, if CQRS_API_URL is set, of the API there. Raises Refused.

    `api`: the URL of the API, if it is elsewhere than the settings say.
    """
    if settings.api_url:
        given_by = "--api" if api else "CQRS_API_URL"
        return View(Api(api or settings.api_url, settings.api_key, given_by=given_by).status, remote.shown)
    return View(partial(status, settings, _api(settings, api)), shown)


def status(settings: Settings, api: Api | None = None) -> dict[str, Any]:
    """The status, as a program reads it; takes a second. `api`: an API, if not the one in the settings."""
    api = api or _api(settings)
    before, started = _handled(settings), time.monotonic()
    dependencies = _dependencies(settings)
    answering, unasked = bus.workers(bus.celery(settings, socket_timeout=ANSWER_TIMEOUT + 1), within=ANSWER_TIMEOUT)
    if unasked and dependencies["redis"] == "ok":
        dependencies["redis"] = unasked
    roles = {"api": [api.url] if _answers(api) else [], **answering}
    time.sleep(max(0.0, started + ANSWER_TIMEOUT - time.monotonic()))
    handled, seconds = _handled(settings) - before, time.monotonic() - started
    lags = projection_lags(settings)
    done, waiting = _backlog(settings)
    is_clear = protect.is_due(settings)
    unrecorded: list[str] = []
    known: dict[str, Any] = {"unreadable": None, "first": []}
    if dependencies["subjects"] == "ok":
        known = _people(settings, int(time.monotonic() / PEOPLE_EVERY))
        if not waiting.waiting:  # a command that waits may record one
            unrecorded = unrecorded_erasures(settings)
    if set(dependencies.values()) == {"ok"}:  # else it is known why something waits
        dependencies["workers"] = backlog.overdue(waiting, lags.by_name) or "ok"
    return {
        "well": all(roles.values())
        and set(dependencies.values()) == {"ok"}
        and not unrecorded
        and not any(lag.progress.stands_still for lag in lags.by_name.values())
        and not known["unreadable"],
        "dependencies": dependencies,
        "roles": roles,
        "queues": _queues(settings),
        "commands": {
            "accepted": waiting.accepted,
            "waiting": waiting.waiting,
            "set_aside": done.aside,
            "oldest_seconds": waiting.oldest,
            "per_second": round(handled / seconds, 1),
        },
        "projections": {name: lag.shown() | {"seconds": lag.seconds} for name, lag in lags.by_name.items()},
        "in_the_clear": is_clear,
        "unrecorded_erasures": unrecorded,
        "people": known,
    }


def shown(status: dict[str, Any]) -> RenderableType:
    """The status as people read it."""
    commands, asked = status["commands"], status["dependencies"]["redis"] == "ok"
    roles = [
        (role, ", ".join(alive) or ("none answers" if asked or role == "api" else NOT_ASKED))
        for role, alive in status["roles"].items()
    ]
    facts = [
        ("accepted", f"{commands['accepted']:,}"),
        ("waiting", f"{commands['waiting']:,}{_since(commands['oldest_seconds'])}"),
        ("set aside", f"{commands['set_aside']:,}"),
        ("handled", f"{commands['per_second']:,} a second"),
        ("messages", ", ".join(f"{name} {count}" for name, count in status["queues"].items()) or NOT_ASKED),
    ]
    projections = [
        (name, f"{each['position']:,}", f"{each['lag']:,}", f"{each['seconds']:.1f}", state(each))
        for name, each in status["projections"].items()
    ]
    lost, first = status["people"]["unreadable"], ", ".join(status["people"]["first"])
    unread = ["", f"{lost:,} people can't be read, since their keys are lost: {first}"] if lost else []
    columns = "projection", "position", "events behind", "seconds behind", "state"
    return Group(
        *(table("dependency", "state", rows=status["dependencies"].items()), ""),
        *(table("role", "alive", rows=roles), ""),
        *(table("commands", "", rows=facts), ""),
        table(*columns, rows=projections),
        *(["", protect.IN_THE_CLEAR] if status["in_the_clear"] else []),
        *("\n" + line for line in status["unrecorded_erasures"]),
        *map(visible, unread),
    )


def watch(view: View, *, as_json: bool = False) -> None:
    """Show the status again and again until Ctrl-C, in a terminal in one place."""
    # Another thread asks, while this one waits for the signal: in a call to Redis the signal would become an error.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    failed: list[Exception] = []
    screen = console()
    live = Live(console=screen, screen=True, auto_refresh=False)
    in_place = screen.is_terminal and not as_json

    def go_on() -> None:
        try:
            while True:
                began = time.monotonic()
                if as_json:
                    show_line(view.look())
                elif in_place:
                    live.update(_shown_or_why(view), refresh=True)
                else:
                    screen.print(_shown_or_why(view), "")
                sys.stdout.flush()
                time.sleep(max(0.0, began + LOOK_EVERY - time.monotonic()))
        except Exception as error:
            failed.append(error)
            os.kill(os.getpid(), signal.SIGINT)

    with live if in_place else nullcontext():
        Thread(target=go_on, daemon=True).start()
        signal.sigwait({signal.SIGINT})
    if failed:
        raise failed[0]
    os._exit(0)  # Python would wait for the other thread, or abort


def _shown_or_why(view: View) -> RenderableType:
    try:
        return view.show(view.look())
    except DBAPIError as error:
        return f"a store can't be used: {reason_of(error)}"
    except Refused as error:
        return visible(str(error))


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f", the oldest for {seconds:.1f} s"


def _api(settings: Settings, given: str = "") -> Api:
    """The API beside the stores. Only one that was named is sent the key. Raises Refused."""
    key = settings.api_key if given else None
    return Api(given or settings.api, key, given_by="--api", timeout=ANSWER_TIMEOUT)


def _answers(api: Api) -> bool:
    with suppress(Refused):
        return bool(api.get("/livez"))
    return False


def _dependencies(settings: Settings) -> dict[str, str]:
    """Each store and Redis, with `ok` or why it can't be written."""
    with closing(Probes(locks(settings))) as probes:
        troubles = probes.troubles()
    states = {name: f"can't be written: {why}" for name, why in troubles.items()}
    if "subjects" not in states and (wrong := check.look(settings, "subjects", settings.subjects)):
        states["subjects"] = str(wrong)
    redis = bus.trouble(bus.celery(settings, socket_timeout=ANSWER_TIMEOUT))
    return {name: states.get(name, "ok") for name in locks(settings)} | {"redis": redis or "ok"}


def _queues(settings: Settings) -> dict[str, int]:
    """Messages by queue; empty if the broker doesn't answer."""
    with suppress(*bus.BrokerDown):
        return bus.waiting(bus.celery(settings, socket_timeout=ANSWER_TIMEOUT))
    return {}


def _handled(settings: Settings) -> int:
    with engines.reading(settings.event_store) as log:
        return outcomes.settled_seq(log)


def _backlog(settings: Settings) -> tuple[Handled, Backlog]:
    with engines.reading(settings.event_store) as log:
        handled = backlog.handled(log)
    with engines.reading(settings.inbox) as inbox:
        return handled, backlog.waiting(inbox, handled)


def unrecorded_erasures(settings: Settings) -> list[str]:
    """A line for each stream whose key is destroyed and whose log doesn't say so: its command failed in between."""
    with engines.reading(settings.event_store) as log, engines.reading(settings.subjects) as keys:
        streams = unkeyed.unfinished_in(log, keys)
    return [f"{stream} is erased, and no event says so: erase it once more" for stream in streams]


@lru_cache(1)
def _people(settings: Settings, _: int) -> dict[str, Any]:
    """How many people can't be read, since their keys are lost, and the streams of the first."""
    with engines.reading(settings.event_store) as log, engines.reading(settings.subjects) as keys:
        lost = list(unkeyed.unreadable_in(log, keys))
    return {"unreadable": len(lost), "first": lost[: unkeyed.NAMED]}


def projection_lags(settings: Settings) -> Lags:
    """How far each projection is behind the log."""
    progress = {}
    for name in PROJECTIONS:
        with engines.reading(settings.read_model_of(name)) as read_model:
            progress[name] = checkpoints.progress(read_model, name)
    with engines.reading(settings.event_store) as log:
        return backlog.lags(log, progress)

"""Whether everything is well: what is wrong, how bad that is, and what to do about it."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from api.reading.condition import Condition
from api.watching.hour import Minute
from api.watching.surroundings import People, Workers
from shared.stores.backlog import OVERDUE_AFTER

SLOW_AFTER = 2.0
"""Seconds of waiting from which the service is slow."""

SLOW_MINUTE = 1.0
"""Seconds within which 95 % of a minute's commands are handled, unless the service is slow."""

NAMED = 5
"""Streams that a text names."""

Level = Literal["good", "warn", "bad"]

STORES = {
    "inbox": ("The inbox", "Commands are refused with 503 until then."),
    "event_store": ("The event store", "Commands wait until then; none that was accepted is lost."),
    "read_model": ("A read model", "What can't be read is answered 503; nothing is lost."),
    "subjects": ("The store of people's keys", "Nothing personal can be read or written until then."),
}

ROLES = {"command-worker": "command worker", "projection-worker": "projection worker"}


class Finding(NamedTuple):
    """Something that is wrong: what, why, and what to do; perhaps the page where it is done, and the link's text."""

    level: Level
    what: str
    why: str
    todo: str
    path: str = ""
    link: str = ""
    is_slowness: bool = False


class Word(NamedTuple):
    """How the service is, in a word, and how good that is."""

    level: Level
    word: str


def word_for(findings: list[Finding]) -> Word:
    """The word for the worst that was found."""
    levels = {each.level for each in findings}
    if "bad" in levels:
        return Word("bad", "In trouble")
    if any(each.is_slowness for each in findings):
        return Word("warn", "Slow")
    return Word("warn", "Needs attention") if findings else Word("good", "Well")


def found(condition: Condition, workers: Workers, people: People | None, hour: list[Minute] | None) -> list[Finding]:
    """What is wrong, the worst first. None: that isn't known yet."""
    everything = [
        *_dependencies(condition),
        *_workers(condition, workers),
        *_projections(condition),
        *_overdue(condition),
        *_people(people),
        *_slow(condition, hour),
    ]
    return sorted(everything, key=lambda each: each.level != "bad")


def _dependencies(condition: Condition) -> Iterator[Finding]:
    states = condition.dependencies
    for name, (title, until) in STORES.items():
        if (why := states[name]) != "ok":
            verb = "is down" if why.startswith("down") else "is in trouble"
            todo = f"Mend what the error names, or start its server. {until}"
            yield Finding("bad", f"{title} {verb}", _sentence(why), todo)
    if (why := states["redis"]) != "ok":
        todo = "Start Redis again. Workers look by themselves every 2 seconds, so everything goes on, later than usual."
        yield Finding("warn", "Redis is down" if why == "down" else "Redis is in trouble", _sentence(why), todo)


def _workers(condition: Condition, workers: Workers) -> Iterator[Finding]:
    if workers.unasked:
        if condition.dependencies["redis"] == "ok":
            why = "They are asked through Redis: " + workers.unasked
            yield Finding("warn", "Nobody knows which workers run", why, "See to Redis.")
        return
    for role, alive in workers.by_role.items():
        if not alive:
            todo = f"Start one: `cqrs up` runs all roles, `docker compose up -d {role}` its containers."
            yield Finding("bad", f"No {ROLES[role]} answers", "None runs, or all hang.", todo)


def _overdue(condition: Condition) -> Iterator[Finding]:
    if (why := condition.dependencies["workers"]) != "ok":
        todo = f"Nothing should wait for {OVERDUE_AFTER:.0f} seconds: see that all workers answer, and what they log."
        yield Finding("bad", "Something waits for too long", why, todo, "/console/commands", "The latest commands")


def _projections(condition: Condition) -> Iterator[Finding]:
    for name, lag in condition.lags.by_name.items() if condition.lags else ():
        if stop := lag.progress.stopped:
            todo = f"Mend `project` and deploy: {name} tries again by itself. What is shown stays as it was."
            event = f"/console/log/{stop.event}"
            yield Finding("bad", f"{name} stops before event {stop.event:,}", stop.error, todo, event, "That event")
        elif lag.progress.paused:
            why = f"An operator paused it; it lacks {lag.events:,} events."
            todo = f"Resume it: `cqrs projections resume {name}`."
            yield Finding("warn", f"{name} is paused", why, todo, "/console/projections", "Projections")


def _people(people: People | None) -> Iterator[Finding]:
    if people and people.lost:
        why = f"{len(people.lost):,} people can't be read: {_named(people.lost)}."
        todo = "Bring the file with their keys back from the backup, or erase them."
        yield Finding("bad", "Keys of people are lost", why, todo)
    if people and people.unrecorded:
        why = f"Their keys are destroyed, and no event says so: {_named(people.unrecorded)}."
        yield Finding("bad", "Erasures aren't finished", why, "Erase them once more.")


def _slow(condition: Condition, hour: list[Minute] | None) -> Iterator[Finding]:
    if condition.dependencies["workers"] != "ok":
        return
    waiting = condition.waiting
    if waiting and (waiting.oldest or 0) >= SLOW_AFTER:
        why = f"{waiting.waiting:,} commands wait, the oldest for {waiting.oldest:.1f} s."
        yield Finding("warn", "Commands wait", why, "More command workers, or less load.", is_slowness=True)
    for name, lag in condition.lags.by_name.items() if condition.lags else ():
        if lag.seconds >= SLOW_AFTER and not lag.progress.stands_still:
            why = f"It is {lag.seconds:.1f} s and {lag.events:,} events behind the log."
            yield Finding("warn", f"{name} lags", why, "It catches up by itself, unless this lasts.", is_slowness=True)
    last = hour[-2] if hour and len(hour) > 1 else None
    if last and last.handling and last.handling.p95 >= SLOW_MINUTE:
        why = f"A minute ago, one command in 20 took {last.handling.p95:.1f} s and more to be handled."
        yield Finding("warn", "Commands take long", why, "See the charts below for since when.", is_slowness=True)


def _sentence(why: str) -> str:
    """The reason by itself: that something is down was said."""
    reason = why.removeprefix("down: ") if why != "down" else "nothing answers"
    return f"{reason[:1].upper()}{reason[1:]}."


def _named(streams: list[str]) -> str:
    return ", ".join(streams[:NAMED]) + (", …" if len(streams) > NAMED else "")

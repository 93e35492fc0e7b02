"""What must be true of the stores, by the log, the inbox and the rules."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.faults.storm import traces
from tests.faults.storm.case import Case, Finding
from tests.faults.storm.model import State, due, held_by_another
from tests.support.chain import hash_of


def _once(case: Case) -> Iterator[Finding]:
    """No command of this traffic has more than one event."""
    for command_id, events in case.events_of.items():
        if len(events) > 1 and command_id in case.command:
            yield case.about("duplicated", events[0], f"is not all, there is {events[1:]}")


def _in_order(case: Case) -> Iterator[Finding]:
    """Within a stream, events stand in order of acceptance."""
    highest: dict[str, int] = defaultdict(int)
    for event in case.stores.events:
        if (seq := case.seq(event)) < highest[event.stream]:
            yield case.about("reordered", event, f"stands behind one of {highest[event.stream]}")
        highest[event.stream] = max(highest[event.stream], seq)


def _whole(case: Case) -> Iterator[Finding]:
    """Events and outcomes tell the same."""
    heads: dict[str, int] = {}
    for position, event in enumerate(case.stores.events, 1):
        outcome = case.stores.outcomes.get(case.seq(event))
        if not outcome or outcome.status != "succeeded":
            yield case.about("torn", event, f"belongs to {outcome}")
        elif (outcome.version, outcome.position) != (event.version, event.position):
            yield case.about("torn", event, f"ends in {outcome}")
        if (event.position, event.version) != (position, heads.get(event.stream, 0) + 1):
            yield case.about("torn", event, f"should be at {position}, as version {heads.get(event.stream, 0) + 1}")
        heads[event.stream] = event.version
    for seq in case.stores.outcomes.keys() - {row.seq for row in case.stores.inbox}:
        yield Finding("torn", f"{case.stores.outcomes[seq]} belongs to no command")
    for seq in case.stores.outcomes.keys() & case.stores.aside:
        yield Finding("torn", f"{case.stores.outcomes[seq]} is set aside as well")


def _chained(case: Case) -> Iterator[Finding]:
    """Each event has the hash that its row and the hash before it make."""
    before = bytes(32)
    for event in case.stores.events:
        if (made := hash_of(before, event._replace(data=event.stored))) != event.hash:
            yield case.about("torn", event, f"should have the hash {made.hex()}")
        before = event.hash or made


def _keys(case: Case) -> Iterator[Finding]:
    for event in case.sums.conflicts:
        yield case.about("unexpected", event, "takes an address that another held")
    holders = {case.stores.blind("email", key): stream for key, stream in case.sums.holders.items()}
    yield from _different("torn", "the holder of", case.stores.keys, holders)


def _sealed(case: Case) -> Iterator[Finding]:
    """No address stands in the log or in the inbox as it was sent."""
    for each in (*case.stores.events, *case.stores.inbox):
        if "@" in each.stored:
            yield Finding("unexpected", f"{each} is not sealed")


def _projected(case: Case) -> Iterator[Finding]:
    """Each projection shows what the log says, all of it."""
    last = case.stores.events[-1].position if case.stores.events else 0
    for name, expected in case.sums.projected.items():
        yield from _different("skipped", f"{name}:", case.stores.projected[name], expected)
        if (reached := case.stores.checkpoints[name]) != last:
            yield Finding("skipped", f"the checkpoint of {name} is {reached}, the log ends at {last}")


def _different(word: str, what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> Iterator[Finding]:
    for key in found.keys() | expected.keys():
        if found.get(key) != expected.get(key):
            yield Finding(word, f"{what} {key} is {found.get(key)}, by the log it is {expected.get(key)}")


def _decisions(case: Case) -> Iterator[Finding]:
    """Each stream by itself: from the state that its earlier commands left, each came to the end that the rules say."""
    states: dict[str, State] = defaultdict(State)
    for row in case.stores.inbox:
        if not (outcome := case.stores.outcomes.get(row.seq)):
            continue
        events = case.events_of.get(row.command_id, [])
        user = states[row.stream]
        expected = due(row, user, gone=case.sums.is_gone(row.stream, outcome.handled_at))
        found = outcome.problem or [(event.stream, event.type, json.loads(event.data)) for event in events]
        if outcome.problem == "email-taken" and expected and isinstance(expected, list):
            if not held_by_another(case.sums, row, outcome):
                yield Finding("unexpected", f"{row} was rejected, but nobody held the address", row.idempotency_key)
        elif found != expected:
            word = "lost" if isinstance(expected, list) and not found else "unexpected"
            yield Finding(word, f"{row} should come to {expected}, its end is {outcome}, {events}", row.idempotency_key)
        elif not found and (outcome.version != user.version or outcome.position < user.position):
            yield Finding("torn", f"{row} left {user}, its end is {outcome}", row.idempotency_key)
        for event in events:
            data = json.loads(event.data)
            email = data.get("new_email", data.get("email", user.email))
            active, erased = event.type != "UserDeactivated", event.type == "UserErased"
            states[row.stream] = State(event.version, event.position, email, active, erased)


def _readable(case: Case) -> Iterator[Finding]:
    """Nothing that is personal of an erased person is left anywhere."""
    for stream in case.erased & case.stores.with_key:
        yield Finding("readable", f"{stream} is erased and has a key")
    for stream in case.erased ^ case.stores.erasures.keys():
        yield Finding("torn", f"{stream} is erased by the log {stream in case.erased}, by the keys it is otherwise")
    for each in (*case.stores.inbox, *case.stores.events):
        if each.stream in case.erased and _personal(each.opened):
            yield Finding("readable", f"{each} opens, and {each.stream} is erased")
    for name, rows in case.stores.projected.items():
        for number in rows:
            if f"user-{number}" in case.erased:
                yield Finding("readable", f"{number} is erased and stands in {name}")
    yield from _traced(case)


def _traced(case: Case) -> Iterator[Finding]:
    """No file has a value that was sent for nobody but the erased."""
    of_erased, of_others = set[str](), set[str]()
    for row in case.stores.inbox:
        sent = {traces.of(value) for value in _personal(row.data)} - {None}
        (of_erased if row.stream in case.erased else of_others).update(filter(None, sent))
    for trace in (of_erased - of_others) & case.stores.traces.keys():
        yield Finding("readable", f"{trace} of somebody erased stands in {case.stores.traces[trace]}")


def _forgotten(case: Case) -> Iterator[Finding]:
    """Whoever isn't erased can be read in every word."""
    for each in (*case.stores.inbox, *case.stores.events):
        if each.stream not in case.erased and None in json.loads(each.opened).values():
            yield Finding("forgotten", f"{each} doesn't open, and {each.stream} isn't erased")


def _personal(data: str) -> list[str]:
    return [value for value in json.loads(data).values() if isinstance(value, str)]


OF_STORES = (_once, _in_order, _whole, _chained, _keys, _sealed, _projected, _decisions, _readable, _forgotten)

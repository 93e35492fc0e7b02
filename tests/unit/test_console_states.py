"""States beside events: what is personal in them stays hidden, whatever an aggregate makes of its events."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from api.console.log import shown
from api.console.log.shown import Value, fields_of
from api.console.log.states import FOLDED_MOST, Change, states_of
from shared.messages import ErasedEvent, Event, RecordedEvent, UnreadableEvent
from shared.personal.marks import Personal


class PatientAdmitted(Event, begins_stream=True):
    patient_id: int
    name: Personal[str]
    ward: str


class PatientMoved(Event):
    patient_id: int
    ward: str


class Patient(NamedTuple):
    initial: str | None
    letters: int | None
    ward: str
    version: int


NO_STORE: Any = None
"""Nothing stands before the events, so nothing is read."""

HIDDEN = Value(None, "hidden")


def fold(patient: Patient | None, events: Sequence[RecordedEvent]) -> Patient | None:
    for each in events:
        data = each.data
        if each.type == "PatientAdmitted":
            name = data["name"]
            patient = Patient(name and name[0], name and len(name), data["ward"], each.version)
        elif patient:
            patient = patient._replace(ward=data["ward"], version=each.version)
    return patient


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "KNOWN", {each.__name__: each for each in (PatientAdmitted, PatientMoved)})


def recorded(
    type: str, data: str, *, version: int = 1, schema: int = 1, kind: type[RecordedEvent] = RecordedEvent
) -> RecordedEvent:
    return kind(version, "patient-1", version, type, data, "{}", "2026-12-01T00:00:00.000000Z", schema)


ADMITTED = recorded("PatientAdmitted", '{"patient_id": 1, "name": "Ann", "ward": "A"}')
MOVED = recorded("PatientMoved", '{"patient_id": 1, "ward": "B"}', version=2)


def changes(*events: RecordedEvent, revealed: bool = False) -> dict[int, list[Change]]:
    states = asyncio.run(states_of(NO_STORE, fold, events, revealed=revealed))
    assert not states.why
    return dict(states.changes)


def test_what_is_made_of_something_personal_is_hidden_and_what_is_not_is_shown() -> None:
    first, second = changes(ADMITTED, MOVED).values()
    nothing = Value(None, "–")  # noqa: RUF001
    assert first == [
        Change("initial", nothing, HIDDEN, "added"),
        Change("letters", nothing, HIDDEN, "added"),
        Change("ward", nothing, Value("A"), "added"),
    ]
    assert second == [
        Change("initial", HIDDEN, HIDDEN, ""),
        Change("letters", HIDDEN, HIDDEN, ""),
        Change("ward", Value("A"), Value("B"), "changed"),
    ]


def test_revealed_it_is_shown() -> None:
    [[initial, letters, _]] = changes(ADMITTED, revealed=True).values()
    assert (initial.after, letters.after) == (Value("A"), Value(3))


@pytest.mark.parametrize("revealed", [False, True])
def test_what_can_be_read_no_more_is_named(revealed: bool) -> None:
    data = '{"patient_id": 1, "name": null, "ward": "A"}'
    for kind, words in ((ErasedEvent, "erased"), (UnreadableEvent, "can't be read, its key is lost")):
        event = recorded("PatientAdmitted", data, kind=kind)
        assert fields_of(event, revealed=revealed) == {
            "patient_id": Value(1),
            "name": Value(None, words),
            "ward": Value("A"),
        }


@pytest.mark.parametrize("event", [recorded("Unknown", '{"a": 1}'), recorded("PatientMoved", '{"a": 1}', schema=2)])
def test_of_an_event_whose_shape_is_not_known_all_is_hidden(event: RecordedEvent) -> None:
    assert fields_of(event, revealed=False) == {"a": HIDDEN}
    assert fields_of(event, revealed=True) == {"a": Value(1)}


def test_events_that_cannot_be_folded_are_shown_without_states() -> None:
    def broken(patient: Patient | None, events: Sequence[RecordedEvent]) -> Patient | None:
        raise KeyError(events[0].data["name"])

    states = asyncio.run(states_of(NO_STORE, broken, [ADMITTED], revealed=False))
    assert (states.changes, "KeyError" in states.why, "Ann" in states.why) == ({}, True, False)


def test_far_into_a_stream_states_are_not_shown_for_their_cost() -> None:
    far = MOVED._replace(version=FOLDED_MOST + 2)
    states = asyncio.run(states_of(NO_STORE, fold, [far], revealed=False))
    assert (states.changes, "20,000" in states.why) == ({}, True)

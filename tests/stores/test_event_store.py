"""The contract of the event store, on real files, with several processes."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shared.database import engines
from shared.messages import NewEvent, RecordedEvent
from shared.schemas import chain
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.event_store import Append, WrongExpectedVersion
from tests.support.processes import in_process

pytestmark = pytest.mark.both_engines


@pytest.fixture
def url(made: Callable[[Path], Settings], tmp_path: Path) -> str:
    return made(tmp_path / "data").event_store


@pytest.fixture
def log(url: str) -> Iterator[Connection]:
    engine = engines.writer(url, lock="event_store")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def happened(*names: str) -> list[NewEvent]:
    return [NewEvent(name, {"name": name}, {"by": "test"}) for name in names]


def types(events: list[RecordedEvent]) -> list[str]:
    return [event.type for event in events]


def test_events_get_versions_in_their_stream_and_positions_in_the_log(log: Connection) -> None:
    event_store.append(log, Append("a-1", happened("A", "B"), 0))
    event_store.append(log, Append("a-2", happened("C"), 0), Append("a-1", happened("D"), 2))
    places = [(event.position, event.stream, event.version, event.type) for event in event_store.read_all(log)]
    assert places == [(1, "a-1", 1, "A"), (2, "a-1", 2, "B"), (3, "a-2", 1, "C"), (4, "a-1", 3, "D")]


def test_the_latest_events_before_a_position_are_read_by_types_and_stream(log: Connection) -> None:
    event_store.append(log, *(Append(f"a-{n % 2}", happened("A" if n % 3 else "B")) for n in range(1, 9)))

    def latest(**which: Any) -> list[int]:
        return [each.position for each in event_store.read_latest(log, limit=2, **which)]

    assert (latest(), latest(before=4), latest(before=1)) == ([7, 8], [2, 3], [])
    assert (latest(types=["B"]), latest(types=["A", "B"], before=6), latest(types=[])) == ([3, 6], [4, 5], [])
    assert (latest(stream="a-1", before=5), latest(stream="a-1", before=6)) == ([1, 3], [3, 5])
    assert latest(stream="a-1", types=["A"], before=7) == [1, 5]


def test_events_past_a_position_are_counted_up_to_a_limit(log: Connection) -> None:
    event_store.append(log, *(Append(f"a-{n % 2}", happened("A" if n % 3 else "B")) for n in range(1, 9)))
    counts = [
        event_store.count(log, after=3, most=9),
        event_store.count(log, after=3, most=2),
        event_store.count(log, types=["B"], after=3, most=9),
        event_store.count(log, stream="a-1", after=3, most=9),
        event_store.count(log, stream="a-1", after=4, types=["A"], most=9),
    ]
    assert counts == [5, 2, 1, 2, 2]


def test_events_of_one_correlation_id_are_found_within_bounds(log: Connection) -> None:
    ids = ["a_1", "aX1", "a_12", 'a_1"', "a_1", "a_1"]
    new = [NewEvent("A", {}, {"correlation_id": id, "other": "a_1"}) for id in ids]
    event_store.append(log, Append("a-1", new))

    def found(**bounds: int) -> list[int]:
        return [each.position for each in event_store.correlated(log, "a_1", **bounds)]

    assert found(after=0, upto=9, limit=9) == [1, 5, 6]
    assert (found(after=1, upto=5, limit=9), found(after=0, upto=9, limit=2)) == ([5], [1, 5])


def test_an_event_comes_back_as_it_was_given(log: Connection) -> None:
    data = {"text": "žluťoučký 馬 \U0001f40e", "number": 1.5, "nested": {"list": [1, None, True]}}
    event_store.append(log, Append("a-1", [NewEvent("A", data, {"command_id": "c"})], 0))
    [event] = event_store.read_stream(log, "a-1")
    assert (event.type, event.data, event.metadata) == ("A", data, {"command_id": "c"})
    assert event.recorded_at.endswith("Z")


def test_an_append_tells_the_last_position(log: Connection) -> None:
    last = event_store.append(
        log, Append("a-1", happened("A", "B"), 0), Append("a-2", [], 0), Append("a-3", happened("C"), 0)
    )
    assert last == event_store.last_position(log) == 3


def test_a_wrong_expected_version_is_told_and_nothing_of_the_call_is_kept(log: Connection) -> None:
    event_store.append(log, Append("a-1", happened("A"), 0))
    with pytest.raises(WrongExpectedVersion) as caught:
        event_store.append(log, Append("a-2", happened("B"), 0), Append("a-1", happened("C"), 3))
    assert (caught.value.stream, caught.value.expected, caught.value.found) == ("a-1", 3, 1)
    assert str(caught.value) == "a-1 is at version 1, not at 3"
    assert types(event_store.read_all(log)) == ["A"]
    assert event_store.stream_version(log, "a-2") == 0


def test_any_version_will_do_when_none_is_expected(log: Connection) -> None:
    event_store.append(log, Append("a-1", happened("A")))
    event_store.append(log, Append("a-1", happened("B")), Append("a-1", happened("C")))
    assert event_store.stream_version(log, "a-1") == 3


def test_a_stream_that_is_not_there_is_at_version_0(log: Connection) -> None:
    assert event_store.stream_version(log, "a-1") == 0
    assert event_store.read_stream(log, "a-1") == []
    assert event_store.last_position(log) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "ABCDE"),
        ({"after": 2}, "CDE"),
        ({"upto": 3}, "ABC"),
        ({"after": 1, "upto": 4}, "BCD"),
        ({"limit": 2}, "AB"),
        ({"after": 1, "upto": 4, "limit": 2}, "BC"),
        ({"after": 5}, ""),
    ],
)
def test_a_stream_is_read_with_bounds_and_limit(log: Connection, arguments: dict[str, int], expected: str) -> None:
    event_store.append(log, Append("a-0", happened("X"), 0), Append("a-1", happened(*"ABCDE"), 0))
    assert "".join(types(event_store.read_stream(log, "a-1", **arguments))) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"after": 2}, [3, 4, 5, 6]),
        ({"after": 2, "limit": 3}, [3, 4, 5]),
        ({"limit": 2}, [1, 2]),
        ({"types": ["A"]}, [1, 4]),
        ({"types": ["A", "C"], "after": 1, "limit": 2}, [3, 4]),
        ({"types": []}, []),
        ({"types": ["Z"]}, []),
        ({"stream": "a-2"}, [4, 5, 6]),
        ({"stream": "a-2", "types": ["B"]}, [5]),
        ({"after": 6}, []),
    ],
)
def test_the_log_is_read_after_a_position_with_a_filter_and_a_limit(
    log: Connection, arguments: dict[str, object], expected: list[int]
) -> None:
    event_store.append(log, Append("a-1", happened(*"ABC"), 0), Append("a-2", happened(*"ABC"), 0))
    assert [event.position for event in event_store.read_all(log, **arguments)] == expected  # type: ignore[arg-type]


def test_a_stream_is_read_on_from_any_position_of_the_log(log: Connection) -> None:
    event_store.append(log, *(Append(f"a-{number % 2}", happened("A")) for number in range(8)))
    pages = [[event.position for event in event_store.read_all(log, stream="a-1", after=after)] for after in range(9)]
    assert pages == [[position for position in (2, 4, 6, 8) if position > after] for after in range(9)]


def steps(connection: Connection, read: Callable[[], object]) -> int:
    """How much SQLite has to do for it, whatever the machine."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(step, 1)
    read()
    driver.set_progress_handler(None, 0)
    return count


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"types": ["Often"]},
        {"types": ["Rarely"]},
        {"types": ["Often", "Rarely"]},
        {"types": ["Never"]},
        {"stream": "a-3"},
        {"stream": "a-3", "types": ["Often"]},
        {"stream": "long"},
        {"stream": "long", "types": ["Often"]},
    ],
)
def test_a_page_costs_the_same_wherever_it_is_in_however_long_a_log(
    log: Connection, filters: dict[str, object]
) -> None:
    def grow() -> None:
        start = event_store.last_position(log)
        streams = [Append(f"a-{start + number}", happened("Often", "Often")) for number in range(200)]
        long = Append("long", happened(*["Often"] * 400))
        event_store.append(log, *streams, long, Append(f"rare-{start}", happened(*["Rarely"] * 20)))

    def page(after: int) -> int:
        return steps(log, lambda: event_store.read_all(log, after=after, limit=10, **filters))  # type: ignore[arg-type]

    grow()
    short = page(0)
    for _ in range(20):
        grow()
    its = event_store.read_all(log, **filters)  # type: ignore[arg-type]
    assert page(0) <= 1.25 * short
    for event in its[:: max(1, len(its) // 10)]:
        assert page(event.position) <= 1.25 * short + 30


@pytest.mark.sqlite_only
def test_the_versions_of_streams_cost_the_same_however_long_they_are(log: Connection) -> None:
    def cost() -> int:
        return steps(log, lambda: event_store.heads(log, ["a-1", "a-2", "a-3"]))

    event_store.append(log, Append("a-1", happened("A")), Append("a-2", happened("A")))
    short = cost()
    event_store.append(log, Append("a-1", happened(*"A" * 2000)), Append("b-1", happened(*"A" * 2000)))
    assert cost() <= 1.25 * short


def test_events_of_several_streams_are_those_past_the_version_of_each(log: Connection) -> None:
    event_store.append(log, *(Append(f"a-{number % 3}", happened("A")) for number in range(12)))
    events = event_store.read_streams(log, after={"a-0": 0, "a-1": 3, "a-2": 4, "a-3": 0})
    assert [(event.stream, event.version) for event in events] == [*(("a-0", n) for n in (1, 2, 3, 4)), ("a-1", 4)]
    assert event_store.read_streams(log, after={}) == []


@pytest.mark.parametrize("statement", ["UPDATE events SET type = 'B'", "DELETE FROM events"])
def test_the_database_itself_refuses_to_change_an_event(log: Connection, statement: str) -> None:
    event_store.append(log, Append("a-1", happened("A"), 0))
    with pytest.raises(DBAPIError, match="append-only"):
        log.execute(text(statement))


def test_a_reader_can_not_write(url: str) -> None:
    engine = engines.reader(url)
    with engine.connect() as connection, pytest.raises(DBAPIError, match=r"readonly|read-only"):
        event_store.append(connection, Append("a-1", happened("A"), 0))
    engine.dispose()


RACERS, ROUNDS, STREAMS = 4, 60, 5


def race(url: str, racer: int) -> None:
    """Append one event at a time to streams that others append to as well, trying again when they were faster."""
    engine = engines.writer(url, lock="event_store")
    for number in range(ROUNDS):
        stream = f"a-{(racer + number) % STREAMS}"
        with engine.connect() as connection:
            expected = event_store.stream_version(connection, stream)
        while True:
            try:
                with engine.begin() as connection:
                    event_store.append(connection, Append(stream, happened(f"{racer}.{number}"), expected))
                break
            except WrongExpectedVersion as wrong:
                expected = wrong.found
    engine.dispose()


@pytest.mark.processes
def test_racing_processes_get_every_position_and_version_once_with_none_missing(url: str) -> None:
    racers = [in_process(race, url, racer) for racer in range(RACERS)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    engine = engines.reader(url)
    with engine.connect() as connection:
        events = event_store.read_all(connection)
        last = event_store.heads(connection, [f"a-{number}" for number in range(STREAMS)]).versions
        assert sum(map(len, chain.checked(connection))) == RACERS * ROUNDS
    engine.dispose()
    assert [event.position for event in events] == list(range(1, RACERS * ROUNDS + 1))
    assert len(set(types(events))) == RACERS * ROUNDS
    for stream, its in groupby(sorted(events, key=lambda e: (e.stream, e.position)), key=lambda e: e.stream):
        versions = [event.version for event in its]
        assert versions == list(range(1, last[stream] + 1))


def test_a_page_of_types_has_each_event_once_and_in_order(log: Connection) -> None:
    for number in range(12):
        event_store.append(log, Append(f"a-{number}", happened("AB"[number % 2], "C")))
    read = event_store.read_all(log, types=["C", "A", "A", "none"], after=3, limit=5)
    assert [(event.position, event.type) for event in read] == [(4, "C"), (5, "A"), (6, "C"), (8, "C"), (9, "A")]

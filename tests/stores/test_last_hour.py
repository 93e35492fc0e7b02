"""The last hour, read from the commands themselves."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.reading.store import Store
from api.watching import hour
from api.watching.boundaries import last_by
from api.watching.hour import LastHour, Minute, spread
from shared.clock import written
from shared.database import engines
from shared.database.statements import insert_rows, upsert_rows
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings
from shared.stores import advances, inbox, outcomes
from tests.support.stores import Stores

pytestmark = pytest.mark.both_engines

BUSY, QUIET = 10, 30
"""Minutes ago, in whole minutes."""


def minutes_ago(minutes: int) -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) - minutes * timedelta(minutes=1)


def fill(settings: Settings) -> None:
    """Five commands in a quiet minute, and 600 in a busy one: each third is rejected, the last waited a minute."""
    times = [minutes_ago(QUIET) + timedelta(seconds=n) for n in range(5)]
    times += [minutes_ago(BUSY) + timedelta(seconds=0.1 * n) for n in range(600)]
    rows = list(enumerate(times, 1))
    took = {605: timedelta(seconds=60)}
    ended = [(n, at + took.get(n, timedelta(milliseconds=20)), bool(n % 3)) for n, at in rows]
    with engines.writing(settings.inbox, lock="inbox") as connection:
        its = [(n, f"{n}", "user-1", "CreateUser", "{}", None, written(at), None, None, "{}", None) for n, at in rows]
        insert_rows(connection, inbox.commands, its)
        upsert_rows(connection, inbox.sequences, [("seq", len(rows))])
    with engines.writing(settings.event_store, lock="event_store") as connection:
        ends = [(n, "succeeded" if good else "rejected", 1, n, None, written(at)) for n, at, good in ended]
        insert_rows(connection, outcomes.outcomes, ends)
    with engines.writing(settings.read_model_of("users"), lock="users") as connection:
        shown = [("users", n, n - 1, written(at + timedelta(milliseconds=50))) for n, at, _ in ended]
        insert_rows(connection, advances.table, shown)


def looks(settings: Settings, times: int = 1) -> list[Minute]:
    """What an API that has just started sees."""
    commands, log = Store(settings.inbox), Store(settings.event_store)
    read_models = {name: Store(settings.read_model_of(name)) for name in PROJECTIONS}

    async def look() -> list[Minute]:
        last_hour = LastHour(commands, log, read_models, PROJECTIONS.values())
        for _ in range(times):
            found = await last_hour.look()
        return found

    try:
        return asyncio.run(look())
    finally:
        for each in [commands, log, *read_models.values()]:
            each.close()
            each.engine.dispose()


def by_minute(found: list[Minute]) -> dict[datetime, Minute]:
    return {each.begins: each for each in found}


def test_a_process_that_has_just_started_knows_the_last_hour(stores: Stores) -> None:
    fill(stores.settings)
    found = by_minute(looks(stores.settings))
    quiet, busy = found[minutes_ago(QUIET)], found[minutes_ago(BUSY)]
    assert (len(found), sum(each.accepted for each in found.values())) == (60, 605)
    assert (quiet.accepted, quiet.counts) == (5, Counter(succeeded=4, rejected=1))
    handling, showing, whole = (0.02,) * 3, (0.05,) * 3, (0.07,) * 3
    assert (quiet.handling, quiet.showing, quiet.whole) == (handling, showing, whole)
    assert (busy.accepted, busy.sampled, busy.backlog) == (600, hour.SAMPLES, 1)
    assert busy.rate("succeeded") == pytest.approx(10 * 2 / 3, rel=0.02)


def test_a_minute_that_is_settled_is_read_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(stores.settings)
    read: list[datetime] = []
    original = LastHour._read

    async def noting(self: LastHour, begins: datetime, *rest: Any) -> Minute:
        read.append(begins)
        return await original(self, begins, *rest)

    monkeypatch.setattr(LastHour, "_read", noting)
    looks(stores.settings, 5)
    assert read.count(minutes_ago(BUSY)) == 1
    assert len(read) < 60 + 5 * 3


def test_boundaries_are_found_wherever_they_are() -> None:
    times = {seq: f"{seq // 7:04}" for seq in range(1, 1000)}

    async def given(seqs: list[int]) -> dict[int, str]:
        return {seq: times[seq] for seq in seqs if seq in times}

    asked = ["0000", "0001", "0042", "0100", "0999"]
    found = asyncio.run(last_by(asked, given, 999))
    assert found == {each: max([seq for seq, time in times.items() if time < each], default=0) for each in asked}


def test_samples_are_spread_evenly() -> None:
    assert spread(11, 13, 5) == [11, 12, 13]
    assert spread(1, 1000, 4) == [1, 334, 667, 1000]
    assert spread(5, 4, 4) == []

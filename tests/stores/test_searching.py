"""Searching the inbox between two seqs."""

import pytest
from sqlalchemy import update

from shared.stores import outcomes, searching, set_aside
from shared.stores.inbox import commands
from shared.stores.outcomes import Outcome, Status
from shared.stores.searching import Wanted
from shared.stores.set_aside import SetAside
from tests.support.stores import Stores, accept, create, deactivate, reads

pytestmark = pytest.mark.both_engines

ANN, BOB = ({"principal": name, "correlation_id": f"of {name}"} for name in ("ann", 'b"o\\b'))


def test_commands_are_found_by_what_they_are_and_stay_sealed(stores: Stores) -> None:
    accept(stores, create("a@b.example", metadata=ANN), deactivate(1, metadata=BOB), deactivate(2), deactivate(1))
    with reads(stores.settings, stores.settings.inbox).connect() as connection:
        seqs = {
            wanted: [each.seq for each in searching.latest(connection, wanted, after=0, before=9, limit=9)]
            for wanted in (
                Wanted(),
                Wanted(stream="user-1"),
                Wanted(type="DeactivateUser"),
                Wanted(principal="ann"),
                Wanted(principal="ANN"),
                Wanted(principal=BOB["principal"]),
                Wanted(correlation_id="of ann", stream="user-1"),
                Wanted(correlation_id="of ann", type="DeactivateUser"),
            )
        }
        assert list(seqs.values()) == [[4, 3, 2, 1], [4, 2, 1], [4, 3, 2], [1], [], [2], [1], []]
        its = Wanted(type="DeactivateUser")
        assert [each.seq for each in searching.latest(connection, its, after=2, before=4, limit=9)] == [3]
        assert [
            each.seq for each in searching.latest(connection, its, after=0, before=9, limit=9, among=[1, 2, 4])
        ] == [4, 2]
        assert [each.seq for each in searching.first(connection, its, after=0, before=9, limit=2)] == [2, 3]
        assert searching.count(connection, its, after=2, before=9) == 2
        [created] = searching.latest(connection, Wanted(), after=0, before=2, limit=1)
        assert "a@b.example" not in created.data


def test_a_time_is_found_by_halves(stores: Stores) -> None:
    accept(stores, *(deactivate(n) for n in range(1, 8)))
    with stores.inbox.begin() as connection:
        for seq in range(1, 8):
            connection.execute(update(commands).where(commands.c.seq == seq).values(accepted_at=f"2026-01-0{seq}T"))
        found = [searching.seq_at(connection, f"2026-01-0{day}T") for day in range(1, 9)]
        assert found == list(range(1, 9))
        assert searching.seq_at(connection, "2025") == 1
        assert searching.accepted_at(connection, 7) == "2026-01-07T"
        assert searching.accepted_at(connection, 8) is None


def test_outcomes_are_found_by_their_status_the_latest_first(stores: Stores) -> None:
    with stores.events.begin() as connection:
        statuses: list[Status] = ["failed", "rejected", "succeeded", "rejected", "failed"]
        outcomes.record(connection, [Outcome(seq, each, "now", problem={}) for seq, each in enumerate(statuses, 1)])
        set_aside.add(connection, [SetAside(seq, "user-1", 0, None) for seq in (6, 7, 8)])
        assert outcomes.with_status(connection, "rejected", after=0, before=9) == [4, 2]
        assert outcomes.with_status(connection, "rejected", after=2, before=9) == [4]
        assert [seq for seq, _ in outcomes.problems(connection, limit=9)] == [5, 1]
        assert [seq for seq, _ in outcomes.problems(connection, before=5, limit=1)] == [1]
        assert [each.seq for each in set_aside.before(connection, 8, limit=1)] == [7]

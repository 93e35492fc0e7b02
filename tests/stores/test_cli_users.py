"""`cqrs users show`: a user as the log has it, now or as it was."""

import pytest

from tests.support.command_line import cqrs, told
from tests.support.stores import JOHN, Stores, accept, create, update

pytestmark = pytest.mark.both_engines


@pytest.fixture
def used(stores: Stores) -> Stores:
    """A user who moved once."""
    accept(stores, create(), update(1, "new@example.com"))
    stores.handler.handle()
    return stores


def test_a_user_is_shown_now_and_at_a_version(used: Stores) -> None:
    john = {"user_id": 1, **JOHN}
    assert told(used.settings, "users", "show", "1") == {**john, "email": "new@example.com", "version": 2}
    assert told(used.settings, "users", "show", "1", "--version", "1") == {**john, "version": 1}
    assert "new@example.com" in cqrs(used.settings, "users", "show", "1")


def test_a_user_is_shown_as_it_was_at_a_time(used: Stores) -> None:
    moved = told(used.settings, "events", "show", "2")["recorded_at"]
    assert told(used.settings, "users", "show", "1", "--at", moved)["version"] == 2
    assert "there was no user-1 yet" in cqrs(
        used.settings, "users", "show", "1", "--at", "2020-01-01T00:00:00Z", code=1
    )


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["2"], "there is no user-2"),
        (["1", "--version", "3"], "user-1 is at version 2"),
        (["1", "--at", "yesterday"], "yesterday is no time"),
        (["1", "--version", "1", "--at", "2026-01-01T00:00:00Z"], "not both"),
    ],
)
def test_what_there_is_not_is_named(used: Stores, asked: list[str], named: str) -> None:
    assert named in cqrs(used.settings, "users", "show", *asked, code=1)

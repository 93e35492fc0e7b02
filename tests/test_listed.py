"""What is listed by its name: a slip is told when a process starts, with the name."""

import pytest
from fastapi import APIRouter

from shared import aggregates
from shared.aggregates import AGGREGATES
from shared.decider import Decider
from shared.listed import listed
from shared.users import decider


def test_a_name_stands_for_what_it_names() -> None:
    assert listed("shared.users.decider:users", Decider) is decider.users


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shared.usres.decider:users", "No module named 'shared.usres'"),
        ("shared.users.decider:usres", "has no attribute 'usres'"),
        ("shared.users.decider users", "invalid format"),
        ("shared.users.decider:decide", "no Decider"),
        ("api.users:router", "no Decider"),
    ],
)
def test_a_slip_is_told_with_the_name(name: str, told: str) -> None:
    with pytest.raises((ImportError, TypeError), match=f"^{name} is listed.*{told}"):
        listed(name, Decider)


def test_a_router_is_one() -> None:
    assert listed("api.users:router", APIRouter).routes


def test_no_two_aggregates_have_an_event_of_one_name() -> None:
    with pytest.raises(ValueError, match="two aggregates have an event UserCreated"):
        aggregates._by_name([AGGREGATES["user"], AGGREGATES["user"]])

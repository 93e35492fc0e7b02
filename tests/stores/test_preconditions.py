"""`If-Match` and `If-None-Match`: what is a list of tags, and what it asks of a version."""

from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as some

from api.http.headers import asked_of, unmet
from api.http.problems import Problem
from shared.preconditions import Precondition
from shared.stores import outcomes
from shared.stores.inbox import NO_VERSION, Submission
from tests.support.pace import quickest
from tests.support.stores import Stores, accept, create, update

VERSIONS = some.frozensets(some.integers(0, 5))
PRECONDITIONS = some.builds(Precondition, VERSIONS, some.booleans())

OPAQUE = some.one_of(
    some.integers(1, 4).map(str), some.text("\x21\x23,*W/~\x80\xff0", max_size=4), some.just("18446744073709551616")
)
TAGS = some.lists(some.tuples(some.sampled_from(["", "W/"]), OPAQUE), max_size=4)
COMMAS = some.sampled_from([",", ", ", " , ", ",,", ", \t,"])


def asked(*headers: tuple[bytes, str]) -> Request:
    return Request({"type": "http", "headers": [(name, value.encode("latin-1")) for name, value in headers]})


def required(submission: Submission) -> Precondition:
    if submission.precondition:
        assert submission.expected_version == NO_VERSION
        return Precondition.stored(submission.precondition)
    if submission.expected_version is not None:
        return Precondition(frozenset({submission.expected_version}))
    return Precondition(frozenset(), True)


def required_by(*headers: tuple[bytes, str]) -> Precondition:
    precondition, command = asked_of(asked(*headers), new=False), update(1, "x@example.com")
    return required(command.required(precondition) if precondition else command)


def holds_or_status(header: tuple[bytes, str], version: int) -> bool | int:
    """Of the problem, if it is one."""
    try:
        return required_by(header).holds(version)
    except Problem as problem:
        return int(problem.document["status"])


@given(PRECONDITIONS, PRECONDITIONS, some.integers(0, 6))
def test_both_hold_if_each_does(one: Precondition, other: Precondition, version: int) -> None:
    assert one.and_(other).holds(version) == (one.holds(version) and other.holds(version))
    assert Precondition.stored(one.as_json()) == one


@given(TAGS, COMMAS, some.integers(1, 5))
def test_a_list_of_tags_matches_the_versions_that_it_names(
    tags: list[tuple[str, str]], comma: str, version: int
) -> None:
    text = comma.join(f'{weak}"{opaque}"' for weak, opaque in tags)
    strong = any(not weak and opaque == str(version) for weak, opaque in tags)
    known = any(opaque == str(version) for _, opaque in tags)
    assert (unmet(asked((b"if-none-match", text)), version) is not None) == known
    for name, holds in {b"if-match": strong, b"if-none-match": not known}.items():
        assert holds_or_status((name, text), version) in ({True} if holds else {False, 412})


@given(PRECONDITIONS, some.integers(0, 6))
def test_a_worker_that_looks_at_one_version_alone_carries_out_nothing_that_asks_for_others(
    precondition: Precondition, version: int
) -> None:
    expected = update(1, "x@example.com").required(precondition).expected_version
    assert (expected in {None, version}) == (precondition == Precondition(frozenset({version})))


@given(
    some.lists(some.sampled_from(['"', "W/", "1", ",", " ", "*", "x", "\\", '"1"', "\xff"]), max_size=12).map("".join)
)
def test_whatever_is_sent_is_a_condition_or_400_or_412(text: str) -> None:
    for name in (b"if-match", b"if-none-match"):
        assert holds_or_status((name, text), 1) in {True, False, 400, 412}


def test_lines_of_one_header_are_one_list() -> None:
    assert required_by((b"if-match", '"1"'), (b"if-match", '"2"')) == Precondition(frozenset({1, 2}))
    with pytest.raises(Problem, match="If-Match must be"):
        required_by((b"if-match", '"1"'), (b"if-match", "*"))


@pytest.mark.parametrize("piece", ['"', '"",', "W/", ",", " ", '"1"\t', 'W/"1",', "\t,"])
def test_64_kib_of_anything_are_read_in_no_time(piece: str) -> None:
    def refused() -> None:
        with pytest.raises(Problem):
            unmet(asked((b"if-match", piece * (65536 // len(piece)) + "x")), 1)

    assert quickest(refused) < 0.2


@pytest.mark.both_engines
def test_what_is_asked_of_a_version_is_looked_at_when_the_command_is_decided(stores: Stores) -> None:
    def if_at(precondition: Precondition, email: str) -> Submission:
        return update(1, email).required(precondition)

    one_or_two, not_two = Precondition(frozenset({1, 2})), Precondition(frozenset({2}), excluded=True)
    there, not_there = Precondition(frozenset({0}), excluded=True), Precondition(frozenset({0}))
    accept(stores, if_at(there, "0@example.com"), create("1@example.com"), if_at(not_there, "2@example.com"))
    accept(stores, if_at(one_or_two, "2@example.com"), if_at(not_two, "3@example.com"))
    accept(
        stores, if_at(one_or_two, "3@example.com"), if_at(one_or_two, "4@example.com"), if_at(not_two, "4@example.com")
    )
    accept(stores, if_at(there, "5@example.com"))
    stores.handler.handle()
    with stores.events.begin() as connection:
        ends: list[Any] = [
            outcome.version or (outcome.problem and outcome.problem["type"])
            for _, outcome in sorted(outcomes.find(connection, range(1, 10)).items())
        ]
    no = "version-conflict"
    assert ends == [no, 1, no, 2, no, 3, no, 4, 5]

"""What the console makes of commands: the causes of failures, and how a command is sent again."""

import shlex
from typing import Any

import pytest
from pydantic_core import to_json

from api.console.commands import causes, sending
from api.main import app
from shared.operations.commands import ShowPersonal
from shared.preconditions import EXISTS, Precondition
from shared.schemas.known import AGGREGATES
from shared.stores.inbox import NO_VERSION, Accepted


def cause(detail: str, type: str = "command-failed") -> causes.Cause:
    return causes.cause_of(to_json({"type": type, "status": 500, "detail": detail}).decode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Gave up after 3 tries.", "Gave up after 30 tries."),
        ("in decide, a.py:12", "in decide, a.py:1"),
        ("user-7 is at version 2", "user-12345 is at version 1"),
        ("no 'x' there", "no 'the other' there"),
        ('no "x"', 'no "y z"'),
        ("command 019aaf3e-5c10-7cc3-98c4-dc0c0c07398f", "command 01a22fb8-8530-714a-bcc0-4183bc5505af"),
        ("trace 714b6fe2f3502c8fadb4065f8140dd10", "trace 3b4b6fe2f3502c8fadb4065f8140ddff"),
        ("after 2.5 s", "after 10 s"),
    ],
)
def test_problems_that_differ_in_numbers_ids_and_quoted_texts_have_one_cause(one: str, other: str) -> None:
    assert cause(one) == cause(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KeyError: a bug", "ValueError: a bug"),
        ("can't be read: it isn't there", "can't be written: it isn't there"),  # apostrophes quote nothing
        ("in decide, a.py:1", "in decide, b.py:1"),
    ],
)
def test_problems_that_say_something_else_have_another_cause(one: str, other: str) -> None:
    assert cause(one).digest != cause(other).digest


def test_problems_of_another_type_have_another_cause() -> None:
    assert cause("a bug") != cause("a bug", type="email-taken")


def test_every_command_can_be_sent_again_but_what_the_console_alone_sends() -> None:
    commands = {name for rules in AGGREGATES.values() for name in rules.commands}
    assert commands - sending.routes(app).keys() == {ShowPersonal.__name__}


@pytest.mark.parametrize(
    ("expected", "precondition", "headers"),
    [
        (None, None, []),
        (3, None, ['If-Match: "3"']),
        (NO_VERSION, EXISTS.as_json(), ["If-Match: *"]),
        (NO_VERSION, Precondition(frozenset({0})).as_json(), ["If-None-Match: *"]),
        (NO_VERSION, Precondition(frozenset({1, 2})).as_json(), ['If-Match: "1", "2"']),
        (NO_VERSION, Precondition(frozenset({1}), excluded=True).as_json(), ['If-None-Match: "1"']),
    ],
)
def test_a_command_is_sent_again_on_the_same_condition(
    expected: int | None, precondition: str | None, headers: list[str]
) -> None:
    words = sent(expected_version=expected, precondition=precondition)
    assert [each for each in words if each.startswith("If-")] == headers


def test_what_a_person_typed_stays_one_word_of_the_shell() -> None:
    assert '{"email":"a\'$(x) `y`\\\\\\n@b.example"}' in sent({"email": "a'$(x) `y`\\\n@b.example"})


def test_only_a_closed_service_is_sent_a_key_which_the_line_doesn_t_have() -> None:
    assert "Authorization: Bearer $CQRS_API_KEY" in sent(closed=True)
    assert not [each for each in sent() if each.startswith("Authorization")]


def sent(data: Any = None, *, closed: bool = False, **its: Any) -> list[str]:
    command = Accepted(
        1, "id", "user-7", "UpdateUserEmail", "{}", its.get("expected_version"), "", "{}", its.get("precondition")
    )
    route = sending.routes(app)[command.type]
    line = sending.again(route, command, {"user_id": 7, **(data or {})}, [], url="http://here/", closed=closed)
    words = shlex.split(line)
    assert words[:4] == ["curl", "-X", "PUT", "http://here/users/7"]
    return words

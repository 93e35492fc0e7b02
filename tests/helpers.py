"""Canonical messages, and the shorthand that tests share."""

from typing import Any

from shared import inbox
from shared.inbox import Acceptance, Accepted, Submission
from tests.conftest import Stores

JOHN = {"first_name": "John", "last_name": "Doe", "email": "john.doe@example.com"}


def create(email: str = JOHN["email"], **more: Any) -> Submission:
    return Submission("CreateUser", "user", None, {**JOHN, "email": email}, **more)


def update(user_id: int, email: str, **more: Any) -> Submission:
    return Submission("UpdateUserEmail", "user", user_id, {"email": email}, **more)


def accept(stores: Stores, *submissions: Submission) -> list[Accepted]:
    """Put commands into the inbox, all in one batch."""
    with stores.inbox.begin() as connection:
        answers = inbox.accept(connection, submissions)
    return [answer.command for answer in answers if isinstance(answer, Acceptance)]

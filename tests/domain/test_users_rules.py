"""The rules of users, without I/O: given events, when a command comes, then these events, or a rejection."""

from functools import reduce

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from shared.decider import Rejected, UniqueKey
from shared.domain.users.decider import decide, evolve, unique_keys, users
from shared.domain.users.messages import (
    CreateUser,
    DeactivateUser,
    ReactivateUser,
    UpdateUserEmail,
    UserCommand,
    UserCreated,
    UserDeactivated,
    UserEmailUpdated,
    UserEvent,
    UserReactivated,
)

CREATE = CreateUser(user_id=1, first_name="John", last_name="Doe", email="john.doe@example.com")
CREATED = UserCreated(user_id=1, first_name="John", last_name="Doe", email="john.doe@example.com")
UPDATE = UpdateUserEmail(user_id=1, email="john.new@example.com")
UPDATED = UserEmailUpdated(user_id=1, new_email="john.new@example.com")
DEACTIVATE, DEACTIVATED = DeactivateUser(user_id=1), UserDeactivated(user_id=1)
REACTIVATE, REACTIVATED = ReactivateUser(user_id=1), UserReactivated(user_id=1)


class given:  # noqa: N801
    """`given(events).when(command).then(events)`, or `.rejected(type)`."""

    def __init__(self, *events: UserEvent) -> None:
        self.state = reduce(evolve, events, None)

    def when(self, command: UserCommand) -> "given":
        self.command = command
        return self

    def then(self, *events: UserEvent) -> None:
        assert list(decide(self.command, self.state)) == list(events)

    def rejected(self, type: str, status: int) -> None:
        with pytest.raises(Rejected) as caught:
            decide(self.command, self.state)
        assert (caught.value.type, caught.value.status) == (type, status)


def test_a_new_user_is_created() -> None:
    given().when(CREATE).then(CREATED)


def test_a_user_is_created_once() -> None:
    given(CREATED).when(CREATE).rejected("user-exists", 409)


def test_an_address_is_changed() -> None:
    given(CREATED).when(UPDATE).then(UPDATED)


def test_the_address_a_user_has_already_changes_nothing() -> None:
    given(CREATED, UPDATED).when(UPDATE).then()


def test_another_case_of_the_same_address_is_a_change() -> None:
    upper = UPDATE.model_copy(update={"email": "JOHN.DOE@example.com"})
    given(CREATED).when(upper).then(UserEmailUpdated(user_id=1, new_email="JOHN.DOE@example.com"))


def test_a_user_that_was_never_created_can_not_be_changed() -> None:
    given().when(UPDATE).rejected("user-not-found", 404)


def test_a_user_is_deactivated_and_reactivated() -> None:
    given(CREATED).when(DEACTIVATE).then(DEACTIVATED)
    given(CREATED, DEACTIVATED).when(REACTIVATE).then(REACTIVATED)
    given(CREATED, DEACTIVATED, REACTIVATED).when(DEACTIVATE).then(DEACTIVATED)


def test_a_user_that_is_so_already_is_not_deactivated_or_reactivated_again() -> None:
    given(CREATED, DEACTIVATED).when(DEACTIVATE).then()
    given(CREATED).when(REACTIVATE).then()
    given(CREATED, DEACTIVATED, REACTIVATED).when(REACTIVATE).then()


@pytest.mark.parametrize("command", [DEACTIVATE, REACTIVATE])
def test_a_user_that_was_never_created_can_not_leave_or_come_back(command: UserCommand) -> None:
    given().when(command).rejected("user-not-found", 404)


@pytest.mark.parametrize("email", ["john.new@example.com", "john.doe@example.com"])
def test_a_deactivated_user_takes_no_changes_not_even_to_what_it_has(email: str) -> None:
    given(CREATED, DEACTIVATED).when(UPDATE.model_copy(update={"email": email})).rejected("user-deactivated", 409)


def test_a_deactivated_user_can_not_be_created_again() -> None:
    given(CREATED, DEACTIVATED).when(CREATE).rejected("user-exists", 409)


def test_a_reactivated_user_takes_changes_again() -> None:
    given(CREATED, UPDATED, DEACTIVATED, REACTIVATED).when(UPDATE).then()
    given(CREATED, DEACTIVATED, REACTIVATED).when(UPDATE).then(UPDATED)


@pytest.mark.parametrize("since", [[DEACTIVATED], [DEACTIVATED, REACTIVATED]])
def test_an_address_stays_taken_whether_its_user_is_active_or_not(since: list[UserEvent]) -> None:
    assert unique_keys(given(CREATED, UPDATED, *since).state) == unique_keys(given(CREATED, UPDATED).state)


@settings(deadline=None)
@forall(st.lists(st.emails(), min_size=1))
def test_an_update_done_twice_changes_nothing_the_second_time(emails: list[str]) -> None:
    user = evolve(None, CREATED)
    for email in emails:
        command = UpdateUserEmail(user_id=1, email=email)
        for event in decide(command, user):
            user = evolve(user, event)
        assert decide(command, user) == []


def test_a_user_holds_the_key_of_the_present_address_only() -> None:
    user = evolve(evolve(None, CREATED), UPDATED)
    assert unique_keys(user) == {UniqueKey("email", "john.new@example.com"): "john.new@example.com"}


def test_events_ignore_fields_they_do_not_know() -> None:
    newer = {**CREATED.model_dump(), "nickname": "Jo"}
    assert users.events["UserCreated"].model_validate(newer) == CREATED


def test_commands_refuse_fields_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="nickname"):
        users.commands["CreateUser"].model_validate({**CREATE.model_dump(), "nickname": "Jo"})

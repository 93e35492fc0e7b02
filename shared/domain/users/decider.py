"""The rules of users, as a decider."""

from dataclasses import dataclass
from typing import get_args

from shared.decider import Decider, Rejected, UniqueKey, UniqueKeys
from shared.domain.users import addresses
from shared.domain.users.messages import (
    CreateUser,
    UpdateUserEmail,
    UserCommand,
    UserCreated,
    UserEmailUpdated,
    UserEvent,
)


@dataclass(frozen=True)
class User:
    """The state of a user, as far as the rules need it."""

    email: str


def decide(command: UserCommand, user: User | None) -> list[UserEvent]:
    """The events that the command leads to, [] if it changes nothing. Raises Rejected."""
    match command:
        case CreateUser():
            if user:
                raise Rejected("user-exists", f"User {command.user_id} exists already.")
            return [UserCreated(**vars(command))]
        case UpdateUserEmail():
            if not user:
                raise Rejected("user-not-found", f"There is no user {command.user_id}.", status=404)
            if user.email == command.email:
                return []
            return [UserEmailUpdated(user_id=command.user_id, new_email=command.email)]


def evolve(user: User | None, event: UserEvent) -> User:
    """The user after the event."""
    match event:
        case UserCreated():
            return User(event.email)
        case UserEmailUpdated():
            return User(event.new_email)


def unique_keys(user: User | None) -> UniqueKeys:
    """The key of the user's address."""
    return {UniqueKey("email", addresses.key(user.email)): user.email} if user else {}


users = Decider[UserCommand, UserEvent, User](
    commands={command.__name__: command for command in get_args(UserCommand)},
    events={event.__name__: event for event in get_args(UserEvent)},
    decide=decide,
    evolve=evolve,
    unique_keys=unique_keys,
)

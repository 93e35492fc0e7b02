"""The rules of users, as a decider."""

from dataclasses import dataclass
from typing import get_args

from shared.decider import Decider, Rejected, UniqueKey, UniqueKeys
from shared.domain.users import addresses
from shared.domain.users.messages import (
    CreateUser,
    DeactivateUser,
    EraseUser,
    ReactivateUser,
    UpdateUserEmail,
    UserCommand,
    UserCreated,
    UserDeactivated,
    UserEmailUpdated,
    UserErased,
    UserEvent,
    UserReactivated,
)


@dataclass(frozen=True)
class User:
    """The state of a user, as far as the rules need it."""

    email: str | None
    active: bool = True
    erased: bool = False


def decide(command: UserCommand, user: User | None) -> list[UserEvent]:
    """The events that the command leads to, [] if it changes nothing. Raises Rejected."""
    if user and user.erased:
        raise Rejected("user-erased", f"User {command.user_id} was erased.", status=410)
    if isinstance(command, CreateUser):
        if user:
            raise Rejected("user-exists", f"User {command.user_id} exists already.")
        return [UserCreated(**vars(command))]
    if not user:
        raise Rejected("user-not-found", f"There is no user {command.user_id}.", status=404)
    return _change(command, user)


def _change(command: UpdateUserEmail | DeactivateUser | ReactivateUser | EraseUser, user: User) -> list[UserEvent]:
    match command:
        case UpdateUserEmail():
            if not user.active:
                raise Rejected("user-deactivated", f"User {command.user_id} is deactivated.")
            if user.email == command.email:
                return []
            return [UserEmailUpdated(user_id=command.user_id, new_email=command.email)]
        case DeactivateUser():
            return [UserDeactivated(user_id=command.user_id)] if user.active else []
        case ReactivateUser():
            return [] if user.active else [UserReactivated(user_id=command.user_id)]
        case EraseUser():
            return [UserErased(user_id=command.user_id)]


def evolve(user: User | None, event: UserEvent) -> User:
    """The user after the event."""
    if isinstance(event, UserCreated):
        return User(event.email)
    assert user, "a stream begins with its creation"
    match event:
        case UserEmailUpdated():
            return User(event.new_email, user.active)
        case UserDeactivated():
            return User(user.email, active=False)
        case UserReactivated():
            return User(user.email, active=True)
        case UserErased():
            return User(None, erased=True)


def unique_keys(user: User | None) -> UniqueKeys:
    """The key of the user's address."""
    return {UniqueKey("email", addresses.key(user.email)): user.email} if user and user.email is not None else {}


users = Decider[UserCommand, UserEvent, User](
    commands={command.__name__: command for command in get_args(UserCommand)},
    events={event.__name__: event for event in get_args(UserEvent)},
    decide=decide,
    evolve=evolve,
    unique_keys=unique_keys,
    erases=EraseUser,
)

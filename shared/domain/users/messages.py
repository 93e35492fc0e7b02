"""Commands and events of users, as they are stored. Commands only gain fields; events change by schema versions."""

from shared.messages import Command, Event
from shared.personal.marks import Personal


class CreateUser(Command):
    """Create a user."""

    user_id: int
    first_name: Personal[str]
    last_name: Personal[str]
    email: Personal[str]


class UpdateUserEmail(Command):
    """Give a user another e-mail address."""

    user_id: int
    email: Personal[str]


class DeactivateUser(Command):
    """Have a user take no more changes, until it is reactivated."""

    user_id: int


class ReactivateUser(Command):
    """Have a deactivated user take changes again."""

    user_id: int


class EraseUser(Command):
    """Forget a user: what is personal of it can be read nowhere from then on."""

    user_id: int


class UserCreated(Event, begins_stream=True):
    """A user was created: the first event of each user's stream."""

    user_id: int
    first_name: Personal[str]
    last_name: Personal[str]
    email: Personal[str]


class UserEmailUpdated(Event):
    """A user was given another e-mail address."""

    user_id: int
    new_email: Personal[str]


class UserDeactivated(Event):
    """A user takes no more changes. It keeps its number and its address."""

    user_id: int


class UserReactivated(Event):
    """A user that was deactivated takes changes again."""

    user_id: int


class UserErased(Event, erases_subject=True):
    """A user was forgotten. Its number is never given again; its address is free."""

    user_id: int


UserCommand = CreateUser | UpdateUserEmail | DeactivateUser | ReactivateUser | EraseUser
UserEvent = UserCreated | UserEmailUpdated | UserDeactivated | UserReactivated | UserErased

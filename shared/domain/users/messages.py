"""Commands and events of users, as they are stored. Commands only gain fields; events change by schema versions."""

from shared.messages import Command, Event


class CreateUser(Command):
    """Create a user."""

    user_id: int
    first_name: str
    last_name: str
    email: str


class UpdateUserEmail(Command):
    """Give a user another e-mail address."""

    user_id: int
    email: str


class DeactivateUser(Command):
    """Have a user take no more changes, until it is reactivated."""

    user_id: int


class ReactivateUser(Command):
    """Have a deactivated user take changes again."""

    user_id: int


class UserCreated(Event, begins_stream=True):
    """A user was created: the first event of each user's stream."""

    user_id: int
    first_name: str
    last_name: str
    email: str


class UserEmailUpdated(Event):
    """A user was given another e-mail address."""

    user_id: int
    new_email: str


class UserDeactivated(Event):
    """A user takes no more changes. It keeps its number and its address."""

    user_id: int


class UserReactivated(Event):
    """A user that was deactivated takes changes again."""

    user_id: int


UserCommand = CreateUser | UpdateUserEmail | DeactivateUser | ReactivateUser
UserEvent = UserCreated | UserEmailUpdated | UserDeactivated | UserReactivated

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


UserCommand = CreateUser | UpdateUserEmail
UserEvent = UserCreated | UserEmailUpdated

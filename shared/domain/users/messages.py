"""Commands and events of users, as they are stored: a command only ever gains fields, an event a schema version."""

from shared.messages import Command, Event


class CreateUser(Command):
    user_id: int
    first_name: str
    last_name: str
    email: str


class UpdateUserEmail(Command):
    user_id: int
    email: str


class UserCreated(Event, begins_stream=True):
    user_id: int
    first_name: str
    last_name: str
    email: str


class UserEmailUpdated(Event):
    user_id: int
    new_email: str


UserCommand = CreateUser | UpdateUserEmail
UserEvent = UserCreated | UserEmailUpdated

"""Commands and events of users. Their names and fields are the storage format: add to them, never change them."""

from shared.messages import Command, Event


class CreateUser(Command):
    user_id: int
    first_name: str
    last_name: str
    email: str


class UpdateUserEmail(Command):
    user_id: int
    email: str


class UserCreated(Event):
    user_id: int
    first_name: str
    last_name: str
    email: str


class UserEmailUpdated(Event):
    user_id: int
    new_email: str


UserCommand = CreateUser | UpdateUserEmail
UserEvent = UserCreated | UserEmailUpdated

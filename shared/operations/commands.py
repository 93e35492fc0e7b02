"""Commands of operators. All are commands to one stream; those that come over HTTP wait in the inbox like any other."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from shared.access.roles import Role
from shared.messages import Command


class Deed(Command):
    """Something that an operator wants done."""

    operations_id: Literal[1] = 1
    """The number of the stream, which the inbox adds to the data of any command."""


class RetryCommand(Deed):
    """Handle a command that failed again, as if it had been accepted now."""

    command_id: Annotated[str, StringConstraints(to_lower=True)]


class AddKey(Deed):
    """Let a new key in. `digest`: the SHA-256 of its text, which stands nowhere."""

    key_id: str
    name: str
    roles: list[Role]
    digest: str
    expires_at: str | None = None


class RotateKey(Deed):
    """Take another text of a key from now on, and the one before until `old_until`."""

    key_id: str
    name: str
    digest: str
    old_until: str


class RevokeKey(Deed):
    """Refuse a key for good."""

    key_id: str
    name: str


class PauseProjection(Deed):
    """Have a projection apply no more events."""

    projection: str


class ResumeProjection(Deed):
    """Have a paused projection go on."""

    projection: str


class RebuildProjection(Deed):
    """Have a projection's tables made anew from the log, beside the live ones, and swapped in."""

    projection: str


class ShowPersonal(Deed):
    """Show what is personal on a page of the console, `page` its path, of those whose streams these are."""

    page: str
    streams: list[str] | None = None
    """None in what an API sent before it named them."""

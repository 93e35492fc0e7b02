"""What operators' routes are made of: `operate` accepts a deed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import Request, Response

from api.http.documentation import AFTER_WAITING, COMMAND, Command, Responses, errors
from api.routes.submit import accept, accepted_as, result
from shared.operations.commands import Deed
from shared.operations.record import CATEGORY
from shared.stores.inbox import Submission


async def operate(
    request: Request,
    deed: type[Deed],
    given: dict[str, Any],
    *,
    made: Mapping[str, str] = MappingProxyType({}),
    idempotency_key: str | None,
    prefer: str | None,
    key: str | None = None,
) -> Response:
    """Accept a deed and answer 202 with the command or, asked to wait, with its outcome, too.

    `given` has the fields that the request gives, `made` those that it doesn't; `key`: the text of a key to show, once.
    Raises Problem, or a store's error.
    """
    submission = Submission(deed.__name__, CATEGORY, 1, given, metadata=request.scope["metadata"], made=made)
    accepted, headers = await accept(request, submission, idempotency_key)
    outcome = await result(request, None, accepted, prefer, headers) if prefer else None
    shown = {"key": key} if key and not accepted.replayed else {}
    return accepted_as(accepted.command, outcome, headers, **shown)


def operates(problems: dict[int, str], shown: type[Command] = Command) -> Responses:
    """The answers of a deed's route, which shows the command as `shown`; `problems` are its own ones."""
    return {**COMMAND, 202: COMMAND[202] | {"model": shown}, **errors(problems, *AFTER_WAITING)}

"""One's own sessions of the console."""

import re

from fastapi import Request, Response

from api.console.pages import Pages, back, form_of, guard_of, page, principal_of, service_of
from api.http.problems import Problem
from shared.stores import sessions

DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)

PATH = "/console/sessions"

router = Pages(section="System")


@router.get(PATH, role="any", title="Your sessions")
async def show_sessions(request: Request) -> Response:
    """Where one is signed in; each can be ended, and all."""
    guard, service = guard_of(request), service_of(request)
    own = await service.sessions.of(principal_of(request).name) if guard.closed else []
    here = sessions.digest_of(request.cookies.get(guard.cookie, ""))
    return page(request, "system_sessions.html", sessions=own, this=here, closed=guard.closed)


@router.post(f"{PATH}/end", role="any", title="Your sessions")
async def end_session(request: Request) -> Response:
    """End one of one's own sessions."""
    return await end(request, principal_of(request).name, PATH)


async def end(request: Request, principal: str, path: str) -> Response:
    """End the principal's session that the form names, and lead back to a page. Raises Problem, or a store's error."""
    digest = form_of(request).get("session", "")
    if not DIGEST.fullmatch(digest):
        raise Problem("malformed-form", 400, "This is no form that the console has.")
    await service_of(request).sessions.end(principal, digest)
    return back(path)

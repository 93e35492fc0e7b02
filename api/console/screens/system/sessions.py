"""One's own sessions of the console."""

from fastapi import Request, Response

from api.console.pages import Pages, guard_of, page, principal_of, service_of
from shared.stores import sessions

router = Pages(section="System")


@router.get("/console/sessions", role="any", title="Your sessions")
async def show_sessions(request: Request) -> Response:
    """Where one is signed in; all of it can be ended."""
    guard, service = guard_of(request), service_of(request)
    own = await service.sessions.of(principal_of(request)) if guard.closed else []
    here = sessions.digest_of(request.cookies.get(guard.cookie, ""))
    return page(request, "system_sessions.html", sessions=own, this=here, closed=guard.closed)

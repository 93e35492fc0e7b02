"""The first page: whether everything is well, and what to do if not."""

from fastapi import Request, Response

from api.console.live import Parts, live
from api.console.pages import Pages, fragment, page, service_of

router = Pages()


@router.get("/console", role="any", title="Overview", menu=True)
async def show_overview(request: Request) -> Response:
    """Whether everything is well, in a word."""
    service = service_of(request)
    return page(request, "overview.html", condition=await service.conditions.now())


@router.get("/console/live", role="any", title="Overview")
async def follow_overview(request: Request) -> Response:
    """The same, renewed each second."""
    service = service_of(request)

    async def look() -> Parts:
        return {"state": fragment(request, "overview_state.html", condition=await service.conditions.now())}

    return live(request, look)

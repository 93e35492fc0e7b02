"""The types of events that this version knows, with their shapes."""

from fastapi import Request, Response

from api.console.log.shown import KNOWN
from api.console.pages import Pages, page

router = Pages(section="System")


@router.get("/console/system/events", role="operator", title="Event types")
async def show_event_types(request: Request) -> Response:
    """The event types by name, with schema versions and upcasters."""
    return page(request, "system_events.html", types=dict(sorted(KNOWN.items())))

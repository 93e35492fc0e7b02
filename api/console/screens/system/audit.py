"""The audit trail: what operators did or began, who was erased, and who was shown what is personal."""

import sys
from typing import Annotated

from fastapi import Query, Request, Response

from api.console.pages import Pages, page, service_of
from api.http.paging import MAX_INTEGER
from shared.operations import record
from shared.stores import event_store

router = Pages(section="System")

LIMIT = 50
"""Entries on a page."""

Before = Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="Entries before this position of the log")]


@router.get("/console/system/audit", role="auditor", title="Audit trail")
async def show_audit(request: Request, before: Before = None) -> Response:
    """The audit trail, the newest first."""
    service = service_of(request)
    start = sys.maxsize if before is None else before
    async with service.turn(request, service.log):
        found = await service.log.read(event_store.read_latest, types=record.AUDITED, before=start, limit=LIMIT + 1)
    entries = found[::-1][:LIMIT]
    older = entries[-1].position if len(found) > LIMIT else None
    return page(request, "system_audit.html", entries=entries, before=before, older=older, own=record.STREAM)

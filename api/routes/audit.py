"""What operators did, and who was erased."""

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from api.http.documentation import errors, headers
from api.http.paging import After, Limit, page
from api.http.routing import Router
from shared.operations import record
from shared.stores import event_store

router = Router(tags=["audit"])


class Operation(BaseModel):
    """Something that an operator did or began, or an erasure."""

    id: int = Field(examples=[3], description="Its position in the log")
    type: str = Field(examples=record.AUDITED)
    at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    by: str | None = Field(examples=["cli:ann@host"], description="The principal who did it")
    data: dict[str, Any] = Field(
        examples=[{"key_id": "5f0c9a1e", "name": "billing", "roles": ["reader", "writer"], "expires_at": None}],
        description="What it was done to",
    )


@router.get(
    "/audit",
    role="auditor",
    response_model=list[Operation],
    responses={200: headers("Link"), **errors({503: "store-unavailable"})},
)
async def list_operations(request: Request, after: After = 0, limit: Limit = 100) -> Response:
    """What operators did or began, and erasures, in the order in which it happened; `after` is the `id` of one."""
    service = request.app.state.service
    async with service.turn(request, service.log):
        found = await service.log.read(event_store.read_all, after=after, types=record.AUDITED, limit=limit + 1)
        return await page(request, found, record.shown, limit=limit, key="id")

"""Parts of pages that are renewed while somebody looks, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from fastapi import Request, Response

from api.console.pages import guard_of, service_of
from api.http.streaming import message
from api.reading.store import persist

EVERY = 1.0
"""Seconds from one look to the next."""

LONGEST = 60.0
"""Seconds after which a stream ends. The browser comes back, and is asked again who it is."""

Parts = dict[str, str]
"""HTML by the id of the element whose content it is."""


def live(request: Request, look: Callable[[], Awaitable[Parts]], *, every: float = EVERY) -> Response:
    """An answer that sends those parts that changed since they were sent last. Raises Problem if too many are open."""
    service = service_of(request)
    return service.streams.answer(request, _changes(request, look, every))


async def _changes(request: Request, look: Callable[[], Awaitable[Parts]], every: float) -> AsyncIterator[bytes]:
    sent: Parts = {}
    ends = time.monotonic() + LONGEST
    number = 0
    while time.monotonic() < ends and await persist(partial(guard_of(request).is_signed_in, request)):
        parts = await persist(look)
        changed = {id: html for id, html in parts.items() if sent.get(id) != html}
        if changed:
            number += 1
            yield message(number, changed)
        sent = parts
        await asyncio.sleep(every)

"""What a search may mean: the pages that the text leads to, as far as the principal may see them."""

import re
from typing import NamedTuple

from fastapi import Request

from api.console.log import correlated
from api.console.log.correlated import Tree
from api.console.log.shown import address_of
from api.console.pages import ID, Page, principal_of, service_of
from api.http.access import may
from api.http.paging import MAX_INTEGER
from api.service import Service
from shared.operations import key_table
from shared.operations.record import CATEGORY
from shared.stores import event_store, inbox

NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
KEY = re.compile(r"(?:key:)?([0-9a-f]{8})", re.ASCII)
ADDRESS_OR_NAME = re.compile(r"[@\s]")


class Hit(NamedTuple):
    """A page that the search leads to."""

    kind: str
    name: str
    address: str


def pages_that_find(request: Request, text: str) -> list[Hit]:
    """The pages that say themselves that they may show it."""
    found = [(each.title, each.finds(text)) for each in finders(request) if each.finds]
    return [Hit(title, text, address) for title, address in found if address]


def finders(request: Request) -> list[Page]:
    """The pages that a search may lead to, of those that are open to the principal."""
    roles = principal_of(request).roles
    return [each for each in request.app.routes if isinstance(each, Page) and each.finds and each.is_open(roles)]


async def hits(request: Request, text: str) -> list[Hit]:
    """What the text names: a command, an event, streams, a key. Raises a store's error."""
    service = service_of(request)
    found = [*await _command(request, service, text)]
    if may(request, "auditor"):
        found += [*await _position(service, text), *await _streams(service, text)]
    return [*found, *await _key(request, service, text)]


async def correlated_with(request: Request, text: str, page: int) -> Tree | None:
    """What has the text as its correlation id; None for who may not see the log. Raises a store's error."""
    if not may(request, "auditor"):
        return None
    service = service_of(request)
    async with service.turn(request, service.log):
        return await correlated.back(service, text, page)


def may_correlate(text: str) -> bool:
    """Whether the text may be a correlation id: no address and no name, for which nobody looks through the log."""
    return not ADDRESS_OR_NAME.search(text)


async def _command(request: Request, service: Service, text: str) -> list[Hit]:
    """The command, as `GET /commands/{id}` shows it: auditors any, others their own."""
    if not ID.fullmatch(text.lower()):
        return []
    command = await service.inbox.read(inbox.find, text)
    if not command or not (may(request, "auditor") or command.principal == principal_of(request).name):
        return []
    return [Hit("Command", f"{command.type} {command.command_id}", f"/console/commands/{command.command_id}")]


async def _position(service: Service, text: str) -> list[Hit]:
    if not NUMBER.fullmatch(text) or int(text) > await service.log.read(event_store.last_position):
        return []
    [event] = await service.log.read(event_store.read_all, after=int(text) - 1, limit=1)
    return [Hit("Event", f"{text}, {event.type} of {event.stream}", f"/console/log/{text}")]


async def _streams(service: Service, text: str) -> list[Hit]:
    """The stream of this name, or those that have this number."""
    names = [text]
    if NUMBER.fullmatch(text) and int(text) <= MAX_INTEGER:
        categories = (await service.inbox.read(inbox.last_numbers)).keys() - {inbox.SEQ, CATEGORY}
        names = [f"{each}-{text}" for each in sorted(categories)]
    found = await service.log.read(event_store.heads, names) if names else None
    streams = [name for name in names if found and found.versions[name]]
    return [Hit("Stream", each, address_of(each)) for each in streams]


async def _key(request: Request, service: Service, text: str) -> list[Hit]:
    """A key by its id: the key itself for operators, and what its holder sent for auditors."""
    match = KEY.fullmatch(text.lower())
    if not match or not (may(request, "operator") or may(request, "auditor")):
        return []
    id = match[1]
    name = next((each.name for each in await service.log.read(key_table.all_keys) if each.id == id), None)
    if name is None:
        return []
    key = Hit("Key", f"{name} ({id})", f"/console/system/keys/{id}")
    sent = Hit("Commands", f"of the holder of the key {name} ({id})", f"/console/commands?principal=key:{id}")
    return [*([key] if may(request, "operator") else []), *([sent] if may(request, "auditor") else [])]

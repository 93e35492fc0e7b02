"""The stores: where they are, how large, at which revision; the log's end, and whether its hashes fit."""

import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import Request, Response
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.console.log.shown import KNOWN
from api.console.pages import Pages, page, service_of
from api.http.access import may
from api.reading.store import Store
from api.service import Service
from shared.database import engines
from shared.errors.reasons import reason_of
from shared.operations import backups, clear
from shared.operations.configuration import masked
from shared.operations.record import BackupRestored
from shared.schemas import chain, check
from shared.schemas.folding import Wrong
from shared.stores import event_store

router = Pages(section="System")

CHECKED = 1000
"""Events at the end of the log whose hashes are made anew, which takes milliseconds."""


PERSONAL = clear.fields(KNOWN.values())
"""The personal fields of events that projections read."""


class Found(NamedTuple):
    """A store's database: its engine, its revision and its size in bytes."""

    engine: str
    revision: str | None
    size: int


class Shown(NamedTuple):
    """A store: where it is, the revision that the code needs, the projections in it, and what was found, or why not."""

    name: str
    where: str
    needed: str
    projections: list[str]
    found: Found | None
    trouble: str = ""


class End(NamedTuple):
    """The log's end: the last position with its hash, how many events' hashes were looked at, and what is wrong."""

    position: int
    hash: bytes | None
    checked: int
    wrong: str = ""
    is_clear: bool = False
    """Whether what is personal in the log rests in the clear."""


@router.get("/console/system", role=("operator", "auditor"), title="System", menu=True)
async def show_stores(request: Request) -> Response:
    """The stores; for who is no operator, what else there is."""
    service = service_of(request)
    values: dict[str, Any] = {}
    if may(request, "operator"):
        values = {
            "stores": [await _shown(service, name, url) for name, url in check.stores(service.settings)],
            "end": await _end(service),
            "code": request.app.version,
            "python": platform.python_version(),
            "backups": backups.noted(service.settings),
            "restored": await _restored(service),
            "in_files": all(engines.is_local(url) for _, url in check.stores(service.settings)),
        }
    return page(request, "system.html", **values)


async def _shown(service: Service, name: str, url: str) -> Shown:
    where = masked(url.removeprefix("sqlite:///"))
    shown = Shown(
        name, where, check.REVISIONS[name], [each.name for each in check.projections(service.settings, name, url)], None
    )
    try:
        return shown._replace(found=await _readers(service)[url].read(_look, name, url))
    except DBAPIError as error:
        return shown._replace(trouble=reason_of(error))


def _readers(service: Service) -> Mapping[str, Store]:
    settings = service.settings
    models = {settings.read_model_of(name): store for name, store in service.read_models.items()}
    return models | {
        settings.inbox: service.inbox,
        settings.event_store: service.log,
        settings.subjects: service.people,
    }


def _look(connection: Connection, name: str, url: str) -> Found:
    dialect = connection.dialect
    number = ".".join(map(str, dialect.server_version_info or ()))
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[dialect.name]
    return Found(f"{kind} {number}", check.revision(connection, name), engines.size(connection, url))


async def _end(service: Service) -> End | None:
    try:
        return await service.log.read(_checked_end)
    except DBAPIError:
        return None


def _checked_end(log: Connection) -> End:
    position, hash = event_store.head(log)
    is_clear = clear.is_log(log, PERSONAL)
    try:
        checked = sum(map(len, chain.checked(log, past=max(0, position - CHECKED))))
    except Wrong as wrong:
        return End(position, hash, 0, str(wrong), is_clear)
    return End(position, hash, checked, is_clear=is_clear)


async def _restored(service: Service) -> dict[str, Any] | None:
    """When which backup was put in the place of the stores last; None if none was."""
    try:
        found = await service.log.read(event_store.read_latest, types=[BackupRestored.__name__], limit=1)
    except DBAPIError:
        return None
    return {"at": found[0].recorded_at, **found[0].data} if found else None

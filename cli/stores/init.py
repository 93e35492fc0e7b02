"""`cqrs init`: makes the stores, or brings them to the schema that this version needs."""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from sqlalchemy import text

from cli.errors import Refused
from cli.output import bar
from cli.stores import people
from cli.stores.master_key import keep_secret, make_master_key
from cli.stores.private import tighten
from shared.access.keys import key_of
from shared.access.principals import operator_here
from shared.database import engines, sqlite
from shared.domain.projections import PROJECTIONS
from shared.operations import key_table
from shared.operations.configuration import masked
from shared.personal.ciphers import Blind
from shared.projection import Projection
from shared.schemas import check as schema
from shared.schemas import migrations, projection_tables, rights
from shared.schemas.check import WrongSchema
from shared.schemas.event_shapes import Unreadable
from shared.schemas.known import EVENTS
from shared.settings import Settings
from shared.stores import checkpoints, event_store, inbox, outcomes, unique_keys
from shared.stores.subjects import Subjects
from workers.projecting.shadow import shadow_of


def init(settings: Settings) -> None:
    """Make stores that aren't there yet, and bring the others to what this version needs. Safe to run again.

    Erasures that an older log lacks are done again. Raises Refused. When the rest is done, raises WrongSchema,
    WrongTable or Unreadable for a store that doesn't fit.
    """
    prepare(settings)
    people.finish(settings)


def prepare(settings: Settings) -> None:
    """As `init`, but for erasures."""
    _check_places(settings)
    make_master_key(settings)
    _upgrade(settings)
    keep_secret(settings)
    for which in PROJECTIONS.values():
        _make_read_model(settings.read_model_of(which.name), which)
    for store, url in schema.stores(settings):
        if not engines.is_local(url):
            _give_rights(settings, store, url)
    _add_first_keys(settings)
    _check_they_belong_together(settings)
    for store, url in schema.stores(settings):
        if wrong := schema.look(settings, store, url, EVENTS):
            raise wrong
    tighten(settings)


def _check_places(settings: Settings) -> None:
    """Raises Refused if a store can't be where it is to be."""
    for _, url in schema.stores(settings):
        if engines.is_local(url):
            _make_writable(sqlite.path_of(url).parent)
        else:
            _check_it_takes_every_character(url)


def _upgrade(settings: Settings) -> None:
    """Bring each store to its newest revision; that of people's keys first, since the others' may need its secret."""
    migrations.upgrade(settings.subjects, "subjects", bar)
    blind = partial(_blind, settings)
    for store, url in schema.stores(settings):
        if migrations.upgrade(url, store, bar, blind):
            for which in schema.projections(settings, store, url):  # an older version's rebuild left keys by its rule
                shadow_of(url, which.name).remove()


def _blind(settings: Settings) -> Blind:
    """What hashes keys; the secret for it is made if there is none."""
    keep_secret(settings)
    with closing(Subjects.of(settings)) as people:
        return people.blind


def check(settings: Settings) -> list[str]:
    """Check the stores and change nothing; returns a line for each thing that is wrong."""
    wrong = [line for store, url in schema.stores(settings) for line in _wrong(settings, store, url)]
    if not wrong:
        try:
            _check_they_belong_together(settings)
        except Refused as error:
            wrong = [str(error)]
    return list(dict.fromkeys(wrong))


def _wrong(settings: Settings, store: str, url: str) -> Sequence[str]:
    if engines.is_local(url) and not sqlite.path_of(url).exists():
        return [str(WrongSchema(store, None, schema.REVISIONS[store]))]
    wrong = schema.look(settings, store, url, EVENTS)
    if isinstance(wrong, Unreadable):
        return wrong.lines
    return [str(wrong)] if wrong else []


def contested(settings: Settings) -> list[str]:
    """A line for each two streams that hold one unique key, which older rules allowed."""
    with engines.reading(settings.event_store) as connection:
        found = unique_keys.contested(connection)
    return [
        f"{one} and {other} hold the same {scope}: it is kept for {one}, which held it first, until one changes its own"
        for scope, one, other in found
    ]


def places(settings: Settings) -> list[str]:
    """The folders and databases that hold the data."""
    return list(dict.fromkeys(_place(url) for _, url in schema.stores(settings)))


def _place(url: str) -> str:
    if engines.is_local(url):
        return str(sqlite.path_of(url).parent)
    return str(masked(url))


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # each has its own: several may start at once
    except OSError as error:
        raise Refused(f"{folder} can't be written: {error.strerror}") from None


def _check_it_takes_every_character(url: str) -> None:
    with engines.reading(url) as connection:
        encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise Refused(f"{_place(url)} has the encoding {encoding}; it must be UTF8")


def _make_read_model(url: str, which: Projection) -> None:
    with engines.writing(url, lock=which.name) as connection:
        projection_tables.make(connection, which)
        if which.name not in checkpoints.positions(connection):
            checkpoints.move(connection, which.name, 0)
        for other in checkpoints.stops(connection).keys() - PROJECTIONS.keys():
            checkpoints.move_stop(connection, other, None)


def _give_rights(settings: Settings, store: str, url: str) -> None:
    filled = [table for which in schema.projections(settings, store, url) for table in which.tables]
    with engines.writing(url, lock="rights") as connection:
        rights.give(connection, rights.of_store(store, filled))


def _add_first_keys(settings: Settings) -> None:
    """Make the keys known that come with the installation. Raises Refused for one that is no key."""
    given = {"operator": settings.operator_key, "prometheus": settings.prometheus_key}
    for name, secret in given.items():
        if not secret:
            continue
        key = key_of(secret.get_secret_value())
        if not key:
            raise Refused(f"CQRS_{name.upper()}_KEY is no key, or one that is mistyped: its checksum is wrong")
        with engines.writing(settings.event_store, lock=event_store.LOCK) as connection:
            key_table.add_first(connection, key, name, ["operator"], by=operator_here())


def _check_they_belong_together(settings: Settings) -> None:
    """Raises Refused if a store is ahead of its source: outcomes have their command's seq, checkpoints a position.

    Stores downstream are read first, since all may be in use.
    """
    projected = max(_projected(settings.read_model_of(name), name) for name in PROJECTIONS)
    with engines.reading(settings.event_store) as connection:
        recorded, handled = event_store.last_position(connection), outcomes.settled_seq(connection)
    with engines.reading(settings.inbox) as connection:
        accepted = inbox.last_seq(connection)
    if handled > accepted:
        raise Refused(f"the inbox ends at command {accepted}, the event store at {handled}: they aren't a pair")
    if projected > recorded:
        raise Refused(f"the log ends at event {recorded}, the read model at {projected}: they aren't a pair")


def _projected(read_model: str, name: str) -> int:
    with engines.reading(read_model) as connection:
        return checkpoints.position_of(connection, name)

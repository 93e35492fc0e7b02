"""Unique keys and idempotency keys that older versions stored as they were: hashed, in the upgrade's transaction."""

from sqlalchemy import Column, Connection, MetaData, String, Table, bindparam, delete, insert, select, tuple_, update

from shared.database.statements import execute_rows, fetch, insert_rows
from shared.personal.ciphers import Blind
from shared.projection import Bar
from shared.stores.event_store import PAGE_SIZE
from shared.stores.inbox import commands
from shared.stores.unique_keys import contested_keys, unique_keys


def hash_unique_keys(connection: Connection, blind: Blind, bar: Bar) -> None:
    """Hash the value of each unique key."""
    for table in (unique_keys, contested_keys):
        keys = table.primary_key.columns.keys()
        clear = Table(
            f"clear_{table.name}",
            MetaData(),
            *(Column(each.name, each.type, primary_key=each.primary_key) for each in table.columns),
            prefixes=["TEMPORARY"],
        )
        clear.create(connection)
        connection.execute(insert(clear).from_select(clear.columns.keys(), select(table)))
        connection.execute(delete(table))
        columns = [clear.c[name] for name in keys]
        page = (
            select(clear)
            .where(tuple_(*columns) > tuple_(*(bindparam(name, type_=String) for name in keys)))
            .order_by(*columns)
            .limit(PAGE_SIZE)
        )
        after, done = dict.fromkeys(keys, ""), 0
        with bar(f"hashes of {table.name.replace('_', ' ')}") as show:
            while rows := fetch(connection, page, **after):
                insert_rows(connection, table, [(scope, blind(scope, value), *its) for scope, value, *its in rows])
                after = dict(zip(keys, rows[-1], strict=False))
                done += len(rows)
                show(done, done)
        clear.drop(connection)


def hash_idempotency_keys(connection: Connection, blind: Blind, bar: Bar) -> None:
    """Hash each idempotency key."""
    after = 0
    with bar("hashes of idempotency keys") as show:
        while rows := fetch(connection, _with_key, after=after):
            execute_rows(connection, _set_key, [(blind("idempotency", key), seq) for seq, key in rows])
            after = rows[-1][0]
            show(after, after)


_with_key = (
    select(commands.c.seq, commands.c.idempotency_key)
    .where(commands.c.seq > bindparam("after"), commands.c.idempotency_key.is_not(None))
    .order_by(commands.c.seq)
    .limit(PAGE_SIZE)
)
_set_key = update(commands).values(idempotency_key=bindparam("hashed")).where(commands.c.seq == bindparam("its_seq"))

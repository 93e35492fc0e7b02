"""Rights in PostgreSQL: what the roles' users may do with each table, where an operator has made such users."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from shared.operations import key_table, rebuilds
from shared.stores import (
    advances,
    checkpoints,
    deciding,
    event_store,
    inbox,
    outcomes,
    sessions,
    set_aside,
    subjects,
    unique_keys,
)

API, COMMANDS, PROJECTIONS = ROLES = ("api", "command_worker", "projection_worker")
"""The roles. A role's user is named after the owner of the tables and the role: `cqrs_api` if `cqrs` owns them."""

READ = "SELECT"
ADD = "SELECT, INSERT"
SET = "SELECT, INSERT, UPDATE"
QUEUE = "SELECT, INSERT, DELETE"
EMPTY = "SELECT, UPDATE (data, idempotency_key, fingerprint)"
KEYS = "SELECT, INSERT, UPDATE (digest, old_digest, old_until, revoked_at, change)"
ALL = "SELECT, INSERT, UPDATE, DELETE"
MAINTAIN = ", MAINTAIN"
"""The right to vacuum, from PostgreSQL 17 on: what is left of erased people's rows goes."""

WITH_MAINTAIN = 170_000

Rights = dict[str, dict[str, str]]
"""For each table or sequence, what each role may do with it."""

STORES: dict[str, Rights] = {
    "inbox": {
        inbox.commands.name: {API: ADD, COMMANDS: EMPTY},
        inbox.sequences.name: {API: SET, COMMANDS: READ},
        sessions.table.name: {API: QUEUE},
    },
    "event_store": {
        event_store.events.name: {API: READ, COMMANDS: f"{ADD}, UPDATE (hash)", PROJECTIONS: READ},
        outcomes.outcomes.name: {API: READ, COMMANDS: QUEUE},
        unique_keys.unique_keys.name: {COMMANDS: ALL},
        unique_keys.contested_keys.name: {COMMANDS: "SELECT, DELETE"},
        set_aside.table.name: {API: READ, COMMANDS: QUEUE},
        deciding.DECIDING.name: {COMMANDS: "SELECT, UPDATE"},
        key_table.table.name: {API: READ, COMMANDS: KEYS, PROJECTIONS: READ},
        event_store.secret_copies.name: {},
    },
    "subjects": {
        subjects.keys.name: {API: ADD, COMMANDS: f"{QUEUE}{MAINTAIN}", PROJECTIONS: READ},
        subjects.erasures.name: {API: READ, COMMANDS: ADD, PROJECTIONS: READ},
        subjects.secret_table.name: dict.fromkeys(ROLES, READ),
    },
    "read_model": {
        checkpoints.table.name: {API: READ, COMMANDS: READ, PROJECTIONS: SET},
        checkpoints.stops_table.name: {API: READ, PROJECTIONS: QUEUE},
        advances.table.name: {API: READ, PROJECTIONS: QUEUE},
        rebuilds.table.name: {API: READ, PROJECTIONS: SET},
    },
}
"""The rights by store. `of_store` adds those on the table of the revision, which all read, and projections' tables."""


def of_store(store: str, tables: Collection[Table]) -> Rights:
    """The rights on all tables of a store; `tables` are those of the projections in it."""
    return STORES[store] | {f"{store}_schema": dict.fromkeys(ROLES, READ)} | of_tables(tables)


def of_tables(tables: Collection[Table]) -> Rights:
    """The rights on tables of projections."""
    return {table.name: {API: READ, PROJECTIONS: f"{ALL}{MAINTAIN}"} for table in tables}


def give(connection: Connection, rights: Rights) -> None:
    """Give the rights on existing tables to existing users, and take any other right that they had on these tables."""
    users = _users(connection)
    if not users:
        return
    do, everybody = connection.exec_driver_sql, ", ".join(users.values())
    quote = connection.dialect.identifier_preparer.quote
    [schema] = _column(connection, "SELECT quote_ident(current_schema())")
    do(f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {everybody}")
    let_in(connection, schema)
    [version] = _column(connection, "SELECT current_setting('server_version_num')::int")
    there = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL"
    for table in _column(connection, there, list(rights)):
        do(f"REVOKE ALL ON {quote(table)} FROM {everybody}")
        for role, what in rights[table].items():
            if role in users:
                known = what if version >= WITH_MAINTAIN else what.replace(MAINTAIN, "")
                do(f"GRANT {known} ON {quote(table)} TO {users[role]}")


def let_in(connection: Connection, schema: str) -> None:
    """Let existing users use what is in a schema, as far as they have rights on it. Its name comes quoted."""
    if users := _users(connection):
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(users.values())}")


def copy(connection: Connection, old: str, new: str, columns: Collection[str]) -> None:
    """Copy everybody's rights on the old table, and on these columns, to the new one. Both names come quoted."""
    for grant in _column(connection, _GRANTS, new, old, old, list(columns)):
        connection.exec_driver_sql(grant)


def _users(connection: Connection) -> dict[str, str]:
    """The existing users by role, their names quoted."""
    query = "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = current_user || '_' || %s"
    return {role: name for role in ROLES for name in _column(connection, query, role)}


def _column(connection: Connection, query: str, *values: object) -> Sequence[Any]:
    column: Sequence[Any] = connection.exec_driver_sql(query, values).scalars().all()
    return column


_GRANTS = """
    SELECT format('GRANT %%s%%s ON %%s TO %%s%%s', privilege_type, '(' || quote_ident(name) || ')', %s::text,
                  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM (SELECT relacl AS acl, NULL AS name FROM pg_class WHERE oid = to_regclass(%s)
          UNION ALL
          SELECT attacl, attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = ANY(%s)) AS its
    CROSS JOIN aclexplode(acl)
"""

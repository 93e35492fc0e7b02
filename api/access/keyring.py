"""The keyring: an API process's copy of the table of keys, in memory, renewed by `look`."""

import math
import time

from sqlalchemy import Connection

from api.http.access import invalid_credentials
from api.http.problems import unavailable
from api.reading.store import Store
from shared.access.keys import key_of
from shared.access.principals import Principal
from shared.errors.reasons import reason_of
from shared.operations import key_table
from shared.operations.holders import Holders, holder_of, holders_of
from shared.operations.key_table import KnownKey
from shared.telemetry import logs

GRACE = 30.0
"""Seconds for which the copy is used while the table can't be read; after that, keys are refused with 503."""

UNKNOWN = "The key is not known, or is revoked, replaced or expired"

MISTYPED = "The key is mistyped: its checksum is wrong"

log = logs.logger()


class Keyring:
    """The keys that aren't revoked, by their ids. Call `look` every second or so: it reads the table if it changed."""

    def __init__(self, store: Store) -> None:
        """`store`: the event store."""
        self._store = store
        self._change = -1
        self._looked_at = -math.inf
        self._keys: Holders = {}
        self._trouble = ""

    @property
    def is_empty(self) -> bool:
        """Whether the table was read, and no key in it can be used now."""
        counting = any(each.until > time.time() for its in self._keys.values() for each in its)
        return self._change >= 0 and not counting

    async def look(self) -> None:
        """Read the table if it changed. If it can't be read, that is logged and the copy stays."""
        looked_at = time.monotonic()
        try:
            change, keys = await self._store.read(_read, self._change)
            if change != self._change:
                self._keys = holders_of(keys)
        except Exception as error:  # else nothing would be looked at any more, and a revoked key would stay
            self._tell(reason_of(error))
            return
        self._change, self._looked_at, self._trouble = change, looked_at, ""

    def principal(self, text: str) -> Principal:
        """The principal whose key this is. Raises Problem: 401 if nobody's, 503 if the copy is too old."""
        holder = holder_of(text, self._keys)
        self._check_age()
        if holder:
            return holder
        raise invalid_credentials(UNKNOWN if key_of(text) else MISTYPED)

    def holder(self, name: str, credential: str) -> Principal | None:
        """The principal of this name who came by the key with this digest. Raises Problem if the copy is too old."""
        self._check_age()
        known = self._keys.get(name.removeprefix("key:"), ())
        return next((each for each in known if each.credential == credential and each.until > time.time()), None)

    def counts(self, principal: Principal) -> bool:
        """Whether a principal that was let in by a key would still be: the key may have ended since."""
        id, now = principal.name.removeprefix("key:"), time.time()
        known = any(each.credential == principal.credential and each.until > now for each in self._keys.get(id, ()))
        return known and time.monotonic() < self._looked_at + GRACE

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("keys can't be looked up: those known are taken for a while", seconds=GRACE, error=trouble)
        self._trouble = trouble

    def _check_age(self) -> None:
        if time.monotonic() > self._looked_at + GRACE:
            raise unavailable(
                "credentials-unavailable", "Keys can't be looked up, since the event store doesn't answer."
            )


def _read(connection: Connection, known: int) -> tuple[int, list[KnownKey]]:
    change = key_table.changes(connection)
    return change, key_table.all_keys(connection) if change != known else []

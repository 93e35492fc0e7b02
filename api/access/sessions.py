"""Sessions of the console: a browser that signed in with a key sends a token in the place of the key."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Concatenate, ParamSpec

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.access.credentials import Credentials
from api.access.keyring import GRACE
from api.http.problems import Problem, unavailable
from api.reading.store import Store
from shared.access.principals import Principal
from shared.clock import moment, now, written
from shared.database import engines
from shared.settings import Settings
from shared.stores import inbox, sessions
from shared.stores.sessions import Session

LASTS = timedelta(hours=8)

REMEMBERED = 1000
"""Sessions that count for GRACE seconds more while the inbox can't be read."""

P = ParamSpec("P")


class Sessions:
    """The sessions in the inbox. One ends after LASTS, when it is ended, and with its key."""

    def __init__(self, store: Store, credentials: Credentials, settings: Settings) -> None:
        """`store`: the inbox."""
        self._store = store
        self._credentials = credentials
        self._writer = engines.writer(settings.inbox, lock=inbox.LOCK)
        self._seen: dict[str, tuple[float, Session]] = {}

    async def begin(self, key: str) -> str:
        """Sign in with a key; returns the token. Raises Problem, as for a request with this key, or a store's error."""
        principal = await self._credentials.principal(key)
        if not principal.credential:
            raise Problem("invalid-credentials", 401, "Only a key of this service signs in, not a token.")
        token = secrets.token_urlsafe(32)
        its = principal.name, principal.credential, now(), written(datetime.now(UTC) + LASTS)
        await self._write(sessions.begin, Session(sessions.digest_of(token), *its))
        return token

    async def end(self, principal: str, digest: str | None) -> None:
        """End a session of the principal with this name, or all of them."""
        await self._write(sessions.end, principal, digest)

    async def of(self, principal: str) -> list[Session]:
        """The sessions of the principal with this name, the latest first."""
        return await self._store.read(sessions.of_principal, principal)

    async def principal(self, token: str) -> Principal:
        """The principal whose session this is. Raises Problem: 401 if it is nobody's, 503 if it can't be checked."""
        session = await self._find(sessions.digest_of(token))
        holder = session and self._credentials.holder(session.principal, session.credential)
        if not session or not holder:
            raise Problem("signed-out", 401, "The session is over.")
        return holder._replace(until=min(holder.until, moment(session.ends_at).timestamp()))

    def close(self) -> None:
        """Close the connections."""
        self._writer.dispose()

    async def _find(self, digest: str) -> Session | None:
        """The session. While the inbox can't be read, one that was seen lately counts. Raises Problem."""
        try:
            session = await self._store.read(sessions.find, digest)
        except DBAPIError:
            seen_at, known = self._seen.get(digest, (0.0, None))
            if not known or time.monotonic() > seen_at + GRACE:
                detail = "Sessions can't be looked up, since the inbox doesn't answer."
                raise unavailable("credentials-unavailable", detail) from None
            return known
        self._seen.pop(digest, None)
        if session:
            self._seen[digest] = time.monotonic(), session
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
        return session

    async def _write(
        self, change: Callable[Concatenate[Connection, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        def write() -> None:
            with self._writer.begin() as connection:
                change(connection, *args, **kwargs)

        await asyncio.to_thread(write)

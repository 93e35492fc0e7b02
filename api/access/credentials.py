"""Credentials: keys of this service, and tokens of an identity provider."""

import asyncio
import time
from collections.abc import Callable

from api.access.claims import InvalidToken
from api.access.keyring import Keyring
from api.access.provider import KeysUnavailable
from api.access.tokens import Tokens
from api.http.access import invalid_credentials
from api.http.problems import unavailable
from api.reading.store import Store
from shared.access.principals import Principal
from shared.settings import Settings

LOOK_EVERY = 0.5
"""Seconds between two looks for keys that were added or revoked."""

PREFIX = "cqrs_"
"""The characters with which every key begins, and no token."""

NO_TOKENS = "This is no key of this service, and tokens are not taken"


class Credentials:
    """The check of keys and tokens. `run` keeps what is known of them up to date while the API runs."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._keyring = Keyring(store)
        self._tokens = Tokens(settings) if settings.oidc_issuer else None

    @property
    def lets_nobody_in(self) -> bool:
        """Whether nobody can come in: no key can be used, and no provider is set. False until the table is read."""
        return not self._tokens and self._keyring.is_empty

    async def look(self) -> None:
        """Read the table of keys, if it changed."""
        await self._keyring.look()

    async def run(self, changed: Callable[[Callable[[Principal], bool]], None]) -> None:
        """Look for changed keys about once a second, and call `changed` each time, with the check `counts`.

        The API then ends the streams of principals that no longer pass the check.
        """
        look = asyncio.create_task(self._keyring.look())
        while True:
            await asyncio.wait([look], timeout=LOOK_EVERY)  # while a server hangs, keys expire all the same
            changed(self.counts)
            if self._tokens:
                self._tokens.renew_keys()
            await asyncio.sleep(LOOK_EVERY)
            if look.done():
                look = asyncio.create_task(self._keyring.look())

    async def principal(self, token: str) -> Principal:
        """The principal whose key or token this is. Raises Problem: 401 if nobody's, 503 if it can't be checked."""
        if token.startswith(PREFIX):
            return self._keyring.principal(token)
        if not self._tokens:
            raise invalid_credentials(NO_TOKENS)
        return self._tokens.known(token) or await self._verified(self._tokens, token)

    def holder(self, name: str, credential: str) -> Principal | None:
        """The holder of a key, by name and digest; None if the key has ended. Raises Problem if it can't be checked."""
        return self._keyring.holder(name, credential)

    def counts(self, principal: Principal) -> bool:
        """Whether a principal that was let in earlier would be let in now, as for a stream that is still open."""
        if time.time() >= principal.until:
            return False
        return self._keyring.counts(principal) if principal.name.startswith("key:") else True

    async def _verified(self, tokens: Tokens, token: str) -> Principal:
        try:
            return await tokens.principal(token)
        except InvalidToken as error:
            raise invalid_credentials(str(error)) from None
        except KeysUnavailable as error:
            raise unavailable("credentials-unavailable", str(error)) from None

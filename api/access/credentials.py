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
"""With which keys begin."""

NO_TOKENS = "This is no key of this service, and tokens are not taken"


class Credentials:
    """Tells whose a key or a token is. `run` goes on for as long as the API does."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._keyring = Keyring(store)
        self._tokens = Tokens(settings) if settings.oidc_issuer else None

    @property
    def lets_nobody_in(self) -> bool:
        """Whether no key counts, and tokens are not taken. While the table can't be read, that is not known."""
        return not self._tokens and self._keyring.is_empty

    async def look(self) -> None:
        """See which keys count."""
        await self._keyring.look()

    async def run(self, changed: Callable[[Callable[[Principal], bool]], None]) -> None:
        """Look again and again; each time `changed` is called with what says whether a principal still counts."""
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
        """The principal who sends this. Raises Problem: 401 if it counts for nobody, 503 if that can't be told."""
        if token.startswith(PREFIX):
            return self._keyring.principal(token)
        if not self._tokens:
            raise invalid_credentials(NO_TOKENS)
        return self._tokens.known(token) or await self._verified(self._tokens, token)

    def counts(self, principal: Principal) -> bool:
        """Whether a principal that was let in may stay, as on a stream that is open."""
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

"""Credentials: keys of this service, and tokens of an identity provider."""

import asyncio
import time
from collections.abc import Callable

from api.access.keyring import Keyring
from api.http.access import invalid_credentials
from api.reading.store import Store
from shared.access.principals import Principal
from shared.settings import Settings

LOOK_EVERY = 0.5
"""Seconds between two looks for keys that were added or revoked."""

PREFIX = "cqrs_"
"""With which keys begin."""

NO_TOKENS = invalid_credentials("This is no key of this service, and tokens are not taken")


class Credentials:
    """Tells whose a key or a token is. `run` goes on for as long as the API does."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._keyring = Keyring(store)
        self._settings = settings

    @property
    def lets_nobody_in(self) -> bool:
        """Whether no key counts, and tokens are not taken."""
        return not self._settings.oidc_issuer and not self._keyring.has_keys

    async def look(self) -> None:
        """See which keys count."""
        await self._keyring.look()

    async def run(self, changed: Callable[[Callable[[Principal], bool]], None]) -> None:
        """Look again and again; at each look `changed` is called with what says whether a principal still counts."""
        while True:
            await self._keyring.look()
            changed(self.counts)
            await asyncio.sleep(LOOK_EVERY)

    async def principal(self, token: str) -> Principal:
        """The principal who sends this. Raises Problem: 401 if it counts for nobody, 503 if that can't be told."""
        if token.startswith(PREFIX):
            return self._keyring.principal(token)
        raise NO_TOKENS

    def counts(self, principal: Principal) -> bool:
        """Whether a principal that was let in may stay, as on a stream that is open."""
        if time.time() >= principal.until:
            return False
        return self._keyring.counts(principal) if principal.name.startswith("key:") else True

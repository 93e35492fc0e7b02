"""Tokens of an identity provider: verified, and remembered for a minute."""

import time
from hashlib import sha256

from api.access.claims import InvalidToken, principal_of
from api.access.provider import Provider
from shared.access.principals import Principal
from shared.errors import refusal
from shared.settings import Settings

REMEMBERED = 60.0
"""Seconds for which a verified token is taken without verifying it again."""

MAX_REMEMBERED = 10_000
"""How many verified tokens are remembered; beyond, those verified first are forgotten."""

MAX_TOKEN = 8192
"""Characters that a token may have."""


class Tokens:
    """The tokens of the provider that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Needs the extra `oidc`: ends the process with one line on stderr if it is not installed."""
        try:
            from api.access import signatures  # noqa: PLC0415 it takes the extra
        except ImportError:
            refusal.end("CQRS_OIDC_ISSUER is set, which needs more than is installed: pip install 'cqrs[oidc]'")
        self._named, self._claims_of = signatures.named, signatures.claims_of
        self._provider = Provider(settings.oidc_issuer, settings.oidc_jwks, signatures.keys_of)
        self._settings, self._roles = settings, settings.claimed_roles
        self._remembered: dict[bytes, tuple[Principal, float]] = {}

    def known(self, token: str) -> Principal | None:
        """The principal of a token that was verified within the last minute and has not expired since."""
        if not (found := self._remembered.get(_digest(token))):
            return None
        principal, until = found
        return principal if time.monotonic() < until and time.time() < principal.until else None

    async def principal(self, token: str) -> Principal:
        """The principal of a token, which is verified. Raises InvalidToken or KeysUnavailable."""
        if len(token) > MAX_TOKEN or not token.isascii():
            raise InvalidToken(f"The token is malformed, or has more than {MAX_TOKEN} characters.")
        key = await self._provider.key(self._named(token))
        if not key:
            raise InvalidToken("The token's key is not one of the identity provider's.")
        claims = self._claims_of(token, key, self._settings.oidc_issuer, self._settings.oidc_audience)
        principal = principal_of(claims, self._settings.oidc_roles_claim, self._roles)
        self._remember(token, principal)
        return principal

    def renew_keys(self) -> None:
        """Begin to fetch the provider's keys if they are old. Call it every second or so."""
        self._provider.renew()

    def _remember(self, token: str, principal: Principal) -> None:
        self._remembered[_digest(token)] = principal, time.monotonic() + REMEMBERED
        while len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]


def _digest(token: str) -> bytes:
    """What a token is remembered by: the token itself is not kept."""
    return sha256(token.encode()).digest()

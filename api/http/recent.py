"""Credentials that were let in a moment ago: of the many requests that carry the same ones, few have them checked."""

from hmac import compare_digest

from shared.access.principals import Principal

MOMENT = 0.2
"""Seconds for which credentials aren't checked again. With half a second between looks for revoked keys, it is well
below the second within which they must be refused."""

MAX_RECENT = 1024
"""Credentials that are remembered; the requests of others have them checked each time."""

INDEX = slice(-8, None)
"""The bytes by which credentials are found: of a key its checksum, which is no secret."""


class Recent:
    """What `Authorization` held in the current moment, and whose it was. Nothing outlasts the moment."""

    def __init__(self) -> None:
        self._principals: dict[bytes, tuple[bytes, Principal]] = {}
        self._ends_at = 0.0

    def find(self, authorization: bytes, now: float) -> Principal | None:
        """The principal that came with the very same bytes. `now` is in seconds, by a clock that is never set."""
        if now >= self._ends_at:
            self._principals, self._ends_at = {}, now + MOMENT
        known = self._principals.get(authorization[INDEX])
        return known[1] if known and compare_digest(known[0], authorization) else None

    def add(self, authorization: bytes, principal: Principal) -> None:
        """Remember whose these credentials are."""
        if len(self._principals) < MAX_RECENT:
            self._principals[authorization[INDEX]] = authorization, principal

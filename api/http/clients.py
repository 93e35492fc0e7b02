"""Clients, and how much each may have: at the same time (`Shares`), or in a second (`Rates`)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, ip_network

from fastapi import Request
from starlette.types import Scope

from shared.access.principals import LOCAL, NOBODY, Principal

IPV6_PREFIX = 64
"""Bits of the network that one customer is given, and may choose addresses in (RFC 6177, RFC 8981)."""

SECOND = 1_000_000_000
"""Nanoseconds, which add up without an error."""


def client_of(request: Request) -> str:
    """The client that a request counts for: the principal's name if it has a key or token, else its address."""
    principal: Principal | None = request.scope.get("principal")
    return principal.name if principal and is_known(principal) else address_of(request.scope)


def is_known(principal: Principal) -> bool:
    """Whether the principal came by a key or token."""
    return principal is not LOCAL and principal is not NOBODY


def address_of(scope: Scope) -> str:
    """A client's IPv4 address or IPv6 network; "" for all clients of a Unix socket together."""
    client = scope.get("client")
    host: str = client[0] if client else ""
    return network_of(host) if ":" in host else host


@lru_cache(4096)
def network_of(host: str) -> str:
    """The network of an IPv6 address, or the IPv4 address that it stands for."""
    try:
        address = IPv6Address(host)
    except ValueError:
        return host  # a trusted proxy may name its clients as it likes: RFC 7239, section 6
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, IPV6_PREFIX), strict=False))


class Shares:
    """Counts what clients hold of something limited, such as streams: `total` at most, and `per_client` each."""

    def __init__(self, total: int, per_client: int) -> None:
        self.total, self.per_client = total, per_client
        self._held: Counter[str] = Counter()
        self._taken = 0

    @property
    def gone(self) -> bool:
        """Whether nothing is left for anybody."""
        return self._taken >= self.total

    def used_up(self, client: str) -> bool:
        """Whether this client has all it may have."""
        return self._held[client] >= self.per_client

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """A context in which the client holds one. Check `gone` and `used_up` before."""
        self._taken += 1
        self._held[client] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


class Rates:
    """Token buckets: each client may send `per_second` requests a second, or all at once after a second of quiet.

    A token here stands for a request that may be sent; it is not a token of an identity provider.

    A bucket is one number, the time at which it will be full again; one that is full needs no memory. A second after
    its last token every bucket is full, so only the buckets of the last one to two seconds are kept. Not for threads.
    """

    def __init__(self, name: str, per_second: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`name` is the limit's name in headers, `per_second` 1 or more; `clock` gives nanoseconds."""
        self.per_second = per_second
        self._policy = b"ratelimit-policy", b'"%b";q=%d;w=1' % (name.encode(), per_second)
        self._remaining = b'"%b";r=%%d;t=1' % name.encode()
        self._clock = clock
        self._token = SECOND // per_second
        self._full_at: dict[str, int] = {}
        self._full_at_before: dict[str, int] = {}
        self._next_turn = 0

    def take(self, client: str) -> int:
        """Take a token from the client's bucket. Returns how many are left in it; -1 if there was none."""
        now = self._clock()
        if now >= self._next_turn:
            self._full_at_before, self._full_at = self._full_at, {}  # what goes away is full by now
            self._next_turn = now + SECOND
        full_at = max(now, self._full_at.get(client) or self._full_at_before.get(client, 0)) + self._token
        left = (now + SECOND - full_at) // self._token
        if left >= 0:
            self._full_at[client] = full_at
        return left

    def is_low(self, left: int) -> bool:
        """Whether a client had better slow down: it has used more than half of its tokens."""
        return 2 * left < self.per_second

    def fields(self, left: int) -> list[tuple[bytes, bytes]]:
        """The headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11).

        Their `t`, like `Retry-After`, is always 1: every bucket has another token within a second.
        """
        return [self._policy, (b"ratelimit", self._remaining % max(left, 0))]

    def __len__(self) -> int:
        """How many buckets are in memory."""
        return len(self._full_at) + len(self._full_at_before)

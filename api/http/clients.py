"""Clients by their addresses, and how much of something scarce each one has."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, ip_network

from fastapi import Request

from api.http.access import NOBODY
from shared.access.principals import LOCAL, Principal

IPV6_PREFIX = 64
"""Bits of the network that one customer is given, and may choose addresses in (RFC 6177, RFC 8981)."""


def client_of(request: Request) -> str:
    """A client's key or token by its principal; without one its address, or its network for IPv6.

    All clients of a Unix socket are one.
    """
    principal: Principal | None = request.scope.get("principal")
    if principal and principal not in {LOCAL, NOBODY}:
        return principal.name
    client = request.scope.get("client")
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
    """Counts what clients have of something, of which there is so much in total and for each."""

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
        """One for the client, for as long as it takes."""
        self._taken += 1
        self._held[client] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]

"""The identity provider's public keys: fetched when one is missing or all are old, at most once in 30 s."""

import asyncio
import time
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import Any, Generic, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from pydantic import BaseModel, ValidationError

from shared.errors.reasons import reason_of
from shared.plain import Plain
from shared.settings import is_loopback, is_secure
from shared.telemetry import logs

DISCOVERY = "/.well-known/openid-configuration"
"""Where a provider describes itself: OpenID Connect Discovery, section 4."""

FETCH_EVERY = 30.0
"""The least seconds between two fetches, also after one that failed."""

KEYS_AGE = 600.0
"""Seconds after which keys are fetched again though nothing is missing: the provider may have withdrawn one."""

TIMEOUT = 5.0
"""Seconds in which a document must have come, and for which a request waits for a key that is being fetched."""

MAX_DOCUMENT = 256 * 1024
"""Bytes that a document of the provider may have."""

PIECE = 16 * 1024

K = TypeVar("K")
V = TypeVar("V")

log = logs.logger()


class KeysUnavailable(Plain):
    """The provider's keys can't be fetched, and none are known from before."""


class Unfit(Plain):
    """A document of the provider that can't be used. The message says why."""


class Discovery(BaseModel):
    """What is read of a provider's description of itself."""

    issuer: str
    jwks_uri: str


class Provider(Generic[K, V]):
    """A provider's keys by their names. Requests that miss a key wait for one common fetch, which runs in a thread."""

    def __init__(self, issuer: str, jwks: str, keys_of: Callable[[bytes], Mapping[K, V]]) -> None:
        """`jwks`: URL or file of the keys; "" if the issuer tells. `keys_of` parses it; raises ValueError."""
        self._issuer, self._jwks, self._keys_of = issuer, jwks, keys_of
        self._keys: Mapping[K, V] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, name: K) -> V | None:
        """The key of this name, if the provider has it. Raises KeysUnavailable."""
        if name not in self._keys and (fetching := self._fetch()):
            await asyncio.wait([fetching], timeout=TIMEOUT)
        if not self._keys:
            raise KeysUnavailable("The keys of the identity provider can't be fetched.")
        return self._keys.get(name)

    def renew(self) -> None:
        """Begin to fetch the keys if there are none, or they are older than KEYS_AGE. Doesn't wait for them."""
        if time.monotonic() > self._fetched + KEYS_AGE:
            self._fetch()

    def _fetch(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None if the last one is too recent."""
        if not self._fetching and time.monotonic() >= self._tried + FETCH_EVERY:
            self._tried = time.monotonic()
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._read)
            self._fetched = time.monotonic()
        except Exception as error:
            log.warning("the identity provider's keys can't be fetched", reason=reason_of(error))
        finally:
            self._fetching = None

    def _read(self) -> Mapping[K, V]:
        where = self._jwks or self._discovered()
        document = fetched(where) if "://" in where else Path(where).read_bytes()
        try:
            keys = self._keys_of(document)
        except ValueError:
            raise Unfit("the keys are no JSON Web Key Set") from None
        if not keys:
            raise Unfit("none of the keys can verify ES256, EdDSA or RS256")
        return keys

    def _discovered(self) -> str:
        """The URL of the keys, by discovery. Raises Unfit."""
        try:
            found = Discovery.model_validate_json(fetched(self._issuer.removesuffix("/") + DISCOVERY))
        except ValidationError:
            raise Unfit("the discovery document is none") from None
        if found.issuer != self._issuer:
            raise Unfit("the discovery document is of another issuer")
        return found.jwks_uri


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: a redirect could lead the API to ask any address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetched(url: str) -> bytes:
    """The document at a URL, which must be https unless its host is this machine. Raises Unfit or OSError."""
    if not is_secure(url):
        raise Unfit("a URL of the identity provider is neither https nor of this machine")
    proxies = ProxyHandler({} if is_loopback(urlsplit(url).hostname or "") else None)
    asked = Request(url, headers={"Accept": "application/json", "User-Agent": "cqrs"})  # noqa: S310 the scheme is checked
    try:
        with build_opener(_Stay, proxies).open(asked, timeout=TIMEOUT) as answer:
            return _read_whole(answer)
    except HTTPError as error:
        error.close()
        raise Unfit(f"the identity provider answered {error.code}") from None
    except URLError as error:  # around an error that says more
        if isinstance(error.reason, SSLError):
            raise Unfit(f"no TLS with the identity provider: {error.reason.reason}") from None
        raise error.reason if isinstance(error.reason, OSError) else error from None


def _read_whole(answer: HTTPResponse) -> bytes:
    deadline = time.monotonic() + TIMEOUT
    document = bytearray()
    while piece := answer.read1(PIECE):
        document += piece
        if len(document) > MAX_DOCUMENT:
            raise Unfit(f"a document of the identity provider has more than {MAX_DOCUMENT} bytes")
        if time.monotonic() > deadline:
            raise Unfit(f"a document of the identity provider took more than {TIMEOUT:g} s")
    return bytes(document)

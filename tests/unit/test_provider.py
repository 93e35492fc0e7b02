"""The keys of an identity provider: fetched when one is missing, seldom enough, and without trust in what comes."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from api.access import provider as module
from api.access.claims import InvalidToken
from api.access.provider import MAX_DOCUMENT, KeysUnavailable, Unfit
from api.access.tokens import Tokens
from tests.support.provider import (
    Answer,
    IdentityProvider,
    answered,
    certificate_of,
    dripping,
    dripping_head,
    jwk,
    private,
    running_provider,
    silent,
)

DESCRIBED = "/.well-known/openid-configuration"

NEW = private("ES256", "new")

WHOLE = json.dumps({"keys": [jwk(private("ES256"), "es")]}).encode()


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetches give up soon: only for a test in which none needs to succeed, since a busy machine is slow, too."""
    monkeypatch.setattr(module, "TIMEOUT", 0.5)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets this time pass for fetches."""
    before = time.monotonic

    class Later:
        monotonic = staticmethod(lambda: before() + seconds)

    monkeypatch.setattr(module, "time", Later)


async def fetched(tokens: Tokens) -> None:
    """Wait for the fetch that is under way."""
    if fetching := tokens._provider._fetching:
        await fetching


async def refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(InvalidToken, match="not one of the identity provider's"):
        await tokens.principal(token)


def test_keys_are_fetched_once_whoever_asks(provider: IdentityProvider) -> None:
    async def story() -> None:
        tokens = Tokens(provider.settings())
        assert not provider.asked
        await asyncio.gather(*(tokens.principal(provider.token(sub=f"u-{number}")) for number in range(50)))
        assert provider.asked == {DESCRIBED: 1, "/keys": 1}
        await asyncio.gather(*(refused(tokens, provider.token(kid=f"k-{number}")) for number in range(50)))
        assert provider.fetches == 1

    asyncio.run(story())


def test_a_new_key_is_fetched_and_unknown_ones_at_most_every_half_minute(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        tokens = Tokens(provider.settings())
        await tokens.principal(provider.token())
        provider.keys = [jwk(NEW, "new")]
        rotated = provider.token(NEW, "new")
        later(monkeypatch, 29)
        await refused(tokens, rotated)
        later(monkeypatch, 31)
        unknown = (refused(tokens, provider.token(kid=f"k-{number}")) for number in range(50))
        await asyncio.gather(tokens.principal(rotated), *unknown)
        assert provider.fetches == 2
        await refused(tokens, provider.token())  # the key of before
        assert provider.fetches == 2

    asyncio.run(story())


def test_a_key_that_the_provider_withdrew_is_forgotten_though_no_key_is_missing(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        tokens = Tokens(provider.settings())
        tokens.renew_keys()
        await fetched(tokens)
        provider.keys = [jwk(NEW, "new")]
        for seconds, token, fetches in ((590, provider.token(), 1), (601, provider.token(NEW, "new"), 2)):
            later(monkeypatch, seconds)
            tokens.renew_keys()
            await fetched(tokens)
            await tokens.principal(token)
            assert provider.fetches == fetches
        await refused(tokens, provider.token(sub="u-3"))

    asyncio.run(story())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/keys", answered(200, b"no JSON")),
        ("/keys", answered(200, b"[" * 100_000)),
        ("/keys", answered(200, b"{}")),
        ("/keys", answered(200, b'{"keys": "many"}')),
        ("/keys", answered(200, b'{"keys": []}')),
        ("/keys", answered(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}')),
        ("/keys", answered(200, b"\xff\xfe")),
        ("/keys", answered(200, WHOLE + b" " * MAX_DOCUMENT)),
        ("/keys", answered(204)),
        ("/keys", answered(404)),
        ("/keys", answered(503)),
        ("/keys", dripping),
        ("/keys", dripping_head),
        ("/keys", silent),
        *(("/keys", answered(status, Location="/elsewhere")) for status in (301, 302, 303, 307, 308)),
        (DESCRIBED, answered(302, Location="/elsewhere")),
        (DESCRIBED, answered(200, b"<html>")),
        (DESCRIBED, answered(200, b'{"issuer": 7}')),
        (DESCRIBED, silent),
    ],
)
def test_keys_that_do_not_come_as_they_should_are_none(provider: IdentityProvider, path: str, answer: Answer) -> None:
    provider.answers = {path: answer, "/elsewhere": answered(200, json.dumps({"keys": provider.keys}).encode())}

    async def story() -> None:
        tokens = Tokens(provider.settings())
        start = time.monotonic()
        for _ in range(3):
            with pytest.raises(KeysUnavailable, match=r"^The keys of the identity provider can't be fetched\.$"):
                await tokens.principal(provider.token())
        assert time.monotonic() - start < 2.5
        assert provider.asked[path] == 1
        assert not provider.asked["/elsewhere"]

    asyncio.run(story())


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": "http://192.0.2.1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "/etc/passwd"},
        {"jwks_uri": "http://127.0.0.1@192.0.2.1/keys"},
        {"jwks_uri": "http://[::1"},
    ],
)
def test_a_discovery_document_that_leads_elsewhere_is_not_followed(
    provider: IdentityProvider, document: dict[str, str | None]
) -> None:
    provider.document |= document
    with pytest.raises(KeysUnavailable):
        asyncio.run(Tokens(provider.settings()).principal(provider.token()))
    assert provider.asked == {DESCRIBED: 1}


def test_what_anybody_between_could_change_is_not_fetched(provider: IdentityProvider, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": provider.keys}))
    for url in (file.as_uri(), "http://192.0.2.1/keys", "data:application/json,{}", "ftp://127.0.0.1/keys", str(file)):
        with pytest.raises(Unfit, match="neither https nor of this machine"):
            module.fetched(url)


def test_known_keys_serve_while_the_provider_is_in_trouble(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        tokens = Tokens(provider.settings())
        await tokens.principal(provider.token())
        for hours, trouble in enumerate((answered(500), silent, dripping, answered(200, b'{"keys": []}')), 1):
            provider.answers = {"/keys": trouble}
            monkeypatch.setattr(module, "TIMEOUT", 0.2)
            later(monkeypatch, hours * 3600)
            tokens.renew_keys()
            await tokens.principal(provider.token(sub=f"u-{hours}"))
            await refused(tokens, provider.token(kid="unknown"))
            await fetched(tokens)
        provider.answers = {}
        monkeypatch.setattr(module, "TIMEOUT", 30.0)
        later(monkeypatch, 36000)
        provider.keys.append(jwk(NEW, "new"))
        await tokens.principal(provider.token(NEW, "new"))

    asyncio.run(story())


def test_only_one_fetch_is_under_way_however_long_it_takes(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answers = {"/keys": silent}

    async def story() -> None:
        tokens = Tokens(provider.settings())
        first = asyncio.create_task(tokens.principal(provider.token()))
        await asyncio.sleep(0.2)
        later(monkeypatch, 31)
        await asyncio.gather(first, tokens.principal(provider.token()), return_exceptions=True)
        assert provider.fetches == 1

    asyncio.run(story())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_slow_provider_holds_up_nobody_else(provider: IdentityProvider, answer: Answer) -> None:
    provider.answers = {"/keys": answer}

    async def story() -> None:
        tokens = Tokens(provider.settings())
        asked = asyncio.gather(*(tokens.principal(provider.token()) for _ in range(20)), return_exceptions=True)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not asked.done()
        assert {type(each) for each in await asked} == {KeysUnavailable}
        assert provider.fetches == 1

    asyncio.run(story())


def test_keys_may_be_in_a_file(provider: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        file = tmp_path / "jwks.json"
        tokens = Tokens(provider.settings(oidc_jwks=str(file)))
        with pytest.raises(KeysUnavailable):
            await tokens.principal(provider.token())
        file.write_text(json.dumps({"keys": provider.keys}))
        later(monkeypatch, 31)
        await tokens.principal(provider.token())
        assert not provider.asked

    asyncio.run(story())


def test_proxies_are_not_asked_for_what_is_on_this_machine(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert asyncio.run(Tokens(provider.settings()).principal(provider.token()))


def test_a_provider_by_https_is_asked_if_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = certificate_of("localhost", tmp_path), certificate_of("id.example", tmp_path)
    for certificate, trusted in ((own, own), (own, None), (other, other)):
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        with running_provider(certificate=certificate) as provider:
            tokens = Tokens(provider.settings())
            if certificate == trusted == own:
                assert asyncio.run(tokens.principal(provider.token())).name == f"oidc:{provider.issuer}#u-1"
            else:
                with pytest.raises(KeysUnavailable):
                    asyncio.run(tokens.principal(provider.token()))
                with pytest.raises(Unfit, match="no TLS with the identity provider: CERTIFICATE_VERIFY_FAILED"):
                    module.fetched(f"{provider.url}/keys")


def test_the_log_tells_what_the_provider_answered(provider: IdentityProvider) -> None:
    with pytest.raises(Unfit, match=r"^the identity provider answered 404$"):
        module.fetched(f"{provider.url}/nothing")
    with pytest.raises(ConnectionRefusedError):
        module.fetched("http://127.0.0.1:1/keys")


def test_a_provider_elsewhere_is_asked_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(5)
        asked: list[bytes] = []

        def answer() -> None:
            connection, _ = proxy.accept()
            with connection:
                asked.append(connection.recv(4096))

        thread = Thread(target=answer)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(OSError, match=r"closed|reset"):
            module.fetched("https://id.example/keys")
        thread.join()
    assert asked[0].startswith(b"CONNECT id.example:443 HTTP/1.")

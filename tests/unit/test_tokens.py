"""Tokens of an identity provider: those that count and what they say, those that don't, and forgeries."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.access import tokens as module
from api.access.claims import InvalidToken, find
from api.access.tokens import MAX_TOKEN, Tokens
from shared.access.principals import Principal
from tests.support.provider import AUDIENCE, IdentityProvider, jwk, private, running_provider
from tests.support.service import clean_environment


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider("/realms/acme") as provider:
        provider.keys = [
            jwk(private("ES256"), "es"),
            jwk(private("RS256"), "rs", alg="RS256"),
            jwk(private("RS256", "of Entra"), "of-entra", x5c=["MIIC"], x5t="abc", issuer="…"),
            jwk(private("EdDSA"), "ed", key_ops=["verify"]),
            jwk(private("RS256", "for encryption"), "enc", use="enc"),
            jwk(private("RS256", "for wrapping"), "wrap", use=None, alg="RSA-OAEP"),
            jwk(private("ES256", "for derivation"), "derive", use=None, key_ops=["deriveKey"]),
            jwk(private("short"), "short"),
            jwk(private("ES384"), "384"),
            {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct"},
            {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "broken"},
            {"kty": ["EC"], "kid": {}},
        ]
        provider.keys.append("no key")  # type: ignore[arg-type]
        yield provider


@pytest.fixture(scope="module")
def tokens(provider: IdentityProvider) -> Tokens:
    tokens = Tokens(provider.settings())
    ask(tokens, provider.token())  # which fetches the keys
    return tokens


def ask(tokens: Tokens, token: str) -> Principal:
    return asyncio.run(tokens.principal(token))


def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(InvalidToken) as refused:
        ask(tokens, token)
    assert tokens.known(token) is None
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [("ES256", "es", "ES256"), ("RS256", "rs", "RS256"), ("EdDSA", "ed", "EdDSA")],
    ids=["ES256", "RS256", "EdDSA"],
)
def test_a_token_of_each_algorithm_counts(
    provider: IdentityProvider, tokens: Tokens, key: str, kid: str, algorithm: str
) -> None:
    token = provider.token(private(key), kid, algorithm)
    assert tokens.known(token) is None
    principal = ask(tokens, token)
    assert principal.name == f"oidc:{provider.issuer}#u-1"
    assert principal.roles == {"reader"}
    assert 328 <= principal.until - time.time() <= 330
    assert tokens.known(token) == principal


SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], set[str]]] = {
    # the issuer's path, what the token says, the settings, the roles
    "Keycloak, of the realm": (
        "/realms/acme",
        {
            "aud": ["account", AUDIENCE],
            "typ": "Bearer",
            "azp": "web",
            "realm_access": {"roles": ["offline_access", "uma_authorization", "staff"]},
            "scope": "openid email",
        },
        {"oidc_roles_claim": "realm_access.roles", "oidc_roles": "staff:reader, staff:auditor,admin:operator"},
        {"reader", "auditor"},
    ),
    "Keycloak, of a client": (
        "/realms/acme",
        {"resource_access": {"my.app": {"roles": ["writer", "view-profile"]}}},
        {"oidc_roles_claim": "resource_access.my.app.roles"},
        {"writer"},
    ),
    "Auth0": (
        "/",
        {"aud": [AUDIENCE, "https://acme.eu.auth0.com/userinfo"], "https://example.org/roles": ["reader", "writer"]},
        {"oidc_roles_claim": "https://example.org/roles"},
        {"reader", "writer"},
    ),
    "Entra": (
        "/5b0d1e2f/v2.0",
        {"oid": "0b1c", "tid": "5b0d1e2f", "ver": "2.0", "roles": ["Users.Write", "Users.Other"], "nbf": 1},
        {"oidc_roles": "Users.Read:reader,Users.Write:writer"},
        {"writer"},
    ),
    "Okta": (
        "/oauth2/default",
        {"ver": 1, "groups": ["Everyone", "operator"], "scp": ["openid"]},
        {"oidc_roles_claim": "groups"},
        {"operator"},
    ),
    "Cognito, of an ID token": (
        "/eu-central-1_abc",
        {"token_use": "id", "cognito:groups": ["staff:all"]},
        {"oidc_roles_claim": "cognito:groups", "oidc_roles": "staff:all:eraser"},
        {"eraser"},
    ),
    "scopes": ("", {"scope": "openid users:write reader"}, {"oidc_roles_claim": "scope"}, {"reader"}),
    "no role": ("", {"roles": ["Reader", 7, None, ["writer"]]}, {}, set()),
    "no claim": ("", {"roles": None}, {}, set()),
    "a claim of another kind": ("", {"roles": {"reader": True}}, {}, set()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_of_real_providers_give_roles(shape: str) -> None:
    path, claims, settings, roles = SHAPES[shape]
    with running_provider(path) as provider:
        principal = ask(Tokens(provider.settings(**settings)), provider.token(**claims))
    assert principal.name == f"oidc:{provider.issuer}#u-1"
    assert principal.roles == roles


def test_an_issuer_may_be_elsewhere_than_its_keys(provider: IdentityProvider) -> None:
    google = "https://accounts.google.com"
    tokens = Tokens(provider.settings(oidc_issuer=google, oidc_jwks=f"{provider.url}/keys"))
    token = provider.token(private("RS256", "of Entra"), "of-entra", "RS256", iss=google)
    assert ask(tokens, token).name == "oidc:https://accounts.google.com#u-1"
    assert refusal(tokens, provider.token(iss="accounts.google.com")) == "The token is of another issuer."


def test_the_longest_name_of_a_claim_comes_first() -> None:
    claims = {"a.b": {"c": 1}, "a": {"b": {"c": 2}, "b.d": 3}, "https://x.org/r": 4}
    found = {path: find(claims, path) for path in ("a.b.c", "a.b", "a.b.d", "https://x.org/r", "a.x", "x.", ".")}
    assert list(found.values()) == [1, {"c": 1}, 3, 4, None, None, None]


EXPIRED, MALFORMED, UNKNOWN = "The token has expired.", "The token is malformed.", "The token's key is not one"
LACKS, WRONG, NOT_OURS = "The token lacks one of", "The token's signature is wrong.", "The token's algorithm is none of"
SUBJECT = "The token's subject"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "billing"}, "The token is for another audience."),
        ({"aud": ["billing", f"{AUDIENCE}-2"]}, "The token is for another audience."),
        ({"aud": []}, LACKS),
        ({"aud": None, "client_id": AUDIENCE}, LACKS),  # Cognito's access tokens
        ({"iss": "https://evil.example"}, "The token is of another issuer."),
        ({"iss": "http://127.0.0.1/realms/acme/"}, "The token is of another issuer."),
        ({"iss": ["x"]}, "The token is of another issuer."),
        ({"iss": None}, LACKS),
        ({"exp": None}, LACKS),
        ({"exp": 1}, EXPIRED),
        ({"exp": int(time.time()) - 31}, EXPIRED),
        ({"exp": "soon"}, MALFORMED),
        ({"exp": float("inf")}, MALFORMED),
        ({"nbf": int(time.time()) + 3600}, "The token is not valid yet."),
        ({"iat": int(time.time()) + 3600}, "The token is not valid yet."),
        ({"sub": None}, LACKS),
        ({"sub": ""}, SUBJECT),
        ({"sub": 7}, MALFORMED),
        ({"sub": "a\0b"}, SUBJECT),
        ({"sub": "a\nb"}, SUBJECT),
        ({"sub": "a\u202eb"}, SUBJECT),
        ({"sub": "\ud800"}, SUBJECT),
        ({"sub": "x" * 256}, SUBJECT),
    ],
)
def test_a_genuine_token_may_not_count(
    provider: IdentityProvider, tokens: Tokens, claims: dict[str, Any], why: str
) -> None:
    assert refusal(tokens, provider.token(**claims)).startswith(why)


def test_clocks_may_differ_by_half_a_minute(provider: IdentityProvider, tokens: Tokens) -> None:
    now = int(time.time())
    assert ask(tokens, provider.token(exp=now - 25)).until == now + 5
    assert ask(tokens, provider.token(nbf=now + 25, iat=now + 25))
    assert float(ask(tokens, provider.token(exp=10**400)).until) > now
    assert ask(tokens, provider.token(sub="x" * 255)).name.endswith("x")


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed_with_the_public_key(provider: IdentityProvider, form: str) -> str:
    public = private("RS256").public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(provider.keys[1]).encode(),
    }[form]
    head = f"{part({'alg': 'HS256', 'kid': 'rs'})}.{part(provider.claims())}"
    signature = jwt.get_algorithm_by_name("HS256").sign(head.encode(), secret)
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def forgeries(provider: IdentityProvider) -> dict[str, tuple[str, str]]:
    """Tokens that must not count, each with the beginning of the answer."""
    mine = private("ES256", "of the forger")
    own = jwk(mine, "es")
    genuine = provider.token()
    head, body, signature = genuine.split(".")
    none = {each: f"{part({'alg': each, 'kid': 'es'})}.{body}." for each in ("none", "None", "nOnE", "")}
    return {
        **{f"alg {each!r}": (token, NOT_OURS) for each, token in none.items()},
        "alg missing": (f"{part({'kid': 'es'})}.{body}.{signature}", NOT_OURS),
        "alg a list": (f"{part({'alg': ['ES256'], 'kid': 'es'})}.{body}.{signature}", NOT_OURS),
        "alg with a signature cut off": (f"{head}.{body}.", WRONG),
        **{f"HS256 {form}": (signed_with_the_public_key(provider, form), NOT_OURS) for form in ("pem", "der", "jwk")},
        "HS256 with a key of the set": (provider.token(b"secret" * 6, "oct", "HS256"), NOT_OURS),
        "another's key by the same name": (provider.token(mine), WRONG),
        "RS512": (provider.token(private("RS256"), "rs", "RS512"), NOT_OURS),
        "PS256": (provider.token(private("RS256"), "rs", "PS256"), NOT_OURS),
        "ES384": (provider.token(private("ES384"), "384", "ES384"), NOT_OURS),
        "ES384 as ES256": (f"{part({'alg': 'ES256', 'kid': '384'})}.{body}.{signature}", UNKNOWN),
        "a key of another type": (provider.token(private("EdDSA"), "es", "EdDSA"), UNKNOWN),
        "a key of another type, ES256 as RS256": (provider.token(private("RS256"), "es", "RS256"), UNKNOWN),
        "a key for encryption": (provider.token(private("RS256", "for encryption"), "enc", "RS256"), UNKNOWN),
        "a key for wrapping": (provider.token(private("RS256", "for wrapping"), "wrap", "RS256"), UNKNOWN),
        "a key for derivation": (provider.token(private("ES256", "for derivation"), "derive"), UNKNOWN),
        "a short key": (provider.token(private("short"), "short", "RS256"), UNKNOWN),
        "no kid": (provider.token(kid=None), UNKNOWN),
        "kid a path": (provider.token(mine, "../../../../dev/null"), UNKNOWN),
        "kid a file": (provider.token(mine, "file:///dev/null"), UNKNOWN),
        "kid a query": (provider.token(mine, "x' UNION SELECT 'key"), UNKNOWN),
        "kid a number": (f"{part({'alg': 'ES256', 'kid': 1})}.{body}.{signature}", MALFORMED),
        "kid a list": (f"{part({'alg': 'ES256', 'kid': []})}.{body}.{signature}", MALFORMED),
        "jku": (provider.token(mine, header={"jku": f"{provider.url}/evil"}), WRONG),
        "x5u": (provider.token(mine, "of-evil", header={"x5u": f"{provider.url}/evil"}), UNKNOWN),
        "jwk": (provider.token(mine, header={"jwk": own}), WRONG),
        "x5c": (provider.token(mine, header={"x5c": ["MIIC"]}), WRONG),
        "crit": (provider.token(header={"crit": ["x-policy"], "x-policy": "strict"}), MALFORMED),
        "crit empty": (provider.token(header={"crit": []}), MALFORMED),
        "b64": (f"{part({'alg': 'ES256', 'kid': 'es', 'b64': False, 'crit': ['b64']})}..{signature}", MALFORMED),
        "another body": (f"{head}.{part(provider.claims(sub='root'))}.{signature}", WRONG),
        "two tokens": (f"{genuine}.{genuine}", MALFORMED),
        "a token behind another": (f"{genuine} {genuine}", MALFORMED),
        "a part more": (f"{genuine}.{signature}", MALFORMED),
        "padding": (f"{head}.{body}.{signature}====", MALFORMED),
        "nothing": ("", MALFORMED),
        "dots": ("..", MALFORMED),
        "no JSON": (f"{base64.urlsafe_b64encode(b'[1').rstrip(b'=').decode()}.{body}.{signature}", MALFORMED),
        "an array": (f"{part([])}.{body}.{signature}", MALFORMED),
        "deep": (f"{base64.urlsafe_b64encode(b'[' * 5000).rstrip(b'=').decode()}.{body}.{signature}", MALFORMED),
        "huge": (provider.token(pad="x" * MAX_TOKEN), MALFORMED[:-1]),
        "not ASCII": (f"{genuine}\u00e9", MALFORMED[:-1]),
        "surrogates": (f"{genuine}\ud800", MALFORMED[:-1]),
    }


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
def test_forgeries_are_refused_and_cost_no_fetches(provider: IdentityProvider, tokens: Tokens) -> None:
    ask(tokens, provider.token())
    before = provider.asked.copy()
    for name, (token, why) in forgeries(provider).items():
        for _ in range(3):
            with pytest.raises(InvalidToken) as refused:
                ask(tokens, token)
            assert str(refused.value).startswith(why), name
    assert provider.asked == before  # nor was another URL asked
    assert ask(tokens, provider.token())


def test_a_token_with_any_letter_changed_or_cut_off_is_refused(provider: IdentityProvider, tokens: Tokens) -> None:
    token = provider.token()
    changed = {f"{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}" for at in range(len(token))}
    cut = {token[:at] for at in range(len(token))} | {token[at:] for at in range(1, len(token))}
    for each in changed | cut:
        with pytest.raises(InvalidToken):
            ask(tokens, each)


ODD: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, float("nan"), float("-inf"), "", "x", "\ud800", "9" * 5000,
    [], [None], [[]], {}, {"a": {}}, ["ES256"], {"roles": []},
]  # fmt: skip
"""Values that a claim or a field of a header may have, though it should not."""


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "roles"])
def test_whatever_a_claim_is_the_token_counts_or_is_refused(
    provider: IdentityProvider, tokens: Tokens, name: str
) -> None:
    for odd in ODD:
        with suppress(InvalidToken):
            ask(tokens, provider.token(**{name: odd}))
    with suppress(InvalidToken):
        ask(tokens, signed(json.dumps(provider.claims() | {name: None}).encode()))


@pytest.mark.parametrize("name", ["alg", "kid", "typ", "crit", "b64", "jwk"])
def test_whatever_a_header_has_the_token_is_refused(provider: IdentityProvider, tokens: Tokens, name: str) -> None:
    for odd in ODD:
        header = {"alg": "ES256", "kid": "es", name: odd}
        with pytest.raises(InvalidToken):
            ask(tokens, f"{part(header)}.{part(provider.claims())}.AAAA")


@pytest.mark.parametrize("body", [b"", b"7", b"[]", b"\xff", b"{", b"{" * 3000, b"[" * 3000, b'{"sub":' * 500])
def test_a_genuine_token_whose_body_is_no_object_is_refused(
    provider: IdentityProvider, tokens: Tokens, body: bytes
) -> None:
    assert refusal(tokens, signed(body)) == MALFORMED


def signed(body: bytes) -> str:
    return jwt.PyJWS().encode(body, private("ES256"), "ES256", headers={"kid": "es"})


def test_a_token_is_remembered_until_it_expires(
    provider: IdentityProvider, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.token(exp=int(time.time()) + 10)
    ask(tokens, token)
    for later, known in ((0, True), (39, True), (41, False)):
        clock = SimpleNamespace(time=lambda later=later: time.time() + later, monotonic=time.monotonic)
        monkeypatch.setattr(module, "time", clock)
        assert bool(tokens.known(token)) is known, later
    for later, known in ((59, True), (61, False)):
        clock = SimpleNamespace(time=time.time, monotonic=lambda later=later: time.monotonic() + later)
        monkeypatch.setattr(module, "time", clock)
        assert bool(tokens.known(token)) is known, later


def test_so_many_tokens_are_remembered_and_none_as_it_is(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    tokens = Tokens(provider.settings())
    sent = [provider.token(sub=f"u-{number}") for number in range(15)]
    for token in (*sent, sent[0]):
        ask(tokens, token)
    assert [bool(tokens.known(token)) for token in sent] == [True, *[False] * 5, *[True] * 9]
    assert not any(token in repr(vars(tokens)) for token in sent)


@pytest.mark.processes
def test_without_the_extra_an_issuer_is_refused_in_one_line() -> None:
    story = """
import sys
from api.access.tokens import Tokens
from shared.settings import Settings
assert "jwt" not in sys.modules
sys.modules["jwt"] = None
Tokens(Settings(oidc_issuer="https://id.example", oidc_audience="api", _env_file=None))
"""
    command = [sys.executable, "-c", story]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "cqrs: CQRS_OIDC_ISSUER is set, which needs more than is installed: pip install 'cqrs[oidc]'\n"
    )

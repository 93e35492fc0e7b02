"""Signatures of tokens, by PyJWT: which keys of a provider may verify them, and whether one does.

The only module that imports PyJWT, which comes with the extra `oidc`.
"""

from contextlib import suppress
from typing import Any, Literal

import jwt
from jwt.algorithms import RSAAlgorithm
from pydantic import BaseModel, Field

from api.access.claims import LEEWAY, InvalidToken

ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""The algorithms of tokens that are taken, by the type and curve of their keys."""

REQUIRED = ["iss", "aud", "exp", "sub"]
"""Claims that a token must have."""

MAX_KEYS = 100
"""How many keys of a provider are used: the first ones."""

REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is for another audience.",
    jwt.InvalidIssuerError: "The token is of another issuer.",
    jwt.InvalidSignatureError: "The token's signature is wrong.",
    jwt.MissingRequiredClaimError: f"The token lacks one of the claims {', '.join(REQUIRED)}.",
}
"""Why a token is refused. The texts repeat nothing of the token and nothing of what PyJWT says."""

MALFORMED = "The token is malformed."

Name = tuple[str | None, str]
"""What a token says of its key: the id, if it has one, and the algorithm."""


class Jwk(BaseModel):
    """The public half of a JSON Web Key for signatures (RFC 7517); what else there is of it is not read."""

    kty: str
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None
    kid: str | None = Field(None, exclude=True)
    alg: str | None = Field(None, exclude=True)
    use: Literal["sig"] = Field("sig", exclude=True)
    key_ops: list[str] = Field(["verify"], exclude=True)


class Jwks(BaseModel):
    """A set of JSON Web Keys; each is looked at by itself, since one that is not for us may look like anything."""

    keys: list[Any]


def keys_of(document: bytes) -> dict[Name, jwt.PyJWK]:
    """The keys of a JSON Web Key Set that may verify tokens. Raises ValueError if it is no such set."""
    found = {}
    for each in Jwks.model_validate_json(document).keys[:MAX_KEYS]:
        with suppress(ValueError, jwt.PyJWTError):
            jwk = Jwk.model_validate(each)
            key = _key(jwk)
            found[jwk.kid, key.algorithm_name] = key
    return found


def named(token: str) -> Name:
    """The name of the key that a token's header gives; nothing is verified yet. Raises InvalidToken."""
    try:
        header = jwt.get_unverified_header(f"{token.partition('.')[0]}..")
    except jwt.PyJWTError:
        raise InvalidToken(MALFORMED) from None
    algorithm: str = header.get("alg", "")
    if algorithm not in ALGORITHMS.values():
        raise InvalidToken(f"The token's algorithm is none of {', '.join(ALGORITHMS.values())}.")
    return header.get("kid"), algorithm


def claims_of(token: str, key: jwt.PyJWK, issuer: str, audience: str) -> dict[str, Any]:
    """The claims of a token, if the key signed it, it is for this API, and it is valid now. Raises InvalidToken."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY,
            options={"require": REQUIRED},
        )
    except jwt.PyJWTError as error:
        raise InvalidToken(REASONS.get(type(error), MALFORMED)) from None


def _key(jwk: Jwk) -> jwt.PyJWK:
    """The key. Raises ValueError or PyJWTError if it is none for our algorithms, malformed, or too short for RSA."""
    algorithm = ALGORITHMS.get((jwk.kty, jwk.crv))
    if algorithm is None or jwk.alg not in {None, algorithm} or "verify" not in jwk.key_ops:
        raise ValueError("no key for tokens")
    key = jwt.PyJWK(jwk.model_dump(exclude_none=True), algorithm)
    if isinstance(key.Algorithm, RSAAlgorithm) and (short := key.Algorithm.check_key_length(key.key)):
        raise ValueError(short)
    return key

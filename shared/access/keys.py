"""Keys: secrets that callers send as `Authorization: Bearer cqrs_…`.

A key is `cqrs_`, its id (8 hex digits), `_`, its secret (64 hex digits, 32 random bytes) and a checksum (8 hex digits,
the beginning of the SHA-256 of all that stands before). Scanners for leaked secrets find a key by its form, and a
typing error is told from a key that is not known. Stored are the id and the SHA-256 of the whole text: with so much
randomness in it, a slow hash would protect no better.
"""

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

FORM = re.compile(r"cqrs_([0-9a-f]{8})_[0-9a-f]{64}([0-9a-f]{8})", re.ASCII)

CHECKSUM_DIGITS = 8

NAME = "^[A-Za-z0-9_.@/-]{1,64}$"
"""What a key may be called: nothing that would be odd in a log."""


class Key(NamedTuple):
    """A key with its whole text, which is shown once to its holder and never stored."""

    id: str
    text: str


def new_key(id: str | None = None) -> Key:
    """Make a key. For a rotation, `id` is that of the key which it replaces."""
    id = id or secrets.token_hex(4)
    text = f"cqrs_{id}_{secrets.token_hex(32)}"
    return Key(id, text + _checksum(text))


def key_of(text: str) -> Key | None:
    """The key with this text; None if the text is mistyped, cut, or no key at all."""
    found = FORM.fullmatch(text)
    if not found or not hmac.compare_digest(found[2], _checksum(text[:-CHECKSUM_DIGITS])):
        return None
    return Key(found[1], text)


def id_in(text: str) -> str | None:
    """The id in a text that has the form of a key, whatever its checksum says."""
    found = FORM.fullmatch(text)
    return found and found[1]


def digest_of(text: str) -> str:
    """What is stored of a key's text: its SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(text: str) -> str:
    return digest_of(text)[:CHECKSUM_DIGITS]

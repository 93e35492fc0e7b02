"""Ciphers: one for each person, and the form in which personal fields rest in JSON.

Sealed, `{"user_id": 1, "first_name": "John", "email": "john@example.com"}` is
`{"user_id":1,"~first_name,email":"<token>"}`: the names of the personal fields, and their values in one token. The
token is the Base64 of a nonce (12 bytes) and the AES-256-GCM of the fields' JSON. It opens only where it was made: its
place and the names are authenticated with it. A token that is empty was made when its person was erased already.
"""

import hashlib
import hmac
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.plain import Plain

KEY_BYTES = 32
NONCE_BYTES = 12
ID_BYTES = 4
TILDE = "~"
"""Begins the name of an object's sealed fields. No other field's name begins with a tilde."""


class Cipher:
    """Seals and opens what is personal of one person."""

    # An AESGCM is made for each use: one that is kept has 2.5 KB of its own, whose making and freeing take longer.
    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, plain: bytes, place: bytes) -> bytes:
        """A token for these bytes, in Base64, that opens at this place alone."""
        nonce = os.urandom(NONCE_BYTES)
        return b2a_base64(nonce + AESGCM(self._key).encrypt(nonce, plain, place), newline=False)

    def open(self, token: str, place: bytes) -> bytes:
        """The bytes that were sealed. Raises InvalidTag or ValueError unless the token was made for this place."""
        sealed = a2b_base64(token)
        return AESGCM(self._key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)

    def fingerprint(self, text: str) -> str:
        """A hash that only who has the person's key can make, or compare with what a guess would give."""
        return hmac.digest(self._key, f"fingerprint {text}".encode(), "sha256").hex()


Ciphers = Mapping[str, Cipher | None]
"""Ciphers by stream. None: the person is erased."""


class Sealed:
    """An object's JSON taken apart: what stands before its sealed fields, their names, and the token."""

    __slots__ = ("head", "names", "token")

    def __init__(self, head: str, names: str, token: str) -> None:
        self.head, self.names, self.token = head, names, token

    @classmethod
    def found(cls, json: str) -> "Sealed | None":
        """The sealed fields of an object; None if it has none."""
        match json.rsplit('"', 4):
            case [head, names, ":", token, "}"] if names.startswith(TILDE):  # a value may begin with a tilde, too
                return cls(head, names[1:], token)
        return None

    def opened(self, cipher: Cipher, place: str) -> str:
        """The JSON with the fields as they were before. Raises InvalidTag or ValueError as `Cipher.open` does."""
        return f"{self.head}{cipher.open(self.token, f'{place} {self.names}'.encode()).decode()}}}"

    def shown(self, cipher: Cipher | None, place: str) -> str:
        """The JSON with the fields as they were, or null where they can't be opened."""
        if cipher and self.token:
            with suppress(InvalidTag, ValueError):
                return self.opened(cipher, place)
        return self.hidden()

    def hidden(self) -> str:
        """The JSON with null in each of the fields."""
        nulls = ",".join(f'"{name}":null' for name in self.names.split(","))
        return f"{self.head}{nulls}}}"


def sealed(others: bytes, personal: bytes, names: str, cipher: Cipher | None, place: str) -> bytes:
    """The JSON of an object whose personal fields are sealed; `others` and `personal` are the JSON of its two parts.

    `names`: those of the personal fields, with commas between. `cipher`: None if the person is erased.
    """
    token = cipher.seal(personal[1:-1], f"{place} {names}".encode()) if cipher else b""
    comma = b"," if len(others) > len(b"{}") else b""
    return b"".join((others[:-1], comma, b'"~', names.encode(), b'":"', token, b'"}'))


class WrongMasterKey(Plain):
    """A key was wrapped by another master key than those given."""

    def __init__(self) -> None:
        super().__init__("the master key isn't the one with which the keys of people were wrapped: CQRS_MASTER_KEY")


class Master:
    """The master keys: the first, and former ones. Each unwraps what it wrapped, so that one can follow another."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        """Each key has KEY_BYTES."""
        self._ciphers = {hashlib.sha256(key).digest()[:ID_BYTES]: AESGCM(key) for key in keys}
        self.id = next(iter(self._ciphers))
        """Begins all that the first key wraps."""

    def __len__(self) -> int:
        return len(self._ciphers)

    def wrap(self, key: bytes, name: str, *, like: bytes = b"") -> bytes:
        """The key encrypted; it unwraps only under this name. `like`: by the master key that wrapped this one."""
        id, nonce = like[:ID_BYTES] or self.id, os.urandom(NONCE_BYTES)
        return id + nonce + self._ciphers[id].encrypt(nonce, key, name.encode())

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """The key that was wrapped under this name. Raises WrongMasterKey."""
        nonce_ends = ID_BYTES + NONCE_BYTES
        try:
            its = self._ciphers[wrapped[:ID_BYTES]]
            return its.decrypt(wrapped[ID_BYTES:nonce_ends], wrapped[nonce_ends:], name.encode())
        except (KeyError, InvalidTag):
            raise WrongMasterKey from None


class Blind:
    """Hashes values that must be found again and never read, under a secret of the installation."""

    def __init__(self, secret: bytes) -> None:
        self._new = hmac.new(secret, digestmod="sha256").copy  # half the time of one that begins with the secret

    def __call__(self, *values: str) -> str:
        """The HMAC-SHA-256 of the values, in hex."""
        hash = self._new()
        hash.update("\0".join(values).encode())
        return hash.hexdigest()

"""Keys for the tests: made, revoked and rotated in a store, as `cqrs keys` does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from cli.access.deeds import do
from shared.access.keys import Key, digest_of, new_key
from shared.access.roles import Role
from shared.clock import written
from shared.operations.commands import AddKey, RevokeKey, RotateKey
from shared.settings import Settings
from tests.support.follower import Follower
from tests.support.service import eventually

BY = "cli:test@here"


def add(settings: Settings, *roles: Role, name: str = "test", seconds: float | None = None) -> Key:
    """A new key; `seconds`: how long it counts."""
    key = new_key()
    expires_at = None if seconds is None else _in(seconds)
    deed = AddKey(key_id=key.id, name=name, roles=list(roles), digest=digest_of(key.text), expires_at=expires_at)
    do(settings, deed, by=BY)
    return key


def revoke(settings: Settings, key: Key) -> None:
    do(settings, RevokeKey(key_id=key.id, name="test"), by=BY)


def rotate(settings: Settings, key: Key, *, grace: float = 0) -> Key:
    """The key's new text; the one before counts for so many seconds."""
    new = new_key(key.id)
    do(settings, RotateKey(key_id=key.id, name="test", digest=digest_of(new.text), old_until=_in(grace)), by=BY)
    return new


def bearer(key: Key | str) -> dict[str, str]:
    """The header with which a request has the key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.text}"}


def principal(key: Key) -> str:
    return f"key:{key.id}"


def _in(seconds: float) -> str:
    return written(datetime.now(UTC) + timedelta(seconds=seconds))


def forgets_and_knows_again(
    http: httpx.Client, key: Key, fail: Callable[[], object], mend: Callable[[], object], stream: Follower
) -> None:
    """What is known of keys serves for two seconds; then all is refused, by 503 and for a moment; then it is back."""

    def asked(path: str = "/", with_: Key = key) -> httpx.Response:
        return http.get(path, headers=bearer(with_))

    assert asked().status_code == 200
    fail()
    assert (asked().status_code, asked(with_=new_key()).status_code) == (200, 401)
    eventually(lambda: asked().status_code == 503)
    refused = asked()
    assert (refused.json()["type"], refused.headers["retry-after"]) == ("/problems/credentials-unavailable", "1")
    assert asked(with_=new_key()).status_code == 503
    assert http.get("/", headers=bearer("garbage")).status_code == http.get("/").status_code == 401
    assert http.get("/livez").status_code == asked("/livez").status_code == 200
    assert set(asked("/readyz").json()) == {"status"}
    assert stream.ended()
    mend()
    eventually(lambda: asked().status_code == 200)

"""The keyring: what it knows of keys, whatever goes wrong when it looks."""

import asyncio
from typing import Any

import pytest

from api.access import keyring
from api.access.keyring import Keyring
from api.http.problems import Problem
from shared.access.keys import Key, digest_of, new_key
from shared.operations.key_table import KnownKey


class Table:
    """A table of keys that can be changed, and broken."""

    def __init__(self, key: Key) -> None:
        self.change = 1
        self.row = KnownKey(key.id, "test", frozenset({"reader"}), digest_of(key.text), "", "", None, None, None, None)
        self.error: Exception | None = None

    async def read(self, _: Any, known: int) -> tuple[int, list[KnownKey]]:
        if self.error:
            raise self.error
        return self.change, [self.row] if known != self.change else []


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ValueError("a row that can't be read")])
def test_p10_a_look_that_fails_by_a_bug_does_not_end_looking(error: Exception) -> None:
    key = new_key()
    table = Table(key)
    ring = Keyring(table)  # type: ignore[arg-type]
    asyncio.run(ring.look())
    table.error = error
    asyncio.run(ring.look())
    assert ring.counts(ring.principal(key.text))
    table.error, table.change, table.row = None, 2, table.row._replace(revoked_at="2026-01-31T12:00:00.000000Z")
    asyncio.run(ring.look())
    with pytest.raises(Problem, match="not known"):
        ring.principal(key.text)


def test_p10_nothing_is_known_before_the_first_look_and_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    ring = Keyring(Table(key))  # type: ignore[arg-type]
    assert not ring.is_empty
    with pytest.raises(Problem, match="can't be looked up"):
        ring.principal(key.text)
    asyncio.run(ring.look())
    principal = ring.principal(key.text)
    monkeypatch.setattr(keyring, "GRACE", -1.0)
    with pytest.raises(Problem, match="can't be looked up"):
        ring.principal(key.text)
    assert not ring.counts(principal)

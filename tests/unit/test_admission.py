"""Admission: for how long credentials that were checked are let in unchecked, and which."""

import asyncio
from types import SimpleNamespace

import pytest
from fastapi import Request

from api.http.access import Access, invalid_credentials
from api.http.problems import Problem
from api.http.recent import MAX_RECENT, MOMENT, Recent
from shared.access.keys import new_key
from shared.access.principals import Principal
from shared.settings import Settings

READER = Principal("key:1a2b3c4d", frozenset({"reader"}))


class Checks:
    """Credentials of which one counts, until it is revoked; counts how often they are checked."""

    def __init__(self) -> None:
        self.key = new_key().text
        self.revoked = False
        self.times = 0

    async def principal(self, token: str) -> Principal:
        self.times += 1
        if self.revoked or token != self.key:
            raise invalid_credentials("Unknown")
        return READER

    def counts(self, principal: Principal) -> bool:
        return principal is READER and not self.revoked


class Api:
    """A closed API that admits requests, at times that are set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("api.http.access.time", SimpleNamespace(monotonic=lambda: self.now))
        self.checks = Checks()
        self.access = Access(Settings(auth="on", _env_file=None))
        self.access.credentials = self.checks

    def admit(self, *tokens: str) -> Request:
        headers = [(b"authorization", f"Bearer {token}".encode()) for token in tokens or [self.checks.key]]
        request = Request({"type": "http", "headers": headers, "metadata": {}, "client": ("127.0.0.1", 1)})
        asyncio.run(self.access.admit(request, "reader"))
        return request


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    return Api(monkeypatch)


def test_credentials_are_checked_once_in_a_moment(api: Api) -> None:
    for _ in range(10):
        assert api.admit().scope["principal"] is READER
    assert api.checks.times == 1
    api.now += MOMENT
    api.admit()
    assert api.checks.times == 2


def test_p10_a_revoked_key_is_refused_after_a_moment_however_often_it_is_used(api: Api) -> None:
    for _ in range(5):
        api.admit()
        api.checks.revoked = True
        api.now += MOMENT / 5
    with pytest.raises(Problem, match="Unknown"):
        api.admit()


def test_p10_what_resembles_a_key_that_was_let_in_is_checked(api: Api) -> None:
    api.admit()
    key = api.checks.key
    for other in (f"{key[:-9]}x{key[-8:]}", key[1:], key[-8:], f"{key}x", f"x{key}", key.upper(), ""):
        with pytest.raises(Problem):
            api.admit(other)
    with pytest.raises(Problem, match="more than once"):
        api.admit(key, key)


def test_p10_what_was_refused_is_not_remembered(api: Api) -> None:
    api.checks.revoked = True
    with pytest.raises(Problem):
        api.admit()
    api.checks.revoked = False
    api.admit()


def test_p10_a_request_that_takes_longer_than_a_moment_is_looked_at_again(api: Api) -> None:
    request = api.admit()
    api.checks.revoked = True
    api.access.check_again(request)
    api.now += MOMENT

    async def again() -> None:
        api.access.check_again(request)

    with pytest.raises(Problem, match="no longer"):
        asyncio.run(again())


def test_of_many_credentials_some_are_remembered() -> None:
    recent = Recent()
    recent.find(b"", 100.0)
    keys = [f"Bearer {number:086}".encode() for number in range(2 * MAX_RECENT)]
    for key in keys:
        recent.add(key, READER)
    assert sum(recent.find(key, 100.0) is READER for key in keys) == MAX_RECENT
    assert not any(recent.find(key, 100.0 + MOMENT) for key in keys)

"""Rates: what a token bucket lets through, what it tells, what it keeps in memory; and what is logged of refusals."""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client import REGISTRY

from api.http.clients import SECOND, Rates
from shared.telemetry import refused
from shared.telemetry.refused import MAX_CLIENTS, SHOWN_CLIENTS, Refused

ITEM = re.compile(r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"(;[a-z*][a-z0-9_.*-]*=-?\d{1,15})*')
"""An Item whose value is a String and whose parameters are Integers (RFC 9651, section 4.1.3)."""


class Clock:
    """A clock that is set by hand, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 10 * SECOND

    def __call__(self) -> int:
        return self.now

    def goes(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def allowed(rates: Rates, client: str, times: int) -> int:
    return sum(rates.take(client) >= 0 for _ in range(times))


@pytest.mark.parametrize("per_second", [1, 2, 3, 7, 100, 1000, 6007])
def test_a_client_may_send_at_once_what_it_may_send_in_a_second(clock: Clock, per_second: int) -> None:
    rates = Rates("key", per_second, clock)
    assert allowed(rates, "one", per_second) == per_second
    assert rates.take("one") < 0


def test_a_bucket_fills_by_the_rate_and_never_beyond_it(clock: Clock) -> None:
    rates = Rates("key", 10, clock)
    assert allowed(rates, "one", 20) == 10
    clock.goes(0.35)
    assert allowed(rates, "one", 20) == 3
    clock.goes(1000)
    assert allowed(rates, "one", 20) == 10


def test_within_any_second_nobody_gets_more_than_a_burst_and_a_second_s_worth(clock: Clock) -> None:
    rates, random_, times = Rates("key", 20, clock), random.Random(7), deque[int]()
    for _ in range(20_000):
        clock.goes(random_.expovariate(200))
        if rates.take("one") >= 0:
            times.append(clock.now)
        while times and times[0] <= clock.now - SECOND:
            times.popleft()
        assert len(times) <= 40
    assert rates.take("other") >= 0


def test_who_asks_all_the_time_gets_the_rate(clock: Clock) -> None:
    rates, got = Rates("key", 50, clock), 0
    for _ in range(10_000):
        clock.goes(0.001)
        got += rates.take("one") >= 0
    assert 10 * 50 <= got <= 11 * 50


def test_one_client_s_bucket_is_not_another_s(clock: Clock) -> None:
    rates = Rates("key", 5, clock)
    assert allowed(rates, "one", 9) == 5
    assert allowed(rates, "other", 9) == 5


@pytest.mark.parametrize(("per_second", "low"), [(1, [0]), (2, [0]), (5, [2, 1, 0]), (6, [2, 1, 0])])
def test_a_bucket_is_low_once_more_than_half_is_used(clock: Clock, per_second: int, low: list[int]) -> None:
    rates = Rates("key", per_second, clock)
    assert [left for left in (rates.take("one") for _ in range(per_second)) if rates.is_low(left)] == low
    assert rates.is_low(rates.take("one"))


def test_in_memory_are_the_buckets_of_two_seconds_and_none_is_forgotten_before_it_is_full(clock: Clock) -> None:
    rates, random_ = Rates("address", 4, clock), random.Random(7)
    tokens, asked_at = Fraction(4), clock.now
    for number in range(100_000):
        clock.goes(0.0001)
        rates.take(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64")
        assert len(rates) <= 20_100
        if random_.random() < 0.001:  # ten times a second on average, which is more than four
            tokens, asked_at = min(Fraction(4), tokens + Fraction(clock.now - asked_at, SECOND) * 4), clock.now
            assert (rates.take("steady") >= 0) == (tokens >= 1)
            tokens -= tokens >= 1
    clock.goes(2)
    rates.take("one")
    clock.goes(2)
    rates.take("one")
    assert len(rates) == 2


def test_what_remains_is_told(clock: Clock) -> None:
    rates = Rates("key", 3, clock)
    assert [rates.take("one") for _ in range(5)] == [2, 1, 0, -1, -1]
    clock.goes(0.5)
    assert rates.take("one") == 0


def test_the_fields_are_those_of_the_draft(clock: Clock) -> None:
    rates = Rates("address", 100, clock)
    fields = {name.decode(): value.decode() for name, value in rates.fields(rates.take("one"))}
    assert fields == {"ratelimit-policy": '"address";q=100;w=1', "ratelimit": '"address";r=99;t=1'}
    assert all(ITEM.fullmatch(value) for value in fields.values())
    assert dict(rates.fields(-1))[b"ratelimit"] == b'"address";r=0;t=1'


# What is logged


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    log = Lines()
    monkeypatch.setattr(refused, "log", log)
    return log.lines


def told_after(story: Callable[[Refused], None], every: float = 0.05) -> None:
    async def run() -> None:
        story(Refused(every))
        await asyncio.sleep(3 * every)

    asyncio.run(run())


def test_the_first_refusal_is_logged_at_once_and_further_ones_together(lines: list[dict[str, Any]]) -> None:
    def story(refused: Refused) -> None:
        refused.count("missing-role", "key:1a2b3c4d")
        assert len(lines) == 1
        for _ in range(1000):
            refused.count("too-many-requests", "192.0.2.1")
        refused.count("missing-role", "key:1a2b3c4d")
        assert len(lines) == 1

    told_after(story)
    assert lines == [
        {"event": "requests refused", "missing-role": 1, "clients": {"key:1a2b3c4d": 1}},
        {
            "event": "requests refused",
            "too-many-requests": 1000,
            "missing-role": 1,
            "clients": {"192.0.2.1": 1000, "key:1a2b3c4d": 1},
        },
    ]


def test_after_a_quiet_time_the_next_refusal_is_logged_at_once(lines: list[dict[str, Any]]) -> None:
    async def story() -> None:
        refused = Refused(0.02)
        refused.count("missing-role", "one")
        await asyncio.sleep(0.1)
        refused.count("missing-role", "other")
        assert [each["clients"] for each in lines] == [{"one": 1}, {"other": 1}]

    asyncio.run(story())


def test_of_many_clients_a_few_are_kept_and_shown(lines: list[dict[str, Any]]) -> None:
    def story(refused: Refused) -> None:
        for number in range(2 * MAX_CLIENTS):
            refused.count("invalid-credentials", f"10.0.{number >> 8}.{number & 255}")
        refused.count("invalid-credentials", "10.0.1.1")
        assert len(refused._clients) <= MAX_CLIENTS

    told_after(story)
    [_, line] = lines
    assert line["invalid-credentials"] == 2 * MAX_CLIENTS
    assert len(line["clients"]) == SHOWN_CLIENTS
    assert line["clients"]["10.0.1.1"] == 2


def test_every_refusal_is_counted(lines: list[dict[str, Any]]) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("cqrs_http_refused_total", {"type": "missing-role"}) or 0

    before = counted()

    def story(refused: Refused) -> None:
        for _ in range(7):
            refused.count("missing-role", "one")

    told_after(story)
    assert counted() == before + 7
    assert sum(each["missing-role"] for each in lines) == 7

"""Waiting: one poll for all who wait, errors told, time kept; and what `Prefer` says."""

import asyncio
import time
from collections.abc import Collection

import pytest

from api.reading.poll import Poll


def test_all_who_wait_are_answered_by_the_same_looks() -> None:
    looks: list[Collection[int]] = []

    async def look(keys: Collection[int]) -> dict[int, str]:
        looks.append(keys)
        return dict.fromkeys(keys, "there") if len(looks) > 60 else {}

    async def story() -> list[str | None]:
        poll = Poll[int, str](look)
        return await asyncio.gather(*(poll.get(key, within=5) for key in range(50)))

    assert asyncio.run(story()) == ["there"] * 50
    assert len(looks) == 61


def test_who_waits_too_long_is_told_so() -> None:
    async def nothing(_: Collection[int]) -> dict[int, str]:
        return {}

    async def story() -> float:
        poll = Poll[int, str](nothing)
        start = time.monotonic()
        assert await poll.get(1, within=0.1) is None
        return time.monotonic() - start

    assert 0.1 <= asyncio.run(story()) < 2


def test_an_error_reaches_who_waits_and_the_next_one_is_answered() -> None:
    answers: list[dict[int, str] | Exception] = [{}, OSError("gone"), {}, {1: "there"}]

    async def look(_: Collection[int]) -> dict[int, str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def story() -> str | None:
        poll = Poll[int, str](look)
        with pytest.raises(OSError, match="gone"):
            await poll.get(1, within=5)
        return await poll.get(1, within=5)

    assert asyncio.run(story()) == "there"


def test_a_look_that_took_long_holds_up_the_next_ones_for_a_moment_only() -> None:
    looks: list[float] = []

    async def look(wanted: Collection[int]) -> dict[int, str]:
        looks.append(time.monotonic())
        if len(looks) == 2:
            time.sleep(0.5)  # noqa: ASYNC251 as if the machine stood still
        return {1: "there"} if len(looks) == 4 else {}

    assert asyncio.run(Poll[int, str](look).get(1, within=5)) == "there"
    assert looks[-1] - looks[0] < 1.5

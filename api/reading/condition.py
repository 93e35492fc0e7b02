"""How the service is: what can be read, what can be written, and what has waited for too long."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from sqlalchemy.exc import DBAPIError

from api.reading.sharing import Shared
from api.reading.store import Store
from shared.errors.reasons import reason_of
from shared.stores import backlog, checkpoints
from shared.stores.backlog import Backlog, Handled, Lag, Lags
from shared.stores.checkpoints import Progress

LASTS = 1.0
"""Seconds for which it is good to know what can be written."""

NOTHING = Handled(0, 0, [])

T = TypeVar("T")

Troubles = dict[str, str]
"""Why something can't be written, by dependency."""


class Condition(NamedTuple):
    """`lags` has the projections whose read model, and the log, could be read; without the inbox `waiting` is None."""

    lags: dict[str, Lag]
    waiting: Backlog | None
    dependencies: dict[str, str]
    """`ok`, or what is wrong."""


class Conditions:
    """However many ask, it is looked once at a time."""

    def __init__(
        self,
        inbox: Store,
        log: Store,
        read_models: Mapping[str, Store],
        *,
        stores: Callable[[], Troubles],
        redis: Callable[[], str],
        acceptor: Callable[[], str],
    ) -> None:
        """`stores` and `redis` tell why one can't be written, and block; `acceptor` tells why it could not just now."""
        self._inbox = inbox
        self._log = log
        self._read_models = read_models
        self._stores = stores
        self._redis = redis
        self._acceptor = acceptor
        self._now = Shared[Condition](self._look)
        self._troubles = Shared[Troubles](self._try, lasts=LASTS)

    async def now(self) -> Condition:
        """What is read is read anew; what can be written is a second old at most."""
        return await self._now.get()

    async def troubles(self) -> Troubles:
        return await self._troubles.get()

    async def _look(self) -> Condition:
        progress = await self._progress()
        known = {name: each for name, each in progress.items() if isinstance(each, Progress)}
        handled, lags, troubles = await asyncio.gather(
            _told(self._log.read(backlog.handled)), _told(self._log.read(backlog.lags, known)), self.troubles()
        )
        upto = handled if isinstance(handled, Handled) else NOTHING
        waiting = await _told(self._inbox.read(backlog.waiting, upto))
        down = {"inbox": _down(waiting), "event_store": _down(lags), "read_model": _down_of_all(progress)}
        dependencies = {name: why or _unwritable(troubles.get(name)) or "ok" for name, why in down.items()}
        dependencies["redis"] = troubles.get("redis", "ok")
        condition = Condition(
            lags.by_name if isinstance(lags, Lags) else {},
            waiting if isinstance(waiting, Backlog) and isinstance(handled, Handled) else None,
            dependencies,
        )
        overdue = backlog.overdue(condition.waiting, condition.lags) if condition.waiting else ""
        dependencies["workers"] = overdue or "ok"
        return condition

    async def _progress(self) -> dict[str, Progress | DBAPIError]:
        looks = [_told(store.read(checkpoints.progress, name)) for name, store in self._read_models.items()]
        return dict(zip(self._read_models, await asyncio.gather(*looks), strict=True))

    async def _try(self) -> Troubles:
        stores, redis = await asyncio.gather(asyncio.to_thread(self._stores), asyncio.to_thread(self._redis))
        found = {"inbox": self._acceptor(), "redis": redis} | stores
        return {name: why for name, why in found.items() if why}


async def _told(answer: Awaitable[T]) -> T | DBAPIError:
    try:
        return await answer
    except DBAPIError as error:
        return error


def _down(answer: object) -> str:
    return f"down: {reason_of(answer)}" if isinstance(answer, DBAPIError) else ""


def _down_of_all(answers: Mapping[str, object]) -> str:
    """Of databases that may be several: what is wrong with each, unless it is the same with all."""
    states = {name: _down(answer) for name, answer in answers.items()}
    if len(set(states.values())) == 1:
        return next(iter(states.values()))
    return "; ".join(f"{name} {state}" for name, state in states.items() if state)


def _unwritable(trouble: str | None) -> str:
    return f"can't be written: {trouble}" if trouble else ""

"""How the service is: what can be read, what can be written, and what has waited for too long."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from sqlalchemy.exc import DBAPIError

from api.reading.sharing import Shared
from api.reading.store import Store, bounded
from shared.errors.reasons import reason_of
from shared.stores import backlog, checkpoints, subjects
from shared.stores.backlog import Backlog, Handled, Lags
from shared.stores.checkpoints import Progress

TROUBLES_LAST = 1.0
"""Seconds for which it is good to know what can be written."""

NOTHING = Handled(0, 0, [])

T = TypeVar("T")

Troubles = dict[str, str]
"""Why something can't be written, by dependency."""


class Condition(NamedTuple):
    """What the stores say; None for what could not be read, and no lag for a projection that couldn't."""

    handled: Handled | None
    waiting: Backlog | None
    lags: Lags | None
    dependencies: dict[str, str]
    """`ok`, or what is wrong."""


class Conditions:
    """Looks at all stores, once at a time however many ask."""

    def __init__(
        self,
        inbox: Store,
        log: Store,
        read_models: Mapping[str, Store],
        subjects: Store,
        *,
        stores: Callable[[], Troubles],
        redis: Callable[[], str],
        acceptor: Callable[[], str],
    ) -> None:
        """`stores` and `redis` tell why one can't be written, and block; `acceptor` tells why it could not just now."""
        self._inbox = inbox
        self._log = log
        self._read_models = read_models
        self._subjects = subjects
        self._stores = stores
        self._redis = redis
        self._acceptor = acceptor
        self._now = Shared[Condition](self.look)
        self._troubles = Shared[Troubles](self._try, lasts=TROUBLES_LAST)

    async def now(self) -> Condition:
        """What is read is read anew; what can be written is a second old at most."""
        return await self._now.get()

    async def look(self, patience: float | None = None) -> Condition:
        """The same for one asker, who waits for each of two rounds of questions for `patience` seconds at most."""
        handled, progress, troubles = await asyncio.gather(
            _ask(patience, self._log.read(backlog.handled)), self._progress(patience), self._troubles.get()
        )
        so_far = handled if isinstance(handled, Handled) else NOTHING
        known = {name: each for name, each in progress.items() if isinstance(each, Progress)}
        waiting, lags, keys = await asyncio.gather(
            _ask(patience, self._inbox.read(backlog.waiting, so_far)),
            _ask(patience, self._log.read(backlog.lags, known)),
            _ask(patience, self._subjects.read(subjects.erased)),
        )
        backlog_ = waiting if isinstance(waiting, Backlog) and isinstance(handled, Handled) else None
        down = {
            "inbox": _down([waiting]),
            "event_store": _down([lags, handled]),
            "read_model": _down_of_all(progress),
            "subjects": _down([keys]),
        }
        wrong = {name: why or _unwritable(troubles.get(name)) for name, why in down.items()}
        wrong["redis"] = troubles.get("redis", "")
        known_lags = lags if isinstance(lags, Lags) else None
        wrong["workers"] = backlog.overdue(backlog_, known_lags.by_name) if backlog_ and known_lags else ""
        return Condition(
            handled if isinstance(handled, Handled) else None,
            backlog_,
            known_lags,
            {name: why or "ok" for name, why in wrong.items()},
        )

    async def _progress(self, patience: float | None) -> dict[str, Progress | DBAPIError]:
        looks = [_ask(patience, store.read(checkpoints.progress, name)) for name, store in self._read_models.items()]
        return dict(zip(self._read_models, await asyncio.gather(*looks), strict=True))

    async def _try(self) -> Troubles:
        stores, redis = await asyncio.gather(asyncio.to_thread(self._stores), asyncio.to_thread(self._redis))
        found = {"inbox": self._acceptor(), "redis": redis} | stores
        return {name: why for name, why in found.items() if why}


async def _ask(patience: float | None, answer: Awaitable[T]) -> T | DBAPIError:
    try:
        async with bounded(patience):
            return await answer
    except DBAPIError as error:
        return error


def _down(answers: Iterable[object]) -> str:
    return next((f"down: {reason_of(each)}" for each in answers if isinstance(each, DBAPIError)), "")


def _down_of_all(answers: Mapping[str, object]) -> str:
    """Of databases that may be several: what is wrong with each, unless it is the same with all."""
    states = {name: _down([answer]) for name, answer in answers.items()}
    if len(set(states.values())) == 1:
        return next(iter(states.values()))
    return "; ".join(f"{name} {state}" for name, state in states.items() if state)


def _unwritable(trouble: str | None) -> str:
    return f"can't be written: {trouble}" if trouble else ""

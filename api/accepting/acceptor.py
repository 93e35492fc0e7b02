"""The acceptor: commands that arrive together are committed to the inbox together, then answered, then announced."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

from sqlalchemy import Engine

from api.accepting.limit import Limit
from api.http.problems import Problem, unavailable
from api.reading.store import silent
from shared.database.errors import is_trouble
from shared.errors.reasons import reason_of
from shared.stores import inbox
from shared.stores.inbox import Acceptance, Accepted, Answer, InboxFull, KeyReused, Submission
from shared.telemetry import logs, metrics

BATCH_MAX = 500
"""Commands in one inbox transaction."""

COMMIT_TIMEOUT = 15.0
"""Seconds after which a store that says nothing counts as down: longer than it may wait for its lock."""

TROUBLE_LASTS = 3.0
"""Seconds for which a failure to write counts, unless something is written."""

log = logs.logger()

Waiting = tuple[Submission, "asyncio.Future[Answer]"]


class Acceptor:
    """Group commit: while one transaction runs, what arrives gathers for the next. No timer, no wait for company."""

    def __init__(self, engine: Engine, limit: Limit, announce: Callable[[], None]) -> None:
        """`engine` writes the inbox; `announce` is called when a batch is committed, from the thread that did it."""
        self._engine = engine
        self._limit = limit
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, "inbox")
        self._waiting: list[Waiting] = []
        self._commits: asyncio.Task[None] | None = None
        self._failed_at = -TROUBLE_LASTS
        self._failed = ""

    @property
    def trouble(self) -> str:
        """Why the store took nothing when it was last asked to, if that was a moment ago; else ""."""
        return self._failed if time.monotonic() < self._failed_at + TROUBLE_LASTS else ""

    async def accept(self, submission: Submission) -> Acceptance:
        """Returns once the command is durable. Raises Problem, or the store's error; then nothing was accepted.

        Only of a store that goes or falls silent in the commit itself nobody knows.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((submission, answer))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_all(), context=Context())  # it is no one request's
        match await answer:
            case KeyReused():
                raise Problem("idempotency-key-reused", 422, "The Idempotency-Key came before, with another request.")
            case InboxFull():
                raise unavailable("backlog-full", "As many commands wait to be handled as may.")
            case acceptance:
                return acceptance

    async def close(self) -> None:
        """Wait until all that came is committed."""
        if self._commits:
            await self._commits
        self._thread.shutdown(wait=False)

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._commit_batch(batch)
        finally:
            self._commits = None

    async def _commit_batch(self, batch: list[Waiting]) -> None:
        submissions = [submission for submission, _ in batch]
        loop = asyncio.get_running_loop()
        try:
            deadline = time.monotonic() + COMMIT_TIMEOUT
            async with asyncio.timeout(COMMIT_TIMEOUT):
                answers = await loop.run_in_executor(self._thread, self._commit, submissions, deadline)
        except BaseException as raised:
            error = silent(COMMIT_TIMEOUT) if isinstance(raised, TimeoutError) else raised
            if is_trouble(error):  # it would be the same for those behind, after as long a wait
                batch, self._waiting = batch + self._waiting, []
                self._failed_at, self._failed = time.monotonic(), reason_of(error)
            for _, answer in batch:
                if not answer.cancelled():
                    answer.set_exception(error)
            return
        self._failed = ""
        for (_, answer), its in zip(batch, answers, strict=True):
            if not answer.cancelled():
                answer.set_result(its)
        # The requests go on first: they were scheduled before.
        new = [its.command for its in answers if isinstance(its, Acceptance) and not its.replayed]
        loop.call_soon(_report, new)

    def _commit(self, submissions: list[Submission], deadline: float) -> list[Answer]:
        """Commit a batch, unless the deadline is over by then: nobody waits for the answers any more."""
        with self._engine.begin() as connection:
            numbers = inbox.last_numbers(connection)
            highest = self._limit.highest(numbers[inbox.SEQ] + len(submissions))
            answers = inbox.accept(connection, submissions, numbers, highest=highest)
            if time.monotonic() > deadline:
                raise TimeoutError
        self._announce()
        return answers


def _report(new: list[Accepted]) -> None:
    """Count a batch, and log it."""
    for type_, times in Counter(command.type for command in new).items():
        metrics.ACCEPTED.labels(type_).inc(times)
    metrics.observe(metrics.ACCEPT, len(new))
    if new:
        logs.tell(log, "accepted", new, Accepted.trail, commands=len(new))

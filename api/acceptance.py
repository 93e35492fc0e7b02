"""Accepting: commands that arrive together are committed to the inbox together, then answered, then announced."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from sqlalchemy import Engine

from api.problems import Problem
from shared import bus, inbox
from shared.inbox import Acceptance, KeyReused, Submission

BATCH = 500
"""Commands in one inbox transaction, at most."""

log = logging.getLogger(__name__)

Waiting = tuple[Submission, "asyncio.Future[Acceptance | KeyReused]"]


class Acceptor:
    """Group commit: while one transaction runs, what arrives gathers for the next. No timer, no wait for company."""

    def __init__(self, engine: Engine, announce: Callable[[dict[str, int]], None]) -> None:
        """`announce` is told the streams of each batch and their newest seq, on the event loop."""
        self._engine = engine
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, "inbox")
        self._waiting: list[Waiting] = []
        self._commits: asyncio.Task[None] | None = None

    async def accept(self, submission: Submission) -> Acceptance:
        """Returns once the command is durable. Raises Problem, or the store's error; then nothing was accepted."""
        answer: asyncio.Future[Acceptance | KeyReused] = asyncio.get_running_loop().create_future()
        self._waiting.append((submission, answer))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_all())
        match await answer:
            case KeyReused():
                raise Problem("idempotency-key-reused", 422, "The Idempotency-Key came before, with another request.")
            case acceptance:
                return acceptance

    async def close(self) -> None:
        if self._commits:
            await self._commits
        self._thread.shutdown()

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            await self._commit_batch(batch)
        self._commits = None

    async def _commit_batch(self, batch: list[Waiting]) -> None:
        submissions = [submission for submission, _ in batch]
        try:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._thread, self._commit, submissions)
        except Exception as error:
            for _, answer in batch:
                if not answer.cancelled():
                    answer.set_exception(error)
            return
        for (_, answer), its in zip(batch, answers, strict=True):
            if not answer.cancelled():
                answer.set_result(its)
        new = (its.command for its in answers if isinstance(its, Acceptance) and not its.replayed)
        self._announce({command.stream: command.seq for command in new})

    def _commit(self, submissions: list[Submission]) -> list[Acceptance | KeyReused]:
        with self._engine.begin() as connection:
            return inbox.accept(connection, submissions)


class Announcer:
    """Tells the workers of new commands: one message in flight, the next names all that was accepted meanwhile.

    What can't be sent is dropped: the sweep finds it in the inbox.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(1, "announcer")
        self._streams: dict[str, int] = {}
        self._sending: asyncio.Task[None] | None = None

    def announce(self, streams: dict[str, int]) -> None:
        self._streams |= streams
        if self._sending is None and self._streams:
            self._sending = asyncio.create_task(self._send_all())

    async def close(self) -> None:
        if self._sending:
            await self._sending
        self._thread.shutdown()

    async def _send_all(self) -> None:
        try:
            while self._streams:
                streams, self._streams = self._streams, {}
                await asyncio.get_running_loop().run_in_executor(self._thread, self._send, streams)
        finally:
            self._sending = None

    def _send(self, streams: dict[str, int]) -> None:
        try:
            bus.send(self._app, bus.HANDLE_COMMANDS, streams)
        except bus.BrokerDown as error:
            log.warning("left to the sweep: %d streams (%s)", len(streams), error)

"""Celery's transport over Redis, which lets no message end a worker: whoever reaches Redis can put anything there."""

from typing import Any

from kombu.transport import redis
from kombu.transport.virtual import Empty
from redis import RedisError

from shared.telemetry import logs

log = logs.logger()


class Channel(redis.Channel):
    """A channel that drops messages that can't be read."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, RecursionError):  # it is no JSON
            log.warning("a message was dropped that can't be read")
            raise Empty from None

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)  # type: ignore[no-untyped-call]
        except RecursionError:
            log.warning("a message was dropped that can't be read")
            raise Empty from None


class Transport(redis.Transport):
    """A transport that hands a queue's one expected message to the worker, whatever stands in Redis."""

    Channel = Channel

    def expected(self, queue: str) -> dict[str, Any] | None:
        """The one message that the queue is for; None for a queue that takes any message."""
        raise NotImplementedError

    def _deliver(self, message: Any, queue: str) -> None:
        if expected := self.expected(queue):
            super()._deliver(expected, queue)  # type: ignore[no-untyped-call]
            return
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except (OSError, RedisError):
            raise
        except Exception:
            log.warning("a message was dropped that can't be read")

"""Remote control of workers over Redis, without Celery's commands that change how a worker works."""

from typing import Any

from celery.app.control import Control
from kombu.pidbox import Mailbox, Node

from shared.telemetry import logs

ALLOWED = {
    "ping",
    "active_queues",
    # what the pages of Flower ask for
    "stats",
    "conf",
    "registered",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "enable_events",
    "disable_events",
}
"""Celery's commands that workers obey. By others, like cancel_consumer, whoever reaches Redis could stop workers."""

log = logs.logger()


class _Node(Node):
    """A worker's side of remote control. It obeys a message only if Celery's own control sends such messages."""

    def handle_message(self, body: Any, message: Any = None) -> Any:
        if isinstance(body, dict) and body.get("method") in ALLOWED and not body.get("pattern"):
            return super().handle_message(body, message)  # type: ignore[no-untyped-call]
        log.warning("a remote control command was not heeded")  # a pattern may be one that takes years to match
        return None


class _Mailbox(Mailbox):
    node_cls = _Node

    def Node(self, hostname: Any = None, state: Any = None, channel: Any = None, handlers: Any = None) -> Any:  # noqa: N802
        allowed = {name: handlers[name] for name in ALLOWED}
        return super().Node(hostname, state, channel, allowed)  # type: ignore[no-untyped-call]


class ReadOnlyControl(Control):  # type: ignore[misc]
    """Celery's control with the allowed commands only."""

    Mailbox = _Mailbox

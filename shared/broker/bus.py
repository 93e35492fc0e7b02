"""The bus: wakes workers by Celery over Redis. A message only says that there is work; the work stands in a store."""

import json
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar
from uuid import UUID, uuid4

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from kombu.transport import redis
from kombu.utils.json import dumps
from redis import RedisError
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from shared.broker import address
from shared.broker.remote import ReadOnlyControl
from shared.broker.transport import Transport
from shared.errors.reasons import origin, reason_of
from shared.settings import Settings
from shared.telemetry import logs

COMMANDS = "commands"
PROJECTIONS = "projections"

HANDLE_COMMANDS = "handle_commands"
CATCH_UP = "catch_up"

STALE_SECONDS = 3.0
"""How long an answer of Redis may be overdue before a consumer connects anew: Redis' host may be gone."""

WORKERS = {"command-worker": COMMANDS, "projection-worker": PROJECTIONS}
"""The roles that take from the queues."""

QUEUES = {HANDLE_COMMANDS: COMMANDS, CATCH_UP: PROJECTIONS}
"""The queue of each task."""

BrokerDown = (OperationalError, RedisError, OSError)
"""What is raised when Redis can't be reached or refuses."""

_ANSWERS = (ResponseError, AuthenticationError, BusyLoadingError)
"""The errors that are Redis' own answers."""

_ID = str(UUID(int=0))
"""Stands in the kept message where each message that a worker gets has an id of its own."""

_SEND = "if redis.call('LLEN', KEYS[1]) == 0 then redis.call('LPUSH', KEYS[1], ARGV[1]) end"

_TRY = f"{_SEND.removesuffix(' end')} else redis.call('LINSERT', KEYS[1], 'BEFORE', '', '') end"
"""As `_SEND`, but Redis must be writable even if a message waits: LINSERT looks for an empty one, and finds none."""

log = logs.logger()


class _Transport(Transport):
    def expected(self, queue: str) -> dict[str, Any] | None:
        """The wake-up that a worker gets for any message of the queue: so no message can bring a task, time or code."""
        task = next((task for task, its in QUEUES.items() if its == queue), None)
        return json.loads(_kept(task).replace(_ID, str(uuid4()))) if task else None


class _Connection(Connection):
    """A connection that tries to reach a lost broker every second: Celery's waits up to 30 s; no setting changes it."""

    between_tries: ClassVar[Callable[[], None] | None] = None
    """What a worker calls after each try to reach a broker that is away."""

    def get_transport_cls(self) -> Any:
        known = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _Transport if known is redis.Transport else known

    def ensure_connection(self, *args: Any, callback: Callable[[], None] | None = None, **kwargs: Any) -> Any:
        """Connect, pausing briefly between tries. `callback` is Celery's: it raises to end a worker that is to stop."""

        def between_tries() -> None:
            if callback:
                callback()
                if work := _Connection.between_tries:
                    work()

        kwargs["callback"] = between_tries
        return super().ensure_connection(*args, interval_start=0.2, interval_step=0.2, interval_max=1, **kwargs)  # type: ignore[no-untyped-call]


_TASKS = {
    "task_ignore_result": True,
    "task_serializer": "json",
    "task_queues": [Queue(COMMANDS), Queue(PROJECTIONS)],
    "task_default_queue": COMMANDS,
    "task_routes": {task: {"queue": queue} for task, queue in QUEUES.items()},
}


class _AMQP(AMQP):  # type: ignore[misc]
    Connection = _Connection


def celery(settings: Settings, *, socket_timeout: float) -> Celery:
    """The Celery app. `socket_timeout` (s) bounds every wait for a broker that hangs; a consumer's must be over 1 s."""
    app = Celery("cqrs", amqp=_AMQP, control=ReadOnlyControl, broker=address.url_of(settings), set_as_current=False)
    app.conf.update(
        _TASKS,
        accept_content=["json"],
        task_publish_retry=False,
        worker_pool="solo",
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # else a worker ends when Redis is out of memory
        broker_transport_options={
            # Nothing is lost with a message, since workers look by themselves. But a worker may hold only as many
            # messages as there are cores, and one whose acknowledgement timed out counts as held for good.
            "ack_emulation": False,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_timeout,
            "max_retries": 0,
            "health_check_interval": STALE_SECONDS,
            "global_keyprefix": f"cqrs:{address.namespace_of(settings)}:",
        },
    )
    return app


def work_between_tries(work: Callable[[], None]) -> None:
    """Have this process, a worker, call `work` after each try to reach a broker that is away, so every second or so."""
    _Connection.between_tries = staticmethod(work)


def wake(app: Celery, task: str) -> None:
    """Send the task, unless a message waits in its queue: the worker that takes that one finds this work, too.

    Raises BrokerDown; blocks for the app's socket timeout at most.
    """
    _client(app).eval(_SEND, 1, key(app, QUEUES[task]), _kept(task))


@cache
def key(app: Celery, name: str) -> str:
    """The key as it stands in Redis: Celery puts its prefix before the keys of some commands, but not of scripts."""
    prefix: str = app.conf.broker_transport_options["global_keyprefix"]
    return prefix + name


class Waker:
    """Wakes workers. `down`: the last message could not be sent. Of failures in a row only the first is logged."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.down = False

    def wake(self, task: str) -> None:
        """Send the task's message. One that can't be sent is dropped: workers look by themselves, too."""
        try:
            wake(self._app, task)
        except BrokerDown as error:
            if not self.down:
                log.warning("no worker can be woken: work waits until they look by themselves", error=reason_of(error))
            self.down = True
        else:
            self.down = False


def trouble(app: Celery) -> str:
    """Why no worker can be woken; "" if all is well, and then it wakes them. Blocks for the socket timeout at most."""
    try:
        for task, queue in QUEUES.items():
            _client(app).eval(_TRY, 1, key(app, queue), _kept(task))
    except BrokerDown as error:
        return in_words(error)
    return ""


def in_words(error: BaseException) -> str:
    """What is wrong with Redis, by an error; "down" if Redis didn't answer."""
    return reason_of(error) if isinstance(origin(error), _ANSWERS) else "down"


def workers(app: Celery, *, within: float) -> tuple[dict[str, list[str]], str]:
    """The workers that answer within so many seconds, by role, and why none can be asked, if so.

    A worker answers from the loop that runs its tasks: a frozen one doesn't. `within` is less than the app's timeout.
    """
    found: dict[str, list[str]] = {}
    unasked = ""
    try:
        found = alive(app, within=within)
    except BrokerDown as error:
        unasked = in_words(error)
    return {role: found.get(queue, []) for role, queue in WORKERS.items()}, unasked


def alive(app: Celery, *, within: float) -> dict[str, list[str]]:
    """The workers that answer within so many seconds, by the queue they take from. Raises BrokerDown."""
    found: dict[str, list[str]] = defaultdict(list)
    with app.connection_for_write() as connection:  # none of the pool's: late answers may still come to it
        workers = app.control.inspect(timeout=within, connection=connection).active_queues()
    for worker, queues in sorted((workers or {}).items()):
        for queue in queues:
            found[queue["name"]].append(worker)
    return found


def waiting(app: Celery) -> dict[str, int]:
    """How many messages each queue has. Raises BrokerDown."""
    return {queue: _client(app).llen(queue) for queue in QUEUES.values()}


@cache
def _client(app: Celery) -> Any:
    """Celery's client of Redis, which connects anew by itself. To take it from Celery's pool costs as much as to send.

    Raises BrokerDown as long as there was no connection.
    """
    return app.connection_for_write().default_channel.client


@cache
def _kept(task: str) -> str:
    """The task's message as Celery makes it, taken from a queue in memory. Celery takes a millisecond to make one."""
    app = Celery("cqrs", set_as_current=False)
    app.conf.update(_TASKS)
    with Connection("memory://") as memory:
        channel: Any = memory.default_channel
        with app.amqp.Producer(channel) as producer:
            app.send_task(task, task_id=_ID, producer=producer, ignore_result=True)
        message = channel._get(QUEUES[task])  # noqa: SLF001
    message["properties"]["delivery_tag"] = _ID
    return str(dumps(message))

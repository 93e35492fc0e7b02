"""What the service is told from outside, all of it: environment variables, or a `.env` file."""

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, field_serializer, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url

UNIX_SOCKET_PATH_MAX = 100  # the kernels' limit is 104 (macOS) or 108 (Linux) bytes


class Settings(BaseSettings):
    """Every setting is `CQRS_` and its name in capitals; an unset URL means a file in `data_dir`."""

    model_config = SettingsConfigDict(
        env_prefix="CQRS_",
        env_file=".env",
        secrets_dir=os.environ.get("CQRS_SECRETS_DIR") or None,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Path("data")
    redis_url: str = ""
    installation: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """What this installation's keys in Redis are named after; by default, where its event store is."""
    inbox_url: str = ""
    event_store_url: str = ""
    read_model_url: str = ""
    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=1, le=65535)
    max_wait: float = Field(30.0, ge=0, allow_inf_nan=False)
    """Seconds; the longest that `Prefer: wait` is honoured."""
    max_backlog: int = Field(100_000, ge=1)
    """Commands that may wait to be handled; beyond, none is accepted."""
    max_streams: int = Field(500, ge=0)
    """Answers of one API process that may stay open, as streams do; beyond, none is begun."""
    max_streams_per_client: int = Field(100, ge=1)
    max_waits: int = Field(2000, ge=0)
    """Requests at one API process that may wait for what workers do; beyond, they are answered as it is now."""
    max_waits_per_client: int = Field(1000, ge=1)
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks, with commas between, whose `X-Forwarded-For` names the client; from elsewhere it is ignored."""
    max_connections: int = Field(4000, ge=1)
    """Connections of one API process; beyond, those that have waited longest for a request are closed."""
    max_head: int = Field(64 * 1024, ge=1024)
    """Bytes of a request's line and headers together; of a chunked body, all that isn't its content."""
    max_headers: int = Field(100, ge=1)
    max_body: int = Field(64 * 1024, ge=1024)
    """Bytes of a request's body."""
    head_timeout: float = Field(10.0, gt=0, allow_inf_nan=False)
    """Seconds from the first byte of a request to the end of its headers."""
    body_timeout: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Seconds from the end of the headers to the end of the body."""
    idle_timeout: float = Field(15.0, gt=0, allow_inf_nan=False)
    """Seconds that a connection may stay open without a request."""
    allowed_hosts: str = ""
    """What requests may name as their host besides this machine; unset, an API bound to more than it takes any."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Where a worker or beat shows its metrics; the API does so at `/metrics`."""
    alive_file: Path | None = None
    """A file that a worker or beat touches every few seconds, for a health check to look at."""

    log_format: Literal["console", "json"] = "console"
    """Lines for people, or for machines."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of this project's lines; libraries say what is a warning at least."""

    @field_validator("data_dir", "alive_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().resolve()

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_serializer("trusted_proxies")
    def _networks_as_text(self, value: tuple[IPv4Network | IPv6Network, ...]) -> str:
        """As a variable has it: `cqrs up` gives its roles all of them."""
        return ",".join(map(str, value))

    @field_validator("inbox_url", "event_store_url", "read_model_url")
    @classmethod
    def _store(cls, value: str) -> str:
        """A file's with an absolute path: the roles need not run in one folder."""
        if value.startswith("postgresql+psycopg://"):
            _check(make_url, value)
            return value
        if value and not re.match("sqlite:///.", value):
            raise ValueError("sqlite:///PATH and postgresql+psycopg://USER@HOST/DATABASE are what it may look like")
        return value and f"sqlite:///{Path(value.removeprefix('sqlite:///')).resolve()}"

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and not re.fullmatch(r"rediss?://[^/?#]*(/\d*)?(\?.*)?|redis\+socket://.+", value):
            raise ValueError("redis://HOST:PORT/0 is what it looks like, for Valkey too")
        _check(lambda url: urlsplit(url).port, value)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        hosts = [each.strip().lower() for each in value.split(",") if each.strip()]
        if not all(re.fullmatch(r"\*|([\w.-]+|\[[\da-f:.]+\])(:\d+)?", each, re.ASCII) for each in hosts):
            raise ValueError("names with commas between, as in example.org,example.org:8443, or *")
        return ",".join(hosts)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        files = [url for url in (self.inbox, self.event_store, self.read_model) if url.startswith("sqlite:")]
        if len(set(files)) < len(files):
            raise ValueError("the stores must be files of their own")
        return self

    @property
    def inbox(self) -> str:
        return self.inbox_url or f"sqlite:///{self.data_dir / 'inbox.db'}"

    @property
    def event_store(self) -> str:
        return self.event_store_url or f"sqlite:///{self.data_dir / 'events.db'}"

    @property
    def read_model(self) -> str:
        return self.read_model_url or f"sqlite:///{self.data_dir / 'read.db'}"

    def read_model_of(self, projection: str) -> str:
        """Where a projection keeps its rows: on SQLite in a file of its own, since each has one write lock."""
        if not self.read_model.startswith("sqlite:"):
            return self.read_model
        path = Path(self.read_model.removeprefix("sqlite:///"))
        return f"sqlite:///{path.with_stem(f'{path.stem}-{projection}')}"

    @property
    def api(self) -> str:
        """Where it answers."""
        return f"http://{f'[{self.api_host}]' if ':' in self.api_host else self.api_host}:{self.api_port}"

    @property
    def redis_socket(self) -> Path:
        """Where the embedded server listens; in a folder of its own elsewhere if the data dir's path is too long."""
        path = self.data_dir / "valkey.sock"
        if len(bytes(path)) <= UNIX_SOCKET_PATH_MAX:
            return path
        digest = hashlib.sha256(bytes(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cqrs-{digest}" / "valkey.sock"

    @property
    def redis(self) -> str:
        """Raises OSError if somebody else may listen there."""
        if not self.redis_url and (folder := self.redis_socket.parent) != self.data_dir:
            check_socket_folder(folder, self.data_dir)
        return self.redis_url or f"redis+socket://{quote(str(self.redis_socket))}"

    @property
    def installed_as(self) -> str:
        """The same for all roles, also if each is a user of its own in the database."""
        return self.installation or hashlib.sha256(_place(self.event_store).encode()).hexdigest()[:12]


def _place(url: str) -> str:
    """A store's URL without who asks, and how."""
    if url.startswith("sqlite:"):
        return url
    parsed = make_url(url)
    hosts = parsed.normalized_query.get("host") or (parsed.host or "localhost",)
    ports = parsed.normalized_query.get("port") or (str(parsed.port or 5432),)
    return f"{','.join(hosts)}:{','.join(ports)}/{parsed.database or parsed.username}"


def check_socket_folder(folder: Path, data_dir: Path) -> None:
    """Anybody can guess its name. Raises OSError unless it is its owner's alone, who is this user or the data dir's."""
    with suppress(FileNotFoundError):
        its = folder.lstat()
        owners = {os.geteuid(), *(each.stat().st_uid for each in [data_dir] if each.exists())}
        if not stat.S_ISDIR(its.st_mode) or its.st_uid not in owners or its.st_mode & 0o077:
            raise PermissionError(f"{folder}, where the embedded Valkey is to listen, is open to others")


def _check(parse: Callable[[str], object], url: str) -> None:
    try:
        parse(url)
    except ValueError:
        raise ValueError("it is no URL, or its port is no number") from None  # Python's words have a part of it

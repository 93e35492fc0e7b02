"""The settings of the service, all of them: environment variables, or lines of a `.env` file."""

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_serializer, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url

from shared.access.roles import ROLES, Role, roles_of


class Settings(BaseSettings):
    """All settings. A setting's variable is its name in capitals after `CQRS_`.

    A store without a URL is a file in `data_dir`; Redis without a URL is the embedded Valkey.
    """

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
    """The name of this installation in the keys of Redis; by default a hash of the event store's address."""
    inbox_url: str = ""
    event_store_url: str = ""
    read_model_url: str = ""
    subjects_url: str = ""
    """The store of the keys of people; to be named if another store is on PostgreSQL, and to be backed up apart."""
    master_key: SecretStr | None = None
    """64 hex digits: the key under which the keys of people rest. Others, after commas, are former ones.

    Unset: the file `master.key` in the data dir, which `cqrs init` makes.
    """
    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=1, le=65535)
    auth: Literal["", "on", "off"] = ""
    """`on`: requests need a key or a token. `off`: anybody may do anything. Unset: off on loopback, else on."""
    operator_key: SecretStr | None = None
    """A key that `cqrs init` makes known, with the role `operator`: the first one of an installation in containers."""
    prometheus_key: SecretStr | None = None
    """Another one, with which Prometheus asks for metrics."""
    oidc_issuer: str = ""
    """The identity provider whose tokens are taken: its URL, as in the claim `iss`."""
    oidc_audience: str = Field("", validate_default=True)
    """What tokens must name in the claim `aud`."""
    oidc_jwks: str = ""
    """The provider's keys: a URL or a file. Unset: where its discovery document says."""
    oidc_roles_claim: str = "roles"
    """The claim that has a caller's roles; `a.b` is the field `b` of the claim `a`."""
    oidc_roles: str = ""
    """Roles by the claim's values, as in `staff:reader,staff:auditor`. Unset: values that are names of roles."""
    max_rate_per_key: int | None = Field(None, ge=0)
    """Requests a second of each key. 0: any number. Unset: 1,000 where requests need a key."""
    max_rate_per_address: int | None = Field(None, ge=0)
    """Requests a second of each address, of those without a key. 0: any number. Unset: 100 where they need one."""
    api_url: str = ""
    """The URL of an API elsewhere, which `cqrs status` and `cqrs commands` ask in the place of the stores."""
    api_key: SecretStr | None = None
    """The key with which they ask it."""
    max_wait: float = Field(30.0, ge=0, allow_inf_nan=False)
    """Seconds for which `Prefer: wait` is honoured at most."""
    max_backlog: int = Field(100_000, ge=1)
    """Commands that may wait to be handled; further commands are refused."""
    keep_commands: int = Field(90, ge=0, le=36_500)
    """Days for which the inbox keeps handled commands' data and idempotency keys. 0: for ever."""
    max_streams: int = Field(500, ge=0)
    """Answers that one API process may be streaming at once (the feed of events); further requests are refused."""
    max_streams_per_client: int = Field(100, ge=1)
    max_waits: int = Field(2000, ge=0)
    """Requests that may wait for workers at one API process; further ones are answered without waiting."""
    max_waits_per_client: int = Field(1000, ge=1)
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks, with commas between, of proxies whose header `X-Forwarded-For` is believed; others' is ignored."""
    max_connections: int = Field(4000, ge=1)
    """Connections of one API process. Each further one closes one that has long been idle."""
    max_head: int = Field(64 * 1024, ge=1024)
    """Bytes of a request's line and headers together; and of the chunk sizes and trailers of a chunked body."""
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
    """Hosts that a request's `Host` may name, with commas between, besides this machine's own names.

    If unset, an API that listens for other machines takes any host.
    """
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """The port at which a worker shows its metrics; the API shows them at `/metrics`."""
    alive_file: Path | None = None
    """A file that a worker touches every few seconds, for a health check to look at."""

    log_format: Literal["console", "json"] = "console"
    """The form of log lines: for people, or for machines."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level of this project's log lines; libraries log from warnings on."""

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
        """The networks as a variable has them: `cqrs up` passes all settings on to its roles."""
        return ",".join(map(str, value))

    @field_validator("inbox_url", "event_store_url", "read_model_url", "subjects_url")
    @classmethod
    def _store(cls, value: str) -> str:
        """A file's URL gets an absolute path, since roles may run in other folders."""
        if value.startswith("postgresql+psycopg://"):
            _check(make_url, value)
            return value
        if value and not re.match("sqlite:///.", value):
            raise ValueError("must look like sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE")
        return value and f"sqlite:///{Path(value.removeprefix('sqlite:///')).resolve()}"

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and not re.fullmatch(r"rediss?://[^/?#]*(/\d*)?(\?.*)?|redis\+socket://.+", value):
            raise ValueError("must look like redis://HOST:PORT/0, for Valkey too")
        _check(lambda url: urlsplit(url).port, value)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        hosts = [each.strip().lower() for each in value.split(",") if each.strip()]
        if not all(re.fullmatch(r"\*|([\w.-]+|\[[\da-f:.]+\])(:\d+)?", each, re.ASCII) for each in hosts):
            raise ValueError("must be names with commas between, as in example.org,example.org:8443, or *")
        return ",".join(hosts)

    @field_validator("oidc_issuer", "oidc_jwks")
    @classmethod
    def _provider(cls, value: str, info: ValidationInfo) -> str:
        """A file's path becomes absolute, since roles may run in other folders."""
        if value and info.field_name == "oidc_jwks" and "://" not in value:
            return str(Path(value).expanduser().resolve())
        if value and not (is_secure(value) and re.fullmatch(r"[!-~]+", value) and not re.search("[@?#]", value)):
            raise ValueError("must look like https://HOST/PATH; http is for this machine alone")
        return value

    @field_validator("oidc_audience")
    @classmethod
    def _audience(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not value:
            raise ValueError("must be set if CQRS_OIDC_ISSUER is: without it, tokens for other services would count")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _roles(cls, value: str) -> str:
        pairs = [each.strip().rpartition(":") for each in value.split(",") if each.strip()]
        if not all(claimed and role in ROLES for claimed, _, role in pairs):
            raise ValueError(f"must look like staff:reader,staff:auditor; the roles are {', '.join(ROLES)}")
        return ",".join(map("".join, pairs))

    @field_validator("master_key")
    @classmethod
    def _master_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(
            r"[0-9a-f]{64}(\s*,\s*[0-9a-f]{64})*\s*", value.get_secret_value(), re.IGNORECASE
        ):
            raise ValueError("must be 64 hexadecimal digits; after a comma, a former key")
        return value

    @model_validator(mode="after")
    def _subjects_named(self) -> Self:
        if not self.subjects_url and "postgresql" in f"{self.inbox_url}{self.event_store_url}{self.read_model_url}":
            raise ValueError(
                "CQRS_SUBJECTS_URL must be set if another store is on PostgreSQL: all hosts need the same keys"
            )
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        urls = (self.inbox, self.event_store, self.read_model, self.subjects)
        files = [url for url in urls if url.startswith("sqlite:")]
        if len(set(files)) < len(files):
            raise ValueError("each store must be a file of its own")
        return self

    def variables(self, *, exclude_unset: bool = False) -> dict[str, str]:
        """The environment that gives a process these settings. Secrets are in the clear there."""
        given = self.model_dump(exclude_none=True, exclude_unset=exclude_unset)
        return {
            f"CQRS_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
        }

    @property
    def closed(self) -> bool:
        """Whether requests to the API need a key or a token."""
        return self.closed_at(self.api_host)

    def closed_at(self, host: str) -> bool:
        """Whether whatever a role serves at this host needs a key: the API, or a worker's metrics."""
        return self.auth == "on" or (not self.auth and not is_loopback(host))

    @property
    def claimed_roles(self) -> dict[str, frozenset[Role]]:
        """The roles that each value of the claim `oidc_roles_claim` stands for."""
        pairs = [each.rpartition(":") for each in self.oidc_roles.split(",") if each]
        by_value = [(claimed, role) for claimed, _, role in pairs] or list(zip(ROLES, ROLES, strict=True))
        return {claimed: roles_of(role for its, role in by_value if its == claimed) for claimed, _ in by_value}

    @property
    def inbox(self) -> str:
        """The URL of the inbox."""
        return self.inbox_url or f"sqlite:///{self.data_dir / 'inbox.db'}"

    @property
    def event_store(self) -> str:
        """The URL of the event store."""
        return self.event_store_url or f"sqlite:///{self.data_dir / 'events.db'}"

    @property
    def read_model(self) -> str:
        """The URL of the read model. On SQLite only a pattern: each projection has a file (`read_model_of`)."""
        return self.read_model_url or f"sqlite:///{self.data_dir / 'read.db'}"

    @property
    def subjects(self) -> str:
        """The URL of the store of people's keys."""
        return self.subjects_url or f"sqlite:///{self.data_dir / 'subjects.db'}"

    @property
    def master_file(self) -> Path:
        """The file that has the master key if no setting has it."""
        return self.data_dir / "master.key"

    def read_model_of(self, projection: str) -> str:
        """The URL of a projection's tables: on SQLite each has a file of its own, since a file has one write lock."""
        if not self.read_model.startswith("sqlite:"):
            return self.read_model
        path = Path(self.read_model.removeprefix("sqlite:///"))
        return f"sqlite:///{path.with_stem(f'{path.stem}-{projection}')}"

    @property
    def api(self) -> str:
        """The URL of the API."""
        return f"http://{f'[{self.api_host}]' if ':' in self.api_host else self.api_host}:{self.api_port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_secure(url: str) -> bool:
    """Whether nobody between can change what comes from the URL: it is https, or of this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises, too
    except ValueError:
        return False
    host = parts.hostname or ""
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _check(parse: Callable[[str], object], url: str) -> None:
    try:
        parse(url)
    except ValueError:
        raise ValueError("must be a URL, whose port is a number") from None  # Python's text quotes the URL

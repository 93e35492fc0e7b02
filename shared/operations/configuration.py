"""The configuration in effect: every setting, its value, and where it comes from; `cqrs config` and the console."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr
from pydantic_core import from_json, to_json
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SecretsSettingsSource
from sqlalchemy import make_url

from shared.broker import address
from shared.settings import Settings

SOURCES = {"environment": EnvSettingsSource, ".env": DotEnvSettingsSource, "secret file": SecretsSettingsSource}
"""Where settings may come from. The first that has a setting wins."""

DEFAULT = "default"

SECRETS_DIR = "CQRS_SECRETS_DIR"

TOLD = "CQRS_SETTINGS_FROM"
"""The variable by which `cqrs up` tells its roles where their settings came from: to them all are environment."""

HIDDEN = "***"


class Setting(NamedTuple):
    """A setting: its value, without passwords and None if it has none, and where it comes from."""

    value: Any
    source: str
    is_secret: bool = False
    """Whether its value is HIDDEN, if it has one."""


def configuration(settings: Settings) -> dict[str, Setting]:
    """The settings by their variables."""
    sources = sources_of()
    values = settings.model_dump() | _effective(settings)
    shown = {f"CQRS_{name.upper()}": _shown(value, sources.get(name, DEFAULT)) for name, value in values.items()}
    folder = os.environ.get(SECRETS_DIR)
    return shown | {SECRETS_DIR: Setting(folder or None, "environment" if folder else DEFAULT)}


def sources_of() -> dict[str, str]:
    """Where settings come from, by their names; those that have their default are left out."""
    if told := os.environ.get(TOLD):
        its: dict[str, str] = from_json(told)
        return its
    return dict(_found())


def told(sources: Mapping[str, str]) -> dict[str, str]:
    """The environment that tells a role where its settings come from."""
    return {TOLD: to_json(sources).decode()}


def masked(value: Any) -> Any:
    """A URL without its passwords; a value that is no URL of a server, as it is."""
    if not isinstance(value, str) or value.startswith("sqlite:") or "://" not in value:
        return value
    try:
        url = make_url(value)
    except ValueError:
        return HIDDEN
    if "@" in f"{url.host}{url.database}":  # of a password that has an @
        return f"{url.drivername}://{HIDDEN}"
    passwords = {name: HIDDEN for name in url.query if "pass" in name.lower()}
    return url.update_query_dict(passwords).render_as_string().replace(quote(HIDDEN), HIDDEN)


def _effective(settings: Settings) -> dict[str, str]:
    """The URLs in effect, also where the settings have none."""
    return {
        "redis_url": address.url_of(settings),
        "inbox_url": settings.inbox,
        "event_store_url": settings.event_store,
        "read_model_url": settings.read_model,
        "subjects_url": settings.subjects,
    }


def _shown(value: Any, source: str) -> Setting:
    if isinstance(value, SecretStr):
        return Setting(HIDDEN, source, is_secret=True)
    return Setting(masked(value if value is None or isinstance(value, int | float) else str(value)), source)


def _found() -> Iterator[tuple[str, str]]:
    for where, source in reversed(SOURCES.items()):
        yield from dict.fromkeys(source(Settings)(), where).items()

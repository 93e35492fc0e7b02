"""`cqrs config`: every setting, its value, and where it came from."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SecretsSettingsSource

from shared.settings import Settings

SOURCES = {"environment": EnvSettingsSource, ".env": DotEnvSettingsSource, "secret file": SecretsSettingsSource}
"""The first that has a setting wins."""

SECRETS_DIR = "CQRS_SECRETS_DIR"


def config(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each setting's `value`, without passwords, and where it is `from`."""
    found = {where: source(Settings)() for where, source in SOURCES.items()}
    shown = {
        f"CQRS_{name.upper()}": {"value": masked(_plain(value)), "from": _source(name, found)}
        for name, value in (settings.model_dump() | _effective(settings)).items()
    }
    folder = os.environ.get(SECRETS_DIR)
    return shown | {SECRETS_DIR: {"value": folder or None, "from": "environment" if folder else "default"}}


def masked(value: Any) -> Any:
    """A server's URL without its passwords; what is none, as it is."""
    if not isinstance(value, str) or value.startswith("sqlite:") or "://" not in value:
        return value
    url = urlsplit(value)
    user, at, host = url.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = re.sub(r"(?i)((?:^|&)[^=&]*pass[^=&]*=)[^&]*", r"\1***", url.query)
    return urlunsplit(url._replace(netloc=f"{name}{colon and ':***'}{at}{host}", query=query))


def _effective(settings: Settings) -> dict[str, str]:
    """What unset URLs come to."""
    return {
        "redis_url": settings.redis,
        "inbox_url": settings.inbox,
        "event_store_url": settings.event_store,
        "read_model_url": settings.read_model,
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else str(value)


def _source(name: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    return next((where for where, its in found.items() if name in its), "default")

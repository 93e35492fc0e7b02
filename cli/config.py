"""`cqrs config`: every setting, its value, and where it comes from."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SecretsSettingsSource
from sqlalchemy import make_url

from shared.broker import address
from shared.settings import Settings

SOURCES = {"environment": EnvSettingsSource, ".env": DotEnvSettingsSource, "secret file": SecretsSettingsSource}
"""Where settings may come from. The first that has a setting wins."""

SECRETS_DIR = "CQRS_SECRETS_DIR"

HIDDEN = "***"


def config(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings by their variables: the `value`, without passwords, and where it is `from`."""
    found = {where: source(Settings)() for where, source in SOURCES.items()}
    shown = {
        f"CQRS_{name.upper()}": {"value": masked(_plain(value)), "from": _source(name, found)}
        for name, value in (settings.model_dump() | _effective(settings)).items()
    }
    folder = os.environ.get(SECRETS_DIR)
    return shown | {SECRETS_DIR: {"value": folder or None, "from": "environment" if folder else "default"}}


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


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else str(value)


def _source(name: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    return next((where for where, has in found.items() if name in has), "default")

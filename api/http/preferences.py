"""The `Prefer` header (RFC 7240), of which `wait` is honoured."""

import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import Header

Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: answer when the work is done, or after N seconds (RFC 7240)", examples=["wait=5"]),
]

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 RFC 9110, section 5.6.2

QUOTED = r'"(?:[^"\\]|\\.)*+"'

# Possessive throughout: whatever is sent, each character is looked at once.
PREFERENCE = re.compile(
    rf"[ \t]*+(?P<name>{TOKEN})[ \t]*+(?:=[ \t]*+(?P<value>{TOKEN}|{QUOTED})?+[ \t]*+)?+(?:;.*+)?+", re.DOTALL
)
"""A name, its value, and what else is said of it."""

ELEMENT = re.compile(rf"(?:[^,\"]|{QUOTED}?)++", re.DOTALL)
"""What stands between two commas; a comma in quotes separates nothing."""


def wait_of(prefer: str | None, *, longest: float) -> float | None:
    """The seconds of `wait=N`, `longest` at most; None if `wait` is not asked for, or not as RFC 7240 has it."""
    if prefer is None:
        return None
    asked = next((value for name, value in _preferences(prefer) if name == "wait"), "")
    if not re.fullmatch("[0-9]+", asked):
        return None
    return longest if len(asked) > 9 else min(float(asked), longest)


def applied(wait: float | None) -> dict[str, str]:
    """The header that tells how long was waited at most."""
    return {} if wait is None else {"Preference-Applied": f"wait={wait:g}"}


def _preferences(prefer: str) -> Iterator[tuple[str, str]]:
    """Names in lower case, with their values. What is no preference by the grammar is passed over."""
    for element in ELEMENT.findall(prefer):
        if match := PREFERENCE.fullmatch(element):
            yield match["name"].lower(), _word(match["value"] or "")


def _word(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value.startswith('"') else value

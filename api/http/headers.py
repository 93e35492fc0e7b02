"""The headers that say how a request is to be answered.

`If-Match` and `If-None-Match` make it conditional (RFC 9110, section 13.1): their tags are versions in quotes. Of
`Prefer` (RFC 7240) `wait` is honoured.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

from fastapi import Header, Request, Response

from api.http.problems import Problem
from shared.preconditions import EXISTS, Precondition

TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t,]*|$)')
"""An entity tag and what separates it from the next one."""

VERSION = re.compile("[1-9][0-9]{0,17}")
"""What this API has in a tag."""

NAMES = {b"if-match": "If-Match", b"if-none-match": "If-None-Match"}

ANY: Literal["*"] = "*"

MISSING = Precondition(frozenset({0}))


class Tag(NamedTuple):
    """An entity tag: what stands in its quotes, and whether it is weak."""

    weak: bool
    opaque: str


Tags = list[Tag] | Literal["*"]


def tag_of(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def unmet(request: Request, version: int) -> Response | None:
    """The 304 for a query whose answer, at this version, the caller has. Raises Problem for a condition that fails."""
    match, none_match = _conditions(request)
    if match and not match.holds(version):
        raise _conflict(f"It is at version {version}, and `If-Match` names others.")
    if none_match and not none_match.holds(version):
        return Response(status_code=304, headers={"ETag": tag_of(version)})
    return None


def asked_of(request: Request, *, new: bool) -> Precondition | None:
    """What a command's request asks of the version that it changes, None if nothing. `new`: it adds to a collection.

    Raises Problem for what no version meets.
    """
    match, none_match = _conditions(request)
    asked = match.and_(none_match) if match and none_match else match or none_match
    if new:
        if asked and not asked.excluded:
            raise _conflict("What this adds to has no tag, and is there.")
        return None
    if asked and not asked.excluded and not asked.versions:
        raise _conflict("No version meets what `If-Match` and `If-None-Match` ask for.")
    return asked


def _conditions(request: Request) -> tuple[Precondition | None, Precondition | None]:
    """What `If-Match` asks for, and `If-None-Match`."""
    lines: dict[str, list[str]] = {}
    for name, value in request.scope["headers"]:
        if name in NAMES:
            lines.setdefault(NAMES[name], []).append(value.decode("latin-1"))
    if not lines:
        return None, None
    tags = {name: _tags(name, ", ".join(values)) for name, values in lines.items()}
    return _matching(tags.get("If-Match")), _other(tags.get("If-None-Match"))


def _tags(name: str, text: str) -> Tags:
    """Raises Problem for what is no list of tags; empty elements are none (RFC 9110, section 5.6.1.2)."""
    text = text.strip(" \t")
    if text == ANY:
        return ANY
    tags: list[Tag] = []
    at = len(text) - len(text.lstrip(" \t,"))
    while at < len(text):
        match = TAG.match(text, at)
        if not match:
            raise Problem("malformed-header", 400, f"{name} must be * or tags in quotes, with commas between.")
        tags.append(Tag(bool(match["weak"]), match["opaque"]))
        at = match.end()
    return tags


def _matching(tags: Tags | None) -> Precondition | None:
    """By strong comparison: a weak tag is never the same."""
    if tags is None or tags == ANY:
        return tags and EXISTS
    return Precondition(_versions(tag for tag in tags if not tag.weak))


def _other(tags: Tags | None) -> Precondition | None:
    """By weak comparison."""
    if tags is None or tags == ANY:
        return tags and MISSING
    return Precondition(_versions(tags), excluded=True)


def _versions(tags: Iterable[Tag]) -> frozenset[int]:
    """The versions that are in tags; a tag that holds none is of somebody else."""
    return frozenset(int(tag.opaque) for tag in tags if VERSION.fullmatch(tag.opaque))


def _conflict(detail: str) -> Problem:
    return Problem("version-conflict", 412, detail)


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

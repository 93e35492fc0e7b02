"""Conditional requests: `If-Match` and `If-None-Match` (RFC 9110, section 13.1), whose tags are versions in quotes."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from fastapi import Request, Response

from api.http.problems import Problem
from shared.preconditions import EXISTS, Precondition
from shared.stores.inbox import Submission

TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t,]*|$)')
"""An entity tag and what separates it from the next one."""

OURS = re.compile("[1-9][0-9]{0,17}")

NAMES = {b"if-match": "If-Match", b"if-none-match": "If-None-Match"}

ANY: Literal["*"] = "*"

MISSING = Precondition(frozenset({0}))


class Tag(NamedTuple):
    weak: bool
    opaque: str


Tags = list[Tag] | Literal["*"]


def tag_of(version: int) -> str:
    return f'"{version}"'


def unmet(request: Request, version: int) -> Response | None:
    """The 304 for a query whose answer, at this version, the caller has. Raises Problem for a condition that fails."""
    conditions = _conditions(request)
    if "If-Match" in conditions and not _matching(conditions["If-Match"]).holds(version):
        raise _conflict(f"It is at version {version}, and `If-Match` names others.")
    if "If-None-Match" in conditions and not _other(conditions["If-None-Match"]).holds(version):
        return Response(status_code=304, headers={"ETag": tag_of(version)})
    return None


def conditional(request: Request, submission: Submission) -> Submission:
    """With what the request asks of the version. Raises Problem for what no version meets."""
    conditions = _conditions(request)
    if not conditions:
        return submission
    asked = Precondition(frozenset(), excluded=True)
    if "If-Match" in conditions:
        asked = asked.and_(_matching(conditions["If-Match"]))
    if "If-None-Match" in conditions:
        asked = asked.and_(_other(conditions["If-None-Match"]))
    if submission.id is None:
        return _of_collection(submission, asked)
    if not asked.excluded and not asked.versions:
        raise _conflict("No version meets what `If-Match` and `If-None-Match` ask for.")
    return submission.required(asked)


def _of_collection(submission: Submission, asked: Precondition) -> Submission:
    """What is added to is there, and has no tag."""
    if not asked.excluded:
        raise _conflict("What this adds to has no tag, and is there.")
    return submission


def _conditions(request: Request) -> dict[str, Tags]:
    lines: dict[str, list[str]] = {}
    for name, value in request.scope["headers"]:
        if name in NAMES:
            lines.setdefault(NAMES[name], []).append(value.decode("latin-1"))
    return {name: _tags(name, ", ".join(values)) for name, values in lines.items()}


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


def _matching(tags: Tags) -> Precondition:
    """By strong comparison: a weak tag is never the same."""
    return EXISTS if tags == ANY else Precondition(_versions(tag for tag in tags if not tag.weak))


def _other(tags: Tags) -> Precondition:
    """By weak comparison."""
    return MISSING if tags == ANY else Precondition(_versions(tags), excluded=True)


def _versions(tags: Iterable[Tag]) -> frozenset[int]:
    """Those of tags that are of here; others are nobody's."""
    return frozenset(int(tag.opaque) for tag in tags if OURS.fullmatch(tag.opaque))


def _conflict(detail: str) -> Problem:
    return Problem("version-conflict", 412, detail)

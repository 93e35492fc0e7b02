"""How values look on pages: times, numbers, lengths of time, JSON."""

import json
import re
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

from markupsafe import Markup

NOTHING = "–"  # noqa: RUF001 a dash, as people write it

BETWEEN_WORDS = re.compile("(?<=[a-z])(?=[A-Z])")

MINUTE, HOUR, DAY = 60, 3600, 86400


def same(given: str, right: str) -> bool:
    """Whether two secrets are the same, in a time that tells nothing."""
    return bool(right) and compare_digest(given.encode(), right.encode())


def time(text: str | None) -> Markup | str:
    """A stored time as people read it, with its zone."""
    if not text:
        return NOTHING
    day, _, rest = text.partition("T")
    shown = f"{day} {rest.removesuffix('Z')[:12]} UTC" if rest.endswith("Z") else text
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def number(value: float | None) -> str:
    """A number with commas between thousands."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:,.1f}"


def seconds(value: float | None) -> str:
    """A length of time in the unit that suits it."""
    if value is None:
        return NOTHING
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1000:.{0 if value >= 0.1 else 1}f} ms"


def size(value: float | None) -> str:
    """Bytes, in the unit that suits them."""
    if value is None:
        return NOTHING
    for unit, its in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= its:
            return f"{value / its:.1f} {unit}"
    return f"{value:.0f} B"


def pretty(value: Any) -> str:
    """JSON over several lines."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False)


def words(name: str) -> str:
    """The name of a class as words: `key added` for `KeyAdded`."""
    return BETWEEN_WORDS.sub(" ", name).lower()


FILTERS: dict[str, Callable[..., Any]] = {
    "time": time,
    "number": number,
    "seconds": seconds,
    "size": size,
    "pretty": pretty,
    "words": words,
}

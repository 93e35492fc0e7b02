"""Names that are accepted: they show something, and nothing that changes how the text around them reads."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

CONTROLS = {"Cc", "Zl", "Zp", "Cs"}

DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates (UAX 9, 2.1-2.4): they reach beyond the name. Marks, as U+200F, don't."""

HIDDEN = re.compile("[\ufff9-\ufffb\u206a-\u206f\U000e0000-\U000e007f]")
"""Annotations, deprecated formats and tags: text within the text, or what Unicode asks not to be used."""

UNSEEN = {"Cf", "Zs"}

BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U0001d159\U000e0000-\U000e0fff]"
)
"""Invisible characters of other categories: fillers, selectors (Default_Ignorable_Code_Point), and blanks."""


def _name(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    if any(unicodedata.category(character) in CONTROLS for character in value):
        raise ValueError("must not contain control characters")
    if found := DIRECTIONS.search(value):
        raise ValueError(f"must not contain U+{ord(found[0]):04X}, which changes the direction of text")
    if found := HIDDEN.search(value):
        raise ValueError(f"must not contain U+{ord(found[0]):04X}, which hides text or is deprecated")
    if all(BLANK.match(character) or unicodedata.category(character) in UNSEEN for character in value):
        raise ValueError("must contain a character that can be seen")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)]

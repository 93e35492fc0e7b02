"""When two e-mail addresses are the same."""

import unicodedata
from functools import lru_cache

import idna

MAX = 1000
"""Characters beyond which an address is only casefolded: normalising takes time that is quadratic in the length."""


def key(email: str) -> str:
    """Equal for addresses that no two users may hold, whatever their spelling.

    Domains are compared by their A-label (IDNA 2008 after UTS 46, as mail is sent), local parts by canonical caseless
    matching (Unicode, D145). It takes any string at all: old logs may have what no address is today.
    """
    if email.isascii():
        return email.lower()
    if len(email) > MAX:
        return email.casefold()
    local, at, domain = email.rpartition("@")
    return f"{_folded(local)}{at}{_a_label(domain)}"


def _folded(text: str) -> str:
    # NFD first, since a fold of U+0345 is a letter and no mark that could be reordered.
    folded = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", folded)


@lru_cache(4096)
def _a_label(domain: str) -> str:
    """What IDNA refuses is folded as a local part is."""
    if domain.isascii():
        return domain.lower()
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
        return ".".join(idna.alabel(label).decode() for label in mapped.split("."))
    except (idna.IDNAError, ValueError, IndexError):
        return _folded(domain)

"""Keys of e-mail addresses: two addresses with the same key count as one."""

import unicodedata
from functools import lru_cache

import idna

NORMALISED_MAX = 1000
"""Characters of the longest address that is normalised, which takes quadratic time; longer ones are just casefolded."""


def key(email: str) -> str:
    """The key of an address: equal for two spellings that only one user may hold.

    Domains are compared by their A-label (IDNA 2008 after UTS 46, as mail is sent), local parts by canonical caseless
    matching (Unicode, D145). Any string has a key: old logs may hold addresses that are refused today.
    """
    if email.isascii():
        return email.lower()
    if len(email) > NORMALISED_MAX:
        return email.casefold()
    local, at, domain = email.rpartition("@")
    return f"{_folded(local)}{at}{_a_label(domain)}"


def _folded(text: str) -> str:
    # NFD first, since a fold of U+0345 is a letter and no mark that could be reordered.
    folded = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", folded)


@lru_cache(4096)
def _a_label(domain: str) -> str:
    """The domain as its A-label; folded as a local part is, if IDNA refuses it."""
    if domain.isascii():
        return domain.lower()
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
        return ".".join(idna.alabel(label).decode() for label in mapped.split("."))
    except (idna.IDNAError, ValueError, IndexError):
        return _folded(domain)

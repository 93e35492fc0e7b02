"""When two e-mail addresses are the same."""

import unicodedata


def key(email: str) -> str:
    """Equal for addresses that no two users may hold: whatever their case, however their accents are encoded."""
    return unicodedata.normalize("NFC", email).casefold()

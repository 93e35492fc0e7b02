"""How an error is kept and shown."""

from sqlalchemy.exc import StatementError


def in_words(error: BaseException) -> str:
    """Its kind and its message, in characters that every store takes; without the statement and its values."""
    told = error.orig if isinstance(error, StatementError) and error.orig else error
    words = f"{type(told).__name__}: {told}".replace("\0", "\\x00")
    return words.encode(errors="backslashreplace").decode()

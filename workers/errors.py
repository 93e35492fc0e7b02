"""How an error is kept and shown."""

from sqlalchemy.exc import StatementError


def in_words(error: BaseException) -> str:
    """Its kind and its message, in characters that every store takes; without the statement and its values."""
    told = error.orig if isinstance(error, StatementError) and error.orig else error
    return f"{type(told).__name__}: {told}".encode(errors="backslashreplace").decode()

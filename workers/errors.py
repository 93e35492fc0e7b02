"""How an error is kept and shown."""


def in_words(error: BaseException) -> str:
    """Its kind and its message, in characters that every store takes."""
    return f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()

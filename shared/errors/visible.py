"""Visible text: characters that steer a terminal, forge a line of a log or turn text around are spelled out."""

import re

# C0, DEL and C1; line and paragraph separators; bidirectional embeddings, overrides and isolates (Trojan Source,
# CVE-2021-42574); surrogates, which no output can encode.
_BEYOND_C0 = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_steering = re.compile(f"[\x00-\x1f{_BEYOND_C0}]")
_steering_in_json = re.compile(f"[{_BEYOND_C0}]")  # JSON has no others in its strings, and line ends between them

_secret = re.compile(r"(cqrs_[0-9a-f]{8}_|eyJ(?=[\w-]{10,}\.[\w-]+\.))[\w.-]{16,}", re.ASCII)


def visible(text: str) -> str:
    r"""The text in one line: an escape character becomes `\x1b`, a line's end `\n`, and so on."""
    return text if text.isprintable() else _steering.sub(_spelled_out, text)


def visible_json(text: str) -> str:
    """The JSON document with these characters as JSON's own escapes, so that it means the same."""
    return text if text.isascii() and "\x7f" not in text else _steering_in_json.sub(_as_json, text)


def without_secrets(text: str) -> str:
    """The text without keys of this service, whose ids stay, and without tokens: whoever sent them misplaced them."""
    return _secret.sub(r"\1…", text) if "cqrs_" in text or "eyJ" in text else text


def shortened(text: str, most: int) -> str:
    """The text's first characters, `most` at most. If it had more, the last one is an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _spelled_out(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1] if found[0] < "\ud800" else f"\\u{ord(found[0]):04x}"


def _as_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"

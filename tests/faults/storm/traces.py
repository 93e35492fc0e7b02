"""What is left of people in files: the storm sends no value that is personal without a number of its own."""

import re

from shared.settings import Settings

TRACE = re.compile(rb"(?i)(?:client|probe)\d*-\d+(?=@)|Doe (?:client|probe)\d*-\d+(?=;)")

OURS = "ledger.json"


def of(value: str) -> str | None:
    """The part of a value by which it is known in a file, however it is spelled; None if it may be another's too."""
    found = TRACE.search(value.encode())
    return found[0].decode().lower() if found else None


def found(settings: Settings) -> dict[str, set[str]]:
    """The traces in all files of the data dir, and in the log beside it, each with the names of the files."""
    traces: dict[str, set[str]] = {}
    for file in (*settings.data_dir.rglob("*"), settings.data_dir.with_suffix(".log")):
        if file.is_file() and file.name != OURS:
            for trace in set(TRACE.findall(file.read_bytes())):
                traces.setdefault(trace.decode().lower(), set()).add(file.name)
    return traces

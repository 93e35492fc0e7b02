"""Text that people see steers no terminal, forges no line, and is not turned around; what is only unusual stays."""

import asyncio
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2 as sqlite3
from rich.console import Console

from cli import output
from cli.events import cloud_events
from cli.up.supervisor import Role
from shared.access.keys import new_key
from shared.errors.visible import shortened, visible, visible_json, without_secrets
from shared.messages import RecordedEvent
from shared.telemetry import logs

STEERING = {
    "a color": ("\x1b[31mred", r"\x1b[31mred"),
    "a title": ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    "C1's CSI": ("\x9b31mred", r"\x9b31mred"),
    "a line": ("a\nb\r\nc", r"a\nb\r\nc"),
    "a line of Unicode's": ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
    "rubbed out": ("abc\b\b\x7f", r"abc\x08\x08\x7f"),
    "turned around": ("\u202etxt.exe\u202c \u2066a\u2069", r"\u202etxt.exe\u202c \u2066a\u2069"),
    "half a character": ("a\ud800b", r"a\ud800b"),
    "nothing": ("a\0b", r"a\x00b"),
}
UNUSUAL = ["Zoë", "न\u200dम", "\u200f\u05e9\u05dc\u05d5\u05dd", "👩\u200d👧", "a\u00a0b", "~|'\"\\", ""]

text = pytest.mark.parametrize(("raw", "shown"), STEERING.values(), ids=STEERING)


@text
def test_what_steers_is_spelled_out(raw: str, shown: str) -> None:
    assert visible(f"before {raw} after") == f"before {shown} after"


@pytest.mark.parametrize("plain", UNUSUAL)
def test_what_does_not_stays(plain: str) -> None:
    assert visible(plain) == plain


@text
def test_a_json_document_stays_the_same_document(raw: str, shown: str) -> None:
    if "\ud800" in raw:
        return  # no document has it raw
    document = visible_json(json.dumps({"name": raw}, indent=2, ensure_ascii=False))
    assert json.loads(document) == {"name": raw}
    assert visible(document.replace("\n", "")) == document.replace("\n", "")


def test_a_shortened_text_tells_that_there_was_more() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "ab…")


@text
def test_tables_and_lines_of_the_command_are_visible(
    raw: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    Console(file=screen, soft_wrap=True, markup=False, highlight=False, width=80).print(
        output.table("name", rows=[[raw]])
    )
    assert screen.getvalue().splitlines()[1].strip() == shown
    output.say(raw)
    output.complain(raw)
    output.show_line({"name": raw})
    said, complained = capsys.readouterr()
    first, second = said.splitlines()
    assert (first, complained) == (shown, f"cqrs: {shown}\n")
    assert json.loads(second) == {"name": raw}
    assert visible(second) == second


@text
def test_a_progress_bar_shows_a_file_s_name_as_it_may_be_shown(raw: str, shown: str) -> None:
    label = output._label(f"{raw} {{x}}")
    no_task: Any = None
    assert label.render(no_task).plain == f"{shown} {{x}}"


class Screen:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@text
@pytest.mark.parametrize("format", ["json", "console"])
def test_a_log_line_is_one_line_with_nothing_that_steers(raw: str, shown: str, format: str) -> None:
    line: Any = {"event": raw, "name": raw, "names": [raw]}
    for processor in logs._json("api@host") if format == "json" else logs._console():
        line = processor(None, "info", line)
    assert visible(line) == line
    if format == "json":
        fields = json.loads(line)
        assert (fields["event"], fields["name"], fields["names"]) == (raw, raw, [raw])
    else:
        assert shown in line


def test_a_library_s_line_holds_no_error_s_own_text() -> None:
    said: list[str] = []

    class Kept(logs.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            said.append(record.getMessage())

    error = sqlite3.OperationalError("near 'canary'")
    error.sqlite_errorcode, error.sqlite_errorname = 1, "SQLITE_ERROR"
    Kept().emit(logging.LogRecord("celery", logging.ERROR, "", 0, "lost %s: %s", ("redis", error), None))
    Kept().emit(logging.LogRecord("uvicorn", logging.ERROR, "", 0, error, (), None))
    assert said == ["lost redis: SQLITE_ERROR", "SQLITE_ERROR"]


def test_what_asyncio_says_of_what_nobody_waited_for_holds_no_error_s_own_text(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("asyncio"), "propagate", False)  # to what other tests left at the root

    async def main() -> None:
        async def fail() -> None:
            raise ValueError(f"{canary} was sent")

        def fall(_: str) -> None:
            raise ValueError(f"{canary} was sent")

        asyncio.get_running_loop().call_soon(fall, canary)
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    canary, handler = "canary", logs.Handler()
    formatter: Any = logging.Formatter("%(message)s")
    formatter.formatException = lambda _: ""
    handler.setFormatter(formatter)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        asyncio.run(main())
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    lines = capfd.readouterr().err.split(
        "\n"
    )  # others' tasks, whom the garbage collector finds meanwhile, may be told of too
    assert any(line.startswith("Exception in callback test_what") for line in lines)
    assert "Task exception was never retrieved" in lines
    assert not any(canary in line for line in lines)


@text
def test_an_exported_line_is_the_same_event_and_steers_nothing(raw: str, shown: str) -> None:
    if "\ud800" in raw:
        return
    data = json.dumps({"name": raw}, ensure_ascii=False)
    event = RecordedEvent(1, "user-1", 1, "UserCreated", data, data, "2026-01-01T00:00:00.000000Z", 1)
    line = cloud_events._line(event).decode()
    assert visible(line[:-1]) == line[:-1]
    found = json.loads(line)
    assert (found["data"], json.loads(found["metadata"])) == ({"name": raw}, {"name": raw})


def test_the_supervisor_relays_what_a_role_says_without_what_steers(tmp_path: Path) -> None:
    screen: Any = Screen()
    code = r"import os; os.write(1, b'\x1b[2Jgone \xc2\x9b31m \xe2\x80\xae \x07\rforged \xff\n')"
    role = Role("rule", [sys.executable, "-c", code], folder=tmp_path, environment={}, screen=screen)
    asyncio.run(role._run_once())
    [line] = screen.said
    assert line.endswith(r"\x1b[2Jgone \x9b31m \u202e \x07\rforged \xff")


KEY = new_key("5f0c9a1e")  # the same in each of the processes that collect these tests

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.mark.parametrize("text", [KEY.text, KEY.text[:-1], KEY.text[:40], f"{KEY.text}0", TOKEN], ids=range(5))
def test_p10_of_a_key_or_token_that_was_misplaced_its_id_at_most_is_shown(text: str) -> None:
    shown = without_secrets(f"/users?key={text}&more")
    assert shown == f"/users?key={'eyJ' if text == TOKEN else f'cqrs_{KEY.id}_'}…&more"
    assert without_secrets(f'{{"a": "{text}"}} {text}').count("…") == 2


@pytest.mark.parametrize(
    "text", ["cqrs_api", "cqrs_commands_accepted_total", f"key:{KEY.id}", f"cqrs_{KEY.id}_…", "eyJ"]
)
def test_what_is_no_key_and_no_token_stays(text: str) -> None:
    assert without_secrets(text) == text

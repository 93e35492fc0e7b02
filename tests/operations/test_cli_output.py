"""What `cqrs` writes to: a pipe whose end is gone, an encoding that lacks a letter, no terminal at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.domain.users.read_models.users import users
from shared.settings import Settings
from tests.support.command_line import cqrs
from tests.support.service import clean_environment, free_port
from tests.support.stores import Stores, accept, create
from workers.projecting import runner

CQRS = [sys.executable, "-m", "cli"]


def environment(settings: Settings, **more: str) -> dict[str, str]:
    own = {"CQRS_DATA_DIR": str(settings.data_dir), "CQRS_REDIS_URL": "redis://127.0.0.1:1/0"}
    return clean_environment() | own | more


@pytest.fixture
def filled(stores: Stores) -> Settings:
    accept(stores, *(create(f"bücher{n}@example.com") for n in range(300)))
    stores.handler.handle()
    runner.catch_up(stores.events, stores.read_model, users)
    return stores.settings


def ends_quietly(settings: Settings, *arguments: str, lines: int) -> list[str]:
    """The first lines; then its reader goes, as `head` does."""
    with subprocess.Popen(
        [*CQRS, *arguments],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        read = [process.stdout.readline() for _ in range(lines)]
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) in {-13, 0}, "SIGPIPE, or it had all been written"
    return read


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["events", "export"], 0),
        (["events", "export"], 1),
        (["events", "tail", "-n", "1000"], 1),
        (["commands", "list", "--limit", "1000"], 1),
    ],
)
def test_what_nobody_reads_any_more_ends_without_a_word(filled: Settings, arguments: list[str], lines: int) -> None:
    assert all(ends_quietly(filled, *arguments, lines=lines))


def test_watching_into_a_pipe_writes_a_table_a_look_and_ends_with_it(filled: Settings) -> None:
    api = f"http://127.0.0.1:{free_port()}"
    read = ends_quietly(filled, "status", "--watch", "--api", api, lines=60)
    assert sum(line.startswith("dependency") for line in read) >= 2
    shown = ends_quietly(filled, "status", "--watch", "--json", "--api", api, lines=2)
    assert [json.loads(line)["commands"]["accepted"] for line in shown] == [300, 300]


ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize(
    ("encoding", "arguments"),
    [
        *((ENCODINGS[0], words) for words in (["users", "show", "1"], ["events", "show", "1"], ["--help"])),
        *((encoding, ["events", "tail"]) for encoding in ENCODINGS),
    ],
)
def test_an_encoding_that_lacks_a_letter_costs_the_letter_only(
    filled: Settings, encoding: dict[str, str], arguments: list[str]
) -> None:
    command = [*CQRS, *arguments]
    done = subprocess.run(command, env=environment(filled, **encoding), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"cher0@example.com" in done.stdout or "1" not in arguments[-1:]


def test_settings_that_are_not_utf8_are_told_in_one_line(filled: Settings, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CQRS_MAX_WAIT=\xff\n")
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*CQRS, "status"],
        env=environment(filled, PYTHONPATH=root),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cqrs: a setting is not UTF-8: look at .env, and at the files in CQRS_SECRETS_DIR\n"


@pytest.mark.parametrize("argument", ["\udcff", "a\udcffb"])
def test_arguments_that_are_not_utf8_are_told_in_one_line(filled: Settings, argument: str) -> None:
    for command in (["commands", "show", argument], ["events", "tail", "--stream", argument]):
        assert cqrs(filled, *command, code=1) == "cqrs: what was given is not UTF-8\n"


@pytest.mark.parametrize(
    "url", ["foo", "ftp://host", "http://", "http://[::1", "http://host:99999", "http://h/\x1b[1m"]
)
def test_an_api_that_is_no_url_is_told_in_one_line(filled: Settings, url: str) -> None:
    assert cqrs(filled, "status", "--api", url, code=1).startswith("cqrs: --api takes a URL like ")

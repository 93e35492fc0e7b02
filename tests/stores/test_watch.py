"""Rules that end their process, as one worker after another meets them."""

import errno
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.database import engines
from shared.domain.users import decider
from shared.stores import outcomes, set_aside
from shared.stores.deciding import HEADER_BYTES, note_of
from tests.support.stores import Stores, accept, create, new_handler, update
from workers.handling import handler as commands
from workers.poison import caution, watch
from workers.poison.watch import Watch

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # of threads, which the tests' own are
]


@pytest.fixture(autouse=True)
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that some addresses turn against their process."""

    def decide(command: Any, user: Any) -> Any:
        if command.email.startswith("exits"):
            os._exit(1)
        if command.email.startswith("leaves"):
            raise Panic
        if command.email.startswith("ends well"):
            os._exit(0)
        if command.email.startswith("hangs"):
            time.sleep(3600)
        if command.email.startswith("slow"):
            time.sleep(0.3)
        return decider.decide(command, user)

    monkeypatch.setattr(commands, "AGGREGATES", {"user": replace(decider.users, decide=decide)})


RETRY = "handle", "retry"


class Panic(BaseException):
    """What Rust raises, and not an Exception."""


def work(stores: Stores, *tasks: str) -> bool:
    """Messages to a worker of its own: to handle, if nothing else. Tells if it dies of them.

    A child of a process with threads may hang at a lock that one of them had; then it says where, and ends.
    """
    if not (child := os.fork()):
        try:
            faulthandler.dump_traceback_later(30, exit=True, file=2)
            handler = new_handler(stores.settings, engines.writer(stores.settings.event_store, lock="event_store"))
            for task in tasks or ["handle"]:
                getattr(handler, task)()
            os._exit(77)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 77


def ends(stores: Stores) -> dict[int, str]:
    with stores.events.begin() as connection:
        return {seq: outcome.status for seq, outcome in outcomes.find(connection, range(1, 20)).items()}


def tries(stores: Stores) -> dict[int, int]:
    with stores.events.begin() as connection:
        return {each.seq: each.tries for each in set_aside.after(connection, 0, limit=20)}


def test_whoever_comes_next_sets_the_command_aside_that_ended_a_process(stores: Stores) -> None:
    accept(stores, create("a@example.com"), create("exits@example.com"), create("b@example.com"))
    assert work(stores)
    assert ends(stores) == {}
    assert not work(stores)
    assert (ends(stores), tries(stores)) == ({1: "succeeded", 3: "succeeded"}, {2: 1})


def test_of_several_the_first_costs_a_worker_and_no_other(stores: Stores) -> None:
    accept(stores, *(create(f"exits.{n}@example.com") for n in range(3)), create("a@example.com"))
    assert [work(stores), work(stores)] == [True, False]
    assert (ends(stores), tries(stores)) == ({4: "succeeded"}, {1: 1, 2: 1, 3: 1})


@pytest.mark.sqlite_only
def test_what_is_known_of_one_is_kept_even_if_the_next_ends_the_worker(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caution, "probe", lambda *_: {})
    accept(stores, *(create(f"exits.{n}@example.com") for n in range(3)), create("a@example.com"))
    assert [work(stores) for _ in range(4)] == [True, True, True, False]
    assert (ends(stores), tries(stores)) == ({4: "succeeded"}, {1: 1, 2: 1, 3: 1})


def test_further_tries_cost_no_worker_and_the_third_is_the_last(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "exits@example.com"), update(1, "b@example.com"))
    assert [work(stores), work(stores)] == [True, False]
    assert [work(stores, *RETRY), work(stores, *RETRY)] == [False, False]
    assert (ends(stores), tries(stores)) == ({1: "succeeded", 2: "failed", 3: "succeeded"}, {})


def test_a_rule_that_leaves_python_is_a_rule_that_raises(stores: Stores) -> None:
    accept(stores, create("leaves@example.com"), create("a@example.com"))
    assert not work(stores)
    assert (ends(stores), tries(stores)) == ({2: "succeeded"}, {1: 1})


def test_a_process_that_ends_well_is_one_that_ended(stores: Stores) -> None:
    accept(stores, create("ends well@example.com"), create("a@example.com"))
    assert [work(stores), work(stores), work(stores, *RETRY), work(stores, *RETRY)] == [True, False, False, False]
    assert (ends(stores), tries(stores)) == ({1: "failed", 2: "succeeded"}, {})


def test_one_that_stands_behind_another_is_found_out_when_its_turn_comes(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "leaves@example.com"), update(1, "exits@example.com"))
    assert not work(stores)
    assert tries(stores) == {2: 1, 3: 0}
    assert [work(stores, *RETRY) for _ in range(5)] == [False, True, False, False, False]
    assert (ends(stores), tries(stores)) == ({1: "succeeded", 2: "failed", 3: "failed"}, {})


def test_what_is_known_of_a_suspect_is_kept_before_anything_is_tried_again(stores: Stores) -> None:
    accept(stores, create("leaves@example.com"), create("b@example.com"))
    work(stores)
    accept(stores, create("exits@example.com"))
    assert [work(stores), work(stores, "retry"), work(stores)] == [True, False, False]
    assert tries(stores) == {1: 1, 3: 1}


@pytest.mark.sqlite_only
def test_a_note_of_nothing_that_is_there_holds_nothing_up(stores: Stores) -> None:
    accept(stores, create("leaves@example.com"))
    work(stores)
    (stores.settings.data_dir / "events.db-deciding").write_bytes(b"%20d\n" % 77)
    assert not work(stores, *RETRY)
    assert tries(stores) == {1: 2}


@pytest.mark.sqlite_only
def test_one_that_hangs_ends_its_worker_and_leaves_where(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LIMIT_SECONDS", 0.3)
    accept(stores, create("a@example.com"), create("hangs@example.com"))
    assert work(stores)
    note = (stores.settings.data_dir / "events.db-deciding").read_text()
    assert note.startswith(f"{2:20d}\n")
    assert "test_watch.py" in note
    assert "in decide" in note
    assert not work(stores)
    assert (ends(stores), tries(stores)) == ({1: "succeeded"}, {2: 1})


@pytest.mark.processes
def test_one_that_hangs_ends_a_worker_that_is_process_1_of_a_container(tmp_path: Path) -> None:
    in_container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*in_container, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no namespaces for processes here")
    program = f"""
import os
from shared.stores import deciding as notes
from workers.poison import watch
watch.LIMIT_SECONDS = 0.2
assert os.getpid() == 1
its = watch.Watch(notes.note_of("sqlite:///{tmp_path}/events.db"))
with its.deciding(None, exactly=True):
    its.on(None, 7)
    while True:
        pass
"""
    ended = subprocess.run([*in_container, sys.executable, "-c", program], check=False, timeout=30)
    assert ended.returncode == signal.SIGALRM
    left = Watch(note_of(f"sqlite:///{tmp_path}/events.db")).suspect(None)  # type: ignore[arg-type]
    assert left
    assert left.seq == 7


def test_each_command_has_the_time_for_itself(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LIMIT_SECONDS", 1)
    accept(stores, *(create(f"slow.{n}@example.com") for n in range(4)))
    assert not work(stores)


@pytest.mark.sqlite_only
def test_where_one_hung_is_not_held_against_the_next(stores: Stores) -> None:
    accept(stores, create("exits.1@example.com"))
    work(stores)
    with (stores.settings.data_dir / "events.db-deciding").open("ab") as note:
        note.write(b"File decider.py, line 1")
    work(stores)
    accept(stores, create("exits.2@example.com"))
    assert [work(stores), work(stores)] == [True, False]
    with stores.events.begin() as connection:
        errors = [each.error for each in set_aside.after(connection, 0, limit=2)]
    assert [error and error.partition(":")[0] for error in errors] == ["Hung", "Died"]


@pytest.mark.sqlite_only
def test_a_full_disk_is_no_command_s_fault(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    accept(stores, create("a@example.com"))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        stores.handler.handle()
    monkeypatch.undo()
    stores.handler.handle()
    assert (ends(stores), tries(stores)) == ({1: "succeeded"}, {})


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "left", [b"", b"\0" * HEADER_BYTES, b"%20d\n" % 77, b"9" * 20 + b"\n", "²\n".encode(), b"%20d\nFile" % 1, b"?\n?"]
)
def test_whatever_a_power_failure_leaves_of_the_note_commands_are_handled(stores: Stores, left: bytes) -> None:
    accept(stores, create("a@example.com"))
    stores.handler.handle()
    (stores.settings.data_dir / "events.db-deciding").write_bytes(left)
    assert not work(stores, *RETRY)
    accept(stores, create("b@example.com"), create("leaves@example.com"))
    for _ in range(3):
        work(stores, *RETRY)
    assert ends(stores) == {1: "succeeded", 2: "succeeded", 3: "failed"}


def test_a_command_begun_again_is_decided_on_anew(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    [command] = accept(stores, create("leaves@example.com"))
    for _ in range(3):
        work(stores, *RETRY)
    assert ends(stores) == {1: "failed"}
    monkeypatch.undo()
    with stores.events.begin() as connection:
        outcomes.begin_again(connection, command)
    work(stores, *RETRY)
    assert ends(stores) == {1: "succeeded"}

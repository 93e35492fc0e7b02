"""The keys of people: apart, lost, stale, under another master key; and erasures that an older log lacks."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from cli.stores import log, master_key, people
from cli.stores.init import init
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.domain.users import addresses
from shared.personal.ciphers import WrongMasterKey
from shared.settings import Settings
from shared.stores import event_store, outcomes, subjects, unique_keys
from shared.stores.subjects import Subjects, heed
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, elsewhere, erase, hashed, new_handler
from workers.projecting import runner

NAME, ADDRESS = "Wilhelmina", "Wilhelmina.Q@exämple.com"
TRACES = [b"wilhelmina", "wilhelmina.q@exämple.com".encode(), b"wilhelmina.q@xn--exmple-cua.com"]

Made = Callable[[Path], Settings]


def handle(stores: Stores) -> None:
    while stores.handler.handle():
        pass


@contextmanager
def started(settings: Settings) -> Iterator[Stores]:
    """What processes have that start now."""
    people_ = Subjects.of(settings)
    made = [engines.writer(url, lock="test") for url in (settings.inbox, settings.event_store, settings.read_model)]
    inbox, events, read_model = made
    for each in (inbox, events):
        heed(each, people_)
    stores = Stores(settings, inbox, events, read_model, new_handler(settings, events))
    yield stores
    close(stores)


def project(settings: Settings) -> None:
    for name, which in PROJECTIONS.items():
        read_model = engines.writer(settings.read_model_of(name), lock=name, durable=False)
        with engines.briefly(read_model), log.reader(settings) as reader:
            while runner.catch_up(reader, read_model, which):
                pass


def close(stores: Stores) -> None:
    for engine in (stores.inbox, stores.events, stores.handler._inbox):
        with engine.connect() as connection:
            subjects.of(connection).close()
    for each in (stores.inbox, stores.events, stores.read_model, stores.handler._inbox):
        each.dispose()


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Three users, whom the read models show."""
    mine = create(ADDRESS, idempotency_key="k")._replace(data={"first_name": NAME, "last_name": NAME, "email": ADDRESS})
    accept(stores, create("1@example.com"), mine, create("3@example.com"))
    handle(stores)
    project(stores.settings)
    return stores


def shown(settings: Settings) -> list[dict[str, Any]]:
    lines = cqrs(settings, "events", "tail", "-n", "50", "--json").splitlines()
    return [json.loads(line) for line in lines]


def names(settings: Settings) -> list[str | None]:
    return [each["data"]["first_name"] for each in shown(settings) if each["type"] == "UserCreated"]


def found_in(*places: Path) -> set[str]:
    """The files in which traces of the erased person are."""
    files = {each for place in places for each in (place.rglob("*") if place.is_dir() else [place]) if each.is_file()}
    return {str(file) for file in files if any(trace in file.read_bytes().lower() for trace in TRACES)}


def in_database(settings: Settings, url: str, *statements: Any) -> None:
    with engines.writing(url, lock="test") as connection:
        for each in statements:
            connection.execute(each)


@pytest.fixture
def keys_of(used: Stores, tmp_path: Path) -> Path:
    """A backup and its keys, made before anybody was erased."""
    cqrs(used.settings, "backup", str(tmp_path / "older"))
    return tmp_path / "older.keys"


def test_nothing_of_an_erased_person_is_in_any_file(used: Stores, keys_of: Path, made: Made, tmp_path: Path) -> None:
    settings, data = used.settings, used.settings.data_dir
    assert {Path(each).name for each in found_in(data)} >= {"read-users.db", "read-emails.db"}
    accept(used, erase(2))
    handle(used)
    project(settings)
    close(used)
    assert found_in(tmp_path) == set()
    for name in PROJECTIONS:
        cqrs(settings, "projections", "rebuild", name)
    cqrs(settings, "backup", str(tmp_path / "newer"))
    (tmp_path / "log.jsonl").write_text(cqrs(settings, "events", "export"))
    assert found_in(tmp_path) == set()
    assert "1 people were erased since" in cqrs(settings, "restore", str(tmp_path / "older"))
    assert names(settings) == ["John", None, "John"]
    assert found_in(tmp_path) == set()
    handle(used)
    project(settings)
    close(used)
    assert shown(settings)[-1]["type"] == "UserErased"
    assert shown(settings)[-1]["metadata"]["reason"] == people.REASON
    assert told(settings, "verify")["well"]
    another = made(tmp_path / "another")
    cqrs(another, "events", "import", str(tmp_path / "log.jsonl"), "--keys", str(tmp_path / "newer.keys"))
    project(another)
    assert names(another) == ["John", None, "John"]
    assert told(another, "verify")["well"]
    assert found_in(tmp_path) == set()


def assert_the_address_is_free(used: Stores) -> None:
    """Another user may take it, and all holds together."""
    [again] = accept(used, create(ADDRESS))
    handle(used)
    with used.events.connect() as connection:
        assert outcomes.find(connection, [again.seq])[again.seq].status == "succeeded"
    project(used.settings)
    assert told(used.settings, "verify")["well"]


def test_an_address_is_free_once_a_restore_is_followed_by_the_erasure(used: Stores, keys_of: Path) -> None:
    accept(used, erase(2))
    handle(used)
    close(used)
    cqrs(used.settings, "restore", str(keys_of.with_suffix("")))
    assert "isn't finished" in told(used.settings, "verify", code=1)["wrong"]
    handle(used)
    assert_the_address_is_free(used)


def test_the_number_of_somebody_erased_is_not_given_again_by_an_older_log(used: Stores, keys_of: Path) -> None:
    accept(used, create("4@example.com"), erase(4))
    handle(used)
    close(used)
    cqrs(used.settings, "restore", str(keys_of.with_suffix("")))
    [new] = accept(used, create("5@example.com"))
    handle(used)
    assert new.stream == "user-5"
    project(used.settings)
    assert told(used.settings, "verify")["well"]


def test_a_stale_key_file_is_refused_and_nothing_is_replaced(used: Stores, keys_of: Path, tmp_path: Path) -> None:
    settings = used.settings
    accept(used, erase(2))
    handle(used)
    close(used)
    cqrs(settings, "backup", str(tmp_path / "newer"))
    before = {path: path.read_bytes() for path in settings.data_dir.glob("*.db")}
    said = cqrs(settings, "restore", str(tmp_path / "older"), "--keys", str(keys_of), code=1)
    assert said == f"cqrs: {keys_of} is stale: it doesn't know that 1 person (user-2) was erased\n"
    said = cqrs(
        elsewhere(settings, tmp_path / "new"), "restore", str(tmp_path / "newer"), "--keys", str(keys_of), code=1
    )
    assert said == f"cqrs: {keys_of} is stale: it has the keys of 1 person (user-2), erased since\n"
    assert {path: path.read_bytes() for path in settings.data_dir.glob("*.db")} == before
    (tmp_path / "log.jsonl").write_text(cqrs(settings, "events", "export"))
    said = cqrs(
        elsewhere(settings, tmp_path / "x"),
        "events",
        "import",
        str(tmp_path / "log.jsonl"),
        "--keys",
        str(keys_of),
        code=1,
    )
    assert "is stale" in said


def test_keys_that_a_file_lacks_are_not_replaced_by_it(used: Stores, keys_of: Path, tmp_path: Path) -> None:
    accept(used, *(create(f"{n}@example.org") for n in range(600)))
    handle(used)
    close(used)
    cqrs(used.settings, "backup", str(tmp_path / "newer"))
    said = cqrs(used.settings, "restore", str(tmp_path / "newer"), "--keys", str(keys_of), code=1)
    assert re.search(r"lacks the keys of \d+ people \(user-\d+, .*…\), which are here", said)


def test_on_another_machine_keys_and_master_key_are_asked_for(used: Stores, keys_of: Path, tmp_path: Path) -> None:
    backup = str(tmp_path / "older")
    new = elsewhere(used.settings, tmp_path / "new")
    said = cqrs(new, "restore", backup, code=1)
    assert said == (
        "cqrs: the keys of 3 people (user-1, user-2, user-3) are missing: name the file that has them by --keys\n"
    )
    new.master_file.unlink()
    assert "master.key is missing" in cqrs(new, "restore", backup, "--keys", str(keys_of), code=1)
    new.master_file.write_text("ab" * 32)
    assert "the master key isn't the one" in cqrs(new, "restore", backup, "--keys", str(keys_of), code=1)
    assert not list(new.data_dir.glob("*.db"))
    shutil.copy(used.settings.master_file, new.master_file)
    cqrs(new, "restore", backup, "--keys", str(keys_of))
    assert names(new) == ["John", NAME, "John"]
    project(new)
    assert told(new, "verify")["well"]


def test_a_backup_holds_no_key_of_people_and_its_keys_hold_nothing_else(
    used: Stores, keys_of: Path, tmp_path: Path
) -> None:
    assert sorted(path.name for path in (tmp_path / "older").iterdir()) == ["backup.json", "events.db", "inbox.db"]
    assert found_in(tmp_path / "older", keys_of) == set()
    assert keys_of.stat().st_mode & 0o077 == 0
    master = used.settings.master_file.read_text()
    with engines.reading(used.settings.subjects) as connection:
        wrapped = connection.scalars(select(subjects.keys.c.key)).all()
    for file in (tmp_path / "older").iterdir():
        content = file.read_bytes()
        assert master.encode() not in content
        assert bytes.fromhex(master) not in content
        assert not any(key in content for key in wrapped)
    said = cqrs(used.settings, "backup", str(tmp_path / "again"))
    assert f"the keys of people are in {tmp_path / 'again.keys'}: keep them apart" in said


def test_an_import_asks_for_the_keys_of_people_and_all_of_it_is_refused_without(
    used: Stores, keys_of: Path, tmp_path: Path, made: Made
) -> None:
    exported = str(tmp_path / "log.jsonl")
    Path(exported).write_text(cqrs(used.settings, "events", "export"))
    assert NAME not in Path(exported).read_text()
    another = elsewhere(used.settings, tmp_path / "another")
    said = cqrs(another, "events", "import", exported, code=1)
    assert "the keys of 3 people (user-1, user-2, user-3) are missing" in said
    cqrs(another, "events", "import", exported, "--keys", str(keys_of))
    assert names(another) == ["John", NAME, "John"]
    with engines.reading(another.event_store) as connection:
        kept = set(connection.scalars(select(unique_keys.unique_keys.c.value)))
    assert kept == set(hashed(another, "1@example.com", addresses.key(ADDRESS), "3@example.com"))
    assert kept.isdisjoint(hashed(used.settings, "1@example.com", addresses.key(ADDRESS), "3@example.com"))
    project(another)
    assert told(another, "verify")["well"]


def test_a_refused_import_leaves_no_keys(used: Stores, keys_of: Path, tmp_path: Path) -> None:
    lines = cqrs(used.settings, "events", "export").split("\n")
    (tmp_path / "log.jsonl").write_text("\n".join([lines[0], *lines[2:]]))
    another = elsewhere(used.settings, tmp_path / "another")
    cqrs(another, "events", "import", str(tmp_path / "log.jsonl"), "--keys", str(keys_of), code=1)
    with engines.reading(another.subjects) as connection:
        assert not connection.scalars(select(subjects.keys.c.stream)).all()


@pytest.mark.both_engines
def test_lost_keys_are_told_and_everybody_else_is_served(used: Stores) -> None:
    settings = used.settings
    in_database(settings, settings.subjects, delete(subjects.keys))
    init(settings)
    assert told(settings, "status", code=1)["people"] == {"unreadable": 3, "first": ["user-1", "user-2", "user-3"]}
    assert "3 people can't be read, since their keys are lost: user-1, user-2, user-3" in cqrs(
        settings, "status", code=1
    )
    assert told(settings, "verify", code=1)["wrong"] == (
        "3 people (user-1, user-2, user-3) can't be read: the keys are lost"
    )
    said = cqrs(settings, "projections", "rebuild", "users", code=1)
    assert "a rebuild would drop them: bring the keys back, or erase them" in said
    assert shown(settings)[0]["unreadable"] is True
    with started(settings) as anew:
        accept(anew, create("4@example.com"), create("1@example.com"))
        handle(anew)
        assert [each["data"]["email"] for each in shown(settings)] == [None, None, None, "4@example.com"]
        accept(anew, *(erase(n) for n in (1, 2, 3)))
        handle(anew)
        accept(anew, create("1@example.com"))
        handle(anew)
    project(settings)
    assert told(settings, "verify")["well"], "whoever is lost can be erased, and the address is free"


def test_a_store_of_keys_that_is_gone_is_made_anew_and_unique_keys_hold(used: Stores) -> None:
    settings = used.settings
    close(used)
    Path(str(settings.data_dir / "subjects.db")).unlink()
    for left in settings.data_dir.glob("subjects.db-*"):
        left.unlink()
    before = hashed_keys(settings)
    assert told(settings, "status", code=1)["dependencies"]["subjects"] != "ok"
    init(settings)
    assert hashed_keys(settings) == before
    assert set(hashed(settings, "1@example.com")) < before
    assert "3 people" in told(settings, "verify", code=1)["wrong"]


def hashed_keys(settings: Settings) -> set[str]:
    with engines.reading(settings.event_store) as connection:
        return set(connection.scalars(select(unique_keys.unique_keys.c.value)))


@pytest.mark.both_engines
def test_who_is_erased_in_one_store_alone_is_told_and_init_makes_them_agree(used: Stores) -> None:
    settings = used.settings
    people_ = Subjects.of(settings)
    people_.erase(["user-2"])
    assert told(settings, "verify", code=1)["wrong"] == (
        "the erasure of 1 person (user-2) isn't finished: `cqrs init` and the next worker do that"
    )
    init(settings)
    init(settings)
    handle(used)
    assert [each["type"] for each in shown(settings)].count("UserErased") == 1
    project(settings)
    assert told(settings, "verify")["well"]
    in_database(settings, settings.subjects, delete(subjects.erasures))
    people_.make(["user-2"])
    assert told(settings, "verify", code=1)["wrong"] == "1 person (user-2) was erased, and has a key"
    init(settings)
    assert told(settings, "verify")["well"]
    people_.close()


@pytest.mark.both_engines
def test_with_a_wrong_master_key_every_command_ends_with_one_line_and_nothing_is_lost(used: Stores) -> None:
    settings, wrong = used.settings, {"CQRS_MASTER_KEY": "cd" * 32}
    close(used)
    for command in (["init"], ["up"], ["verify"], ["events", "tail"], ["users", "show", "1"], ["users", "export", "1"]):
        said = cqrs(settings, *command, code=1, **wrong)
        assert said.count("\n") == 1, said
        assert "the master key isn't the one" in said
    status = told(settings, "status", code=1, **wrong)
    assert "the master key isn't the one" in status["dependencies"]["subjects"]
    assert told(settings, "verify")["well"]


@pytest.mark.both_engines
def test_keys_that_are_read_ahead_are_those_that_are_there_when_they_are_needed(stores: Stores) -> None:
    here, elsewhere_ = Subjects.of(stores.settings), Subjects.of(stores.settings)
    elsewhere_.make([f"user-{number}" for number in range(1, 5)])
    its = update(subjects.keys).where(subjects.keys.c.stream == "user-4").values(key=b"of another master key")
    in_database(stores.settings, stores.settings.subjects, its)
    assert here.ciphers(["user-1"])["user-1"]
    elsewhere_.erase(["user-2"])
    elsewhere_.make(["user-5"])
    found = here.ciphers(["user-2", "user-3", "user-5", "user-6"])
    assert {stream: bool(cipher) for stream, cipher in found.items()} == {
        "user-2": False,
        "user-3": True,
        "user-5": True,
    }
    with pytest.raises(WrongMasterKey):
        here.ciphers(["user-4"])
    here.close()
    elsewhere_.close()


def everything(settings: Settings) -> bool:
    """Whether all that is personal can be read by a process that starts now."""
    return names(settings) == ["John", NAME, "John"]


@pytest.mark.parametrize("at", range(7))
def test_a_rotation_that_is_killed_loses_nobody_and_goes_on(
    used: Stores, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    settings = used.settings
    old = settings.master_file.read_text()
    running = Subjects.of(settings)
    assert running.ciphers(["user-1"])["user-1"]
    steps: Iterator[int] = iter(range(1000))

    def killed_after(do: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            if next(steps) == at:
                raise KeyboardInterrupt
            return do(*arguments, **more)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(master_key, "PAGE_SIZE", 2)
        for name in ("_write", "record", "keep_secret", "_wrap_page"):
            patched.setattr(master_key, name, killed_after(getattr(master_key, name)))
        patched.setattr(subjects, "keep_secret", killed_after(subjects.keep_secret))
        with pytest.raises(KeyboardInterrupt):
            master_key.rotate(settings)
    assert everything(settings)
    assert running.sealing(["user-2", f"user-{1000 + at}"])
    cqrs(settings, "keys", "rotate-master")
    assert running.sealing(["user-3", f"user-{2000 + at}"])
    new = settings.master_file.read_text()
    assert len(new) == len(old) == 64
    assert new != old
    assert settings.master_file.stat().st_mode & 0o777 == 0o600
    assert everything(settings)
    anew = Subjects.of(settings)
    assert all(anew.ciphers([f"user-{1000 + at}", f"user-{2000 + at}"]).values())
    assert "the master key isn't the one" in cqrs(settings, "verify", code=1, CQRS_MASTER_KEY=old)
    assert "master key rotated" in cqrs(settings, "audit")
    init(settings)
    assert told(settings, "verify")["well"]
    running.close()
    anew.close()


@pytest.mark.both_engines
def test_a_master_key_in_the_settings_is_rotated_by_the_operator_s_new_one(used: Stores) -> None:
    settings = used.settings
    old = settings.master_key.get_secret_value() if settings.master_key else settings.master_file.read_text()
    new = "ef" * 32
    said = cqrs(settings, "keys", "rotate-master", code=1, CQRS_MASTER_KEY=old)
    assert "set CQRS_MASTER_KEY to the new key, a comma and the old one" in said
    said = cqrs(settings, "keys", "rotate-master", CQRS_MASTER_KEY=f"{new},{old}")
    assert "take the old one out of CQRS_MASTER_KEY" in said
    assert told(settings, "verify", CQRS_MASTER_KEY=new)["well"]
    assert NAME in cqrs(settings, "events", "tail", CQRS_MASTER_KEY=new)
    with engines.reading(settings.event_store) as store, engines.reading(settings.subjects) as keys:
        copy = subjects.secret_in(store, event_store.secret_copies)
        assert copy == subjects.secret_in(keys, subjects.secret_table)
    cqrs(settings, "init", CQRS_MASTER_KEY=new)


def test_a_backup_from_before_a_rotation_is_restored_under_the_new_master_key(used: Stores, keys_of: Path) -> None:
    settings = used.settings
    close(used)
    cqrs(settings, "keys", "rotate-master")
    cqrs(settings, "restore", str(keys_of.with_suffix("")))
    assert everything(settings)
    project(settings)
    assert told(settings, "verify")["well"]


@pytest.mark.both_engines
def test_an_erasure_that_was_cut_off_after_the_key_was_destroyed_frees_the_address_in_the_end(used: Stores) -> None:
    accept(used, erase(2))
    people_ = Subjects.of(used.settings)
    people_.erase(["user-2"])  # and then the worker was killed
    people_.close()
    handle(used)
    assert_the_address_is_free(used)


def test_all_that_is_known_of_somebody_is_shown_as_it_was_and_no_key(used: Stores) -> None:
    exported = cqrs(used.settings, "users", "export", "2")
    found = json.loads(exported)["found"]
    assert found["event_store.events"][0]["data"]["first_name"] == NAME
    assert found["inbox.commands"][0]["data"]["email"] == ADDRESS
    assert len(found["event_store.events"][0]["hash"]) == 64
    with engines.reading(used.settings.subjects) as connection:
        [wrapped] = connection.scalars(select(subjects.keys.c.key).where(subjects.keys.c.stream == "user-2"))
    assert wrapped.hex() not in exported
    assert "~first_name" not in exported

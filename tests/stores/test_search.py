"""The search that proves an erasure: it finds a person's values wherever they are, and says where it looked."""

import gzip
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.erasing.places import BLOCK, look_through_file
from cli.erasing.search import Search, in_words, search
from cli.erasing.values import Value, given
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.stores.inbox import Submission
from tests.stores.test_scrub import catch_up, handle
from tests.support.stores import Stores, accept, create, erase, update

EMAIL = "Jöhn.Doe@straße.example"


def places(found: Search) -> set[str]:
    return {Path(each.place).name.removeprefix("public.") for each in found.look() if each.found}


def project(stores: Stores) -> None:
    handle(stores)
    for name in PROJECTIONS:
        catch_up(stores, name)


def person(email: str, first_name: str, last_name: str) -> Submission:
    made = create(email)
    return made._replace(data={"first_name": first_name, "last_name": last_name, "email": email})


@pytest.mark.both_engines
def test_it_finds_present_values_and_says_where(stores: Stores, engine: str) -> None:
    accept(stores, person(EMAIL, "Jöhn", "Dœring"))
    project(stores)
    found = search(stores.settings, "user-1")
    assert found.left_out == {}
    expected = {"read-users.db", "read-emails.db"} if engine == "sqlite" else {"users", "emails"}
    assert {each.removesuffix("-wal") for each in places(found)} == expected


def test_it_looks_for_former_addresses_and_for_keys_made_of_them(stores: Stores) -> None:
    accept(stores, person(EMAIL, "Jöhn", "Dœring"), update(1, "new@example.com"))
    project(stores)
    texts = {value.text for value in search(stores.settings, "user-1").values}
    assert {EMAIL, "new@example.com", "jöhn.doe@xn--strae-oqa.example", "Jöhn", "Dœring", "JöhnDœring"} <= texts


def test_a_value_that_others_have_or_that_is_short_is_looked_for_beside_others_alone(stores: Stores) -> None:
    accept(stores, person("al@example.com", "Al", "Miller"), person("smith@example.com", "Alan", "Miller"))
    accept(stores, person("user@example.org", "User", "Grünewald"))
    project(stores)
    found = search(stores.settings, "user-1")
    assert found.left_out["first_name"] == "it is shorter than 4 characters"
    assert found.left_out["last_name"] == "other people have it, too"
    assert "AlMiller" in {value.text for value in found.values}
    assert search(stores.settings, "user-3").left_out == {"first_name": "it is a word of this program"}


def test_whoever_was_erased_earlier_is_looked_for_by_values_that_are_given(stores: Stores) -> None:
    accept(stores, create("john@example.com"))
    project(stores)
    with engines.reading(stores.settings.read_model_of("users")) as idle:
        idle.execute(text("SELECT 1")).all()
        accept(stores, erase(1))
        project(stores)
        found = search(stores.settings, "user-1", given(["john@example.com"]))
        assert [value.name for value in found.values] == ["value 1"]
        assert {each.removesuffix("-wal") for each in places(found)} == {"read-users.db"}  # it isn't scrubbed yet


def test_a_backup_in_the_clear_is_found_also_compressed_and_what_is_packed_otherwise_is_named(
    stores: Stores, tmp_path: Path
) -> None:
    also = tmp_path / "also"
    also.mkdir()
    (also / "old.jsonl").write_text('{"email":"J\\u00f6hn.Doe@stra\\u00dfe.example"}')
    (also / "old.gz").write_bytes(gzip.compress(EMAIL.encode()))
    (also / "old.dump").write_bytes(b"PGDMP" + EMAIL.encode())
    found = Search(stores.settings, given([EMAIL]), {}, also=[also])
    looked = found.look()
    assert {Path(each.place).name for each in looked if each.found} == {"old.jsonl", "old.gz"}
    said = list(in_words(looked, found.values, found.left_out))
    assert f"not looked through: {also / 'old.dump'}: a dump in pg_dump's own format: unpack it first" in said
    assert f"found in {also / 'old.jsonl'}: value 1 at byte 10" in said
    assert EMAIL not in "".join(said)


@pytest.mark.parametrize("begin", [0, BLOCK - 5, BLOCK - 1, BLOCK, 2 * BLOCK - 3])
def test_a_value_across_two_blocks_is_found(tmp_path: Path, begin: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0" * begin + b"john@example.com" + b"\0" * 100)
    looked = look_through_file(file, [Value("email", "john@example.com")])
    assert (looked.found, looked.amount) == ((f"email at byte {begin:,}",), begin + 116)


def test_what_the_api_shows_is_looked_through(stores: Stores) -> None:
    found = Search(stores.settings, given(["john"]), {}, paths=["/users/1"], ask=lambda _: b'{"name":"john"}')
    assert [(each.place, each.found) for each in found.look()[-1:]] == [("GET /users/1", ("value 1",))]

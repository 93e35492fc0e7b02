"""The guide to another aggregate, docs/guide/another-aggregate.md, followed to the letter on a copy of the project."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.service import Service, clean_environment, up

ROOT = Path(__file__).parents[2]

FILE = re.compile(r"`((?:shared|api|tests)/\S+\.py)`(?:(?!```).)*?```python\n(.*?)```", re.DOTALL)
DIFF = re.compile(r"```diff\n--- a/(\S+)\n\+\+\+ b/\S+\n(.*?)```", re.DOTALL)

WAIT = {"Prefer": "wait=20"}


class Guide(NamedTuple):
    """Files to be added, by path, and changes of others, each a diff of the file that it goes into."""

    files: dict[str, str]
    changes: list[tuple[str, str]]


@pytest.fixture(scope="module")
def guide() -> Guide:
    text = (ROOT / "docs" / "guide" / "another-aggregate.md").read_text()
    return Guide(dict(FILE.findall(text)), DIFF.findall(text))


@pytest.fixture(scope="module")
def project(guide: Guide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project after the guide."""
    folder = tmp_path_factory.mktemp("guide") / "project"
    for package in ("api", "cli", "shared", "workers"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, code in guide.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).with_name("__init__.py").touch()
        (folder / path).write_text(code)
    for path, diff in guide.changes:
        change(folder / path, diff)
    return folder


@pytest.fixture(scope="module")
def running(project: Path, files: Path) -> Iterator[Service]:
    """Its service, on stores that were there before."""
    shutil.copytree(files, project.parent / "data")
    with up(project.parent / "data", PYTHONPATH=str(project)) as service:
        yield service


def change(path: Path, diff: str) -> None:
    text = path.read_text()
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        assert text.count(before) == 1, f"{path} has no such lines:\n{before}"
        text = text.replace(before, "".join(line[1:] for line in lines if line[0] in " +"))
    path.write_text(text)


def run(project: Path, *command: str, data_dir: Path | None = None) -> str:
    environment = clean_environment() | {"PYTHONPATH": str(project), "CQRS_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def post(running: Service, path: str, body: dict[str, Any], *, wait: int | None = None) -> Any:
    return running.http.post(path, json=body, headers={} if wait is None else {"Prefer": f"wait={wait}"})


def test_an_aggregate_is_four_files_beside_its_tests_and_an_entry_in_each_of_three_lists(guide: Guide) -> None:
    added = [path for path in guide.files if not path.startswith("tests/")]
    assert len(added) <= 4
    assert len({path for path, _ in guide.changes}) == len(guide.changes) <= 3
    assert all(len(re.findall(r"^\+(?!from )", diff, re.MULTILINE)) == 1 for _, diff in guide.changes)
    assert not [path for path in added if (ROOT / path).exists()]


@pytest.mark.parametrize("tool", [["lint-imports"], ["ruff", "check"], ["ruff", "format", "--check"]], ids=" ".join)
def test_the_guide_s_code_keeps_the_rules_of_the_project(project: Path, tool: list[str]) -> None:
    name, *arguments = tool
    run(project, str(Path(sys.executable).parent / name), *arguments)


def test_a_rule_of_the_guide_that_knows_infrastructure_is_found_out(project: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(project, tmp_path / "copy")
    with (copy / "shared/domain/accounts/messages.py").open("a") as messages:
        messages.write("from shared.database import engines\n")
    with pytest.raises(
        AssertionError, match=r"shared\.domain\.accounts\.decider is not allowed to import shared\.database"
    ):
        run(copy, str(Path(sys.executable).parent / "lint-imports"))


def test_the_guide_s_tests_pass(project: Path) -> None:
    assert "passed" in run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_an_account_is_opened_paid_into_and_drawn_from_but_never_below_zero(running: Service, project: Path) -> None:
    opened = post(running, "/accounts/", {"owner": "John Doe"})
    assert (opened.status_code, opened.json()["account_id"]) == (202, 1)
    assert post(running, "/accounts/1/deposits", {"amount": 100}).status_code == 202
    drawn = post(running, "/accounts/1/withdrawals", {"amount": 30}, wait=20)
    account = {"account_id": 1, "owner": "John Doe", "balance": 70, "version": 3}
    assert (drawn.status_code, drawn.json()) == (200, account)
    too_much = post(running, "/accounts/1/withdrawals", {"amount": 71}, wait=20)
    assert (too_much.status_code, too_much.json()["type"]) == (409, "/problems/balance-too-low")
    assert post(running, "/accounts/2/deposits", {"amount": 1}, wait=20).status_code == 404
    assert running.http.get("/accounts/1").json() == account
    assert running.http.get("/accounts/1", headers={"If-None-Match": '"2", "3"'}).status_code == 304
    assert running.http.get("/accounts/").json() == [account]
    assert post(running, "/accounts/", {"owner": "Jane Doe"}, wait=20).headers["Location"] == "/accounts/2"
    said = run(project, sys.executable, "-m", "cli", "verify", data_dir=running.data_dir)
    assert "ok  read model accounts: 4" in said


def test_a_replay_shows_the_account_as_its_command_left_it(running: Service) -> None:
    def opened() -> Any:
        return running.http.post("/accounts/", json={"owner": "Ann"}, headers={"Idempotency-Key": "o", **WAIT})

    number = opened().json()["account_id"]

    def paid_in(key: str) -> Any:
        headers = {"Idempotency-Key": key, **WAIT}
        return running.http.post(f"/accounts/{number}/deposits", json={"amount": 100}, headers=headers)

    firsts = [opened().json(), paid_in("a").json(), paid_in("b").json()]
    assert [each["balance"] for each in firsts] == [0, 100, 200]
    assert [opened().json(), paid_in("a").json(), paid_in("b").json()] == firsts
    assert opened().status_code == 201


def test_a_command_to_an_account_may_name_its_version(running: Service) -> None:
    number = post(running, "/accounts/", {"owner": "Bob"}, wait=20).json()["account_id"]
    for version, status in {'"1"': 200, '"1", "3"': 412, '"1", "2"': 200, '"x"': 412}.items():
        headers = {"If-Match": version, **WAIT}
        answer = running.http.post(f"/accounts/{number}/deposits", json={"amount": 100}, headers=headers)
        assert answer.status_code == status, version


@pytest.mark.parametrize("amount", ["100", 100.0, True, "1_0"])
def test_an_amount_is_a_number_of_digits(running: Service, amount: Any) -> None:
    assert post(running, "/accounts/1/deposits", {"amount": amount}).status_code == 422

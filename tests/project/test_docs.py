"""The documentation: its links lead somewhere, and the files and functions that it names are there."""

import ast
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.pages import CODE, CURRENT, GUIDE, PAGES, ROOT, anchors, name, prose

DECISIONS = ROOT / "docs" / "decisions"

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:api|benchmarks|cli|deploy|docs|shared|tests|workers)/[\w./*-]*")
DEFINED = re.compile(r"`(\w+/[\w/]+\.py)`(?:\]\([^)]*\))?((?:,? (?:and )?`[\w.]+`)+)")
"""A file, and behind it names that are defined there."""


def defined(path: Path) -> set[str]:
    """The names of a module's functions and classes, and of methods with their class."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}.{each.name}" for each in methods}
    return names


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        url = urlsplit(target)
        if url.scheme:
            continue
        there = (page.parent / url.path).resolve() if url.path else page
        if not there.exists() or (url.fragment and url.fragment not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", [page for page in CURRENT if GUIDE not in page.parents], ids=name)
def test_every_file_and_folder_that_is_named_is_there(page: Path) -> None:
    paths = [code for code in CODE.findall(prose(page)) if PATH.fullmatch(code)]
    assert not [path for path in paths if not any(ROOT.glob(path.rstrip("/")))]


@pytest.mark.parametrize("page", [page for page in CURRENT if GUIDE not in page.parents], ids=name)
def test_every_function_that_is_named_behind_its_file_is_there(page: Path) -> None:
    named = [(path, each) for path, names in DEFINED.findall(prose(page)) for each in CODE.findall(names)]
    assert not [f"{path} {each}" for path, each in named if each not in defined(ROOT / path)]


def test_a_command_travels_by_eight_stations_at_most() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    stations = re.findall(r"^\| (\d) \|.*$", text, re.MULTILINE)
    assert stations == [str(number) for number in range(1, len(stations) + 1)]
    assert 1 < len(stations) <= 8
    assert all(DEFINED.search(row) for row in re.findall(r"^\| \d \|.*$", text, re.MULTILINE))


def test_the_architecture_names_every_room() -> None:
    folders = {path.parent for part in ("api", "cli", "shared", "workers") for path in (ROOT / part).glob("*/*.py")}
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert not [room for folder in folders if f"`{(room := folder.relative_to(ROOT))}/`" not in text]


def test_the_architecture_names_every_wall() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    walls = (ROOT / "docs" / "architecture.md").read_text().partition("## The walls")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|", walls, re.MULTILINE)
    assert set(rows) - {"contract"} == {contract["name"] for contract in contracts}
    [floors] = [contract["layers"] for contract in contracts if contract.get("containers") == ["shared"]]
    assert "\n".join(["```", *floors, "```"]) in walls


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("0*.md")), ids=name)
def test_a_decision_says_why_and_what_it_costs_and_is_in_the_index(page: Path) -> None:
    text = page.read_text()
    assert re.findall("^#+ (.*)$", text, re.MULTILINE)[1:] == ["Context", "Decision", "What it costs"]
    title = text.partition("\n")[0].removeprefix("# ")
    assert f"| {int(page.name[:4])} | [{title}]({page.name}) |" in (DECISIONS / "README.md").read_text()


def test_contributing_names_every_verb_of_make_and_every_folder_of_tests() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    folders = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "tests").glob("*/test_*.py")}
    assert not [each for each in {f"make {verb}" for verb in verbs} | folders if f"`{each}`" not in text]


def test_every_promise_of_the_readme_has_tests_of_its_name() -> None:
    promises = re.findall(r"^\| \*\*P(\d+) ", (ROOT / "README.md").read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(promises) >= 8
    assert not [number for number in promises if f"\ndef test_p{number}_" not in tests]


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_every_test_that_is_named_is_there(page: Path) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {code for code in CODE.findall(prose(page)) if re.fullmatch(r"test_\w*[a-z0-9]", code)}
    known = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [each for each in named - known if f"def {each}(" not in tests]


def test_each_of_owasps_ten_risks_has_tests() -> None:
    table = (ROOT / "SECURITY.md").read_text().partition("## OWASP API Security Top 10")[2]
    rows = re.findall(r"^\| API(\d+) .* \|.*\|(.*)\|$", table, re.MULTILINE)
    assert [number for number, _ in rows] == [str(number) for number in range(1, 11)]
    assert all(CODE.findall(tests) for _, tests in rows)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250

"""The pages of docs/reference hold what the code has: routes and errors, settings, commands, metrics."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

from api.main import app
from shared.operations.record import AUDITED
from shared.settings import Settings
from tests.support import reference
from tests.support.service import api

ROOT = Path(__file__).parents[2]

REFERENCE = ROOT / "docs" / "reference"

ROW = re.compile(r"^\| (.*?) \|(.*)$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
PROBLEM = re.compile(r"[a-z]+(?:-[a-z]+)*")

RAISED = {"Problem", "unavailable", "too_many", "Rejected"}
"""What takes an error's name first."""

ALSO = {("method-not-allowed", 405), ("command-failed", 500), ("email-taken", 409)}
"""Errors whose names aren't in one piece in the code."""

UNSET = {"CQRS_SECRETS_DIR"}
"""Settings that are read before the others are."""


def rows(page: str) -> list[tuple[list[str], str]]:
    """The tables' rows: the code in the first column, and the rest."""
    text = (REFERENCE / f"{page}.md").read_text()
    return [(CODE.findall(first), rest) for first, rest in ROW.findall(text) if "`" in first]


def raised() -> set[str]:
    """The errors that are named where they are made."""
    sources = [path for folder in ("api", "shared/domain") for path in (ROOT / folder).rglob("*.py")]
    calls = (node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    named = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in RAISED and call.args)
    return {str(call.args[0].value) for call in named if isinstance(call.args[0], ast.Constant)}


def documented() -> Iterator[tuple[str, int]]:
    """The errors of the OpenAPI document, each with its status."""
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for name in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                    yield name, int(status)


def defaults() -> dict[str, str]:
    """Each setting's default as it is written; "" if it has none."""
    fields = {f"CQRS_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    given = {name: f"{value:g}" if type(value) is float else str(value) for name, value in fields.items()}
    return {name: "" if value in {"None", "()"} else value for name, value in given.items()}


def test_http_names_every_route_and_no_other() -> None:
    routes = [route for route in app.routes if isinstance(route, Route)]
    ours = [route for route in routes if not route.path.startswith("/console")]
    there = {(method, route.path) for route in ours for method in route.methods or ()}
    requests = [each.split()[:2] for codes, _ in rows("http") for each in codes]
    named = {(method, path) for method, path in (each for each in requests if len(each) == 2) if method.isupper()}
    assert named == there - {("GET", "/docs/{name}")}


def test_http_names_every_parameter() -> None:
    text = (REFERENCE / "http.md").read_text()
    operations = (each for path in app.openapi()["paths"].values() for each in path.values())
    wanted = {each["name"].lower() for operation in operations for each in operation.get("parameters", [])}
    assert not [name for name in wanted if name not in text.lower()]


def test_http_names_every_error_with_its_status() -> None:
    named = {(codes[0], int(rest.split()[0])) for codes, rest in rows("http") if re.match(r" [45]\d\d ", rest)}
    proxy = re.findall(r"http-error status (\d+) .*?/problems/([a-z-]+)", (ROOT / "deploy" / "haproxy.cfg").read_text())
    documented_ = set(documented())
    assert documented_ | ALSO <= named
    known = raised() | {name for _, name in proxy} | {name for name, _ in documented_ | ALSO}
    assert {name for name, _ in named} == known
    assert {(name, int(status)) for status, name in proxy} <= named


def test_settings_has_every_setting_with_its_default() -> None:
    shown: dict[str, str] = {}
    for names, rest in rows("settings"):
        values = rest.split("|")[0].split(";")[0].replace("`", "").strip().split(", ")
        shown |= dict(zip(names, values * len(names) if len(values) == 1 else values, strict=True))
    assert dict.fromkeys(UNSET, "none") | {name: value or "none" for name, value in defaults().items()} == shown


def test_the_example_of_an_environment_has_every_setting_with_its_default() -> None:
    lines = dict(re.findall(r"^# (CQRS_\w+)=(?:\./)?(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert lines == dict.fromkeys(UNSET, "") | defaults()


def test_access_names_every_operation() -> None:
    text = (ROOT / "docs" / "operations" / "access.md").read_text().partition("## Who did it")[2]
    named = [name for first in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in CODE.findall(first)]
    assert sorted(named) == sorted(AUDITED)


@pytest.mark.parametrize(("page", "text"), reference.pages().items(), ids=lambda each: getattr(each, "name", ""))
def test_a_page_that_is_made_from_the_code_says_what_the_code_says(page: Path, text: str) -> None:
    assert page.read_text() == text, "`make reference` makes it anew"


@pytest.fixture(scope="module")
def exposition(files: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = shutil.copytree(files, tmp_path_factory.mktemp("metrics") / "data")
    with api(folder) as http:
        return http.get("/metrics").text


def test_metrics_has_every_metric_with_its_type_and_labels(exposition: str) -> None:
    there = dict(re.findall(r"^# TYPE (cqrs_\w+) (\w+)$", exposition, re.MULTILINE))
    shown = {codes[0]: rest.split("|") for codes, rest in rows("metrics")}
    assert {name: rest[0].strip() for name, rest in shown.items()} == there
    samples = re.findall(r"^(cqrs_\w+?)(?:_bucket|_count|_sum)?\{(.*?)\}", exposition, re.MULTILINE)
    for name, labels in samples:
        used = set(re.findall(r"(\w+)=", labels)) - {"le"}
        assert used == set(CODE.findall(shown[name][1])), name

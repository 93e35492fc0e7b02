"""Dashboard and alerts: they ask for nothing that isn't there, and real Prometheus takes them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.service import Service, eventually, free_port
from tests.support.stack import docker
from tests.support.stores import JOHN
from tests.support.trouble import new_email

FOLDER = Path(__file__).parents[2] / "deploy" / "metrics"
ALERTS, DASHBOARD = FOLDER / "alerts.yml", FOLDER / "grafana" / "cqrs.json"


def expressions() -> list[str]:
    """The dashboard's, over a window of the time that a test has."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [each["expr"].replace("$__rate_interval", "20s") for panel in panels for each in panel.get("targets", [])]


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_that_is_asked_for_is_shown(file: Path, shared_service: Service) -> None:
    used(shared_service)
    shown = set(re.findall(r"^cqrs_\w+", shared_service.http.get("/metrics").text, re.MULTILINE))
    asked = set(re.findall(r"\bcqrs_\w+", file.read_text()))
    assert asked
    assert asked - shown == set()


def used(service: Service) -> None:
    created = service.http.post("/users/", json={**JOHN, "email": new_email()}, headers={"Prefer": "wait=10"})
    assert created.status_code == 201
    eventually(lambda: 'handled_to_visible_seconds_count{projection="stats"}' in service.http.get("/metrics").text)


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool here")
@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ],
)
def test_prometheus_takes_configuration_and_alerts_which_fire_when_they_should(words: list[str]) -> None:
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "compose.postgres.yml"]], ids=len)
def test_compose_takes_the_overlay_last(files: list[str]) -> None:
    if not shutil.which("docker") or docker("compose", "version").returncode:
        pytest.skip("there is no `docker compose` here")
    words = [word for file in [*files, "compose.metrics.yml"] for word in ("--file", file)]
    done = docker("compose", *words, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert {port["host_ip"] for port in services[name]["ports"]} == {"127.0.0.1"}


@pytest.fixture
def prometheus(shared_service: Service, tmp_path: Path) -> Iterator[httpx.Client]:
    """A real one that scrapes the service; skips where there is none."""
    if not shutil.which("prometheus"):
        pytest.skip("there is no prometheus here")
    config, port = tmp_path / "prometheus.yml", free_port()
    target = {"targets": [f"127.0.0.1:{shared_service.port}"]}
    scrape = {"job_name": "cqrs", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [target]}
    config.write_text(json.dumps({"scrape_configs": [scrape], "rule_files": [str(ALERTS)]}))  # which YAML includes
    listen = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={config}", *listen], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            yield http
    finally:
        process.terminate()
        process.wait(20)


def found(prometheus: httpx.Client, expression: str) -> Any:
    try:
        answer = prometheus.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return None
    assert answer.status_code in (200, 503), (expression, answer.text)
    return answer.status_code == 200 and answer.json()["data"]["result"]


def test_every_panel_has_something_to_show(prometheus: httpx.Client, shared_service: Service) -> None:
    used(shared_service)
    eventually(partial(found, prometheus, "max(cqrs_backlog_commands)"), within=30)
    for expression in expressions():
        eventually(partial(found, prometheus, expression), within=30)
    rules = [rule for group in prometheus.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert rules
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}  # unknown until it was evaluated

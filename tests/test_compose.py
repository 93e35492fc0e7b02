"""The containers, as `docker compose up --build` runs them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.helpers import JOHN
from tests.service import clean_environment, eventually

ROOT = Path(__file__).parent.parent
IMAGES = ("python:3.13-slim", "redis:8-alpine")
ANY_FREE_PORT = {"CQRS_API_PORT": "0"}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | ANY_FREE_PORT
    command = ["docker", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def unavailable() -> str | None:
    """Why there can be no containers here."""
    try:
        for question in (["compose", "version"], ["info"]):
            if (answer := docker(*question)).returncode:
                return f"`docker {' '.join(question)}` says: {answer.stderr.strip()}"
    except FileNotFoundError:
        return "there is no `docker` here"
    for image in IMAGES:
        if docker("image", "inspect", image).returncode and (answer := docker("pull", image)).returncode:
            return f"{image} can't be had: {answer.stderr.strip()}"
    return None


class Stack:
    """A project of its own: containers, network and volumes."""

    def __init__(self) -> None:
        self.project = f"cqrs-test-{os.getpid()}-{uuid4().hex[:8]}"

    def compose(self, *arguments: str) -> str:
        result = docker("compose", "--file", "docker-compose.yml", "--project-name", self.project, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def workers_that_handled(self) -> set[str]:
        lines = self.compose("logs", "--no-color", "command-worker").splitlines()
        return {line.split()[0] for line in lines if "handled succeeded=" in line}


@pytest.fixture
def stack() -> Iterator[Stack]:
    if reason := unavailable():
        pytest.skip(reason)
    stack = Stack()
    try:
        stack.compose("up", "--build", "--detach", "--wait", "--scale", "command-worker=3")
        yield stack
    finally:
        stack.compose("down", "--volumes")


@pytest.mark.timeout(600)  # the images may have to be fetched and built first
def test_compose_serves_the_example_and_shares_commands_among_three_workers(stack: Stack) -> None:
    address = stack.compose("port", "api", "8000").strip()
    assert address.startswith("127.0.0.1:")
    with httpx.Client(base_url=f"http://{address}", timeout=35, trust_env=False) as http:
        assert http.post("/users/", json=JOHN).status_code == 202
        changed = http.put("/users/1", json={"email": "john.new@example.com"}, headers={"Prefer": "wait=5"})
        assert (changed.status_code, changed.json()["version"]) == (200, 2)
        events = [(event["id"], event["type"]) for event in http.get("/events/").json()]
        assert events == [(1, "UserCreated"), (2, "UserEmailUpdated")]
        assert http.get("/users/1").json() == {**JOHN, "user_id": 1, "email": "john.new@example.com", "version": 2}

        def all_three_handle() -> bool:
            for _ in range(30):
                assert http.post("/users/", json={**JOHN, "email": f"{uuid4()}@example.com"}).status_code == 202
            return len(stack.workers_that_handled()) == 3

        eventually(all_three_handle, within=30)

"""The service as containers: brought up, described, entered."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.support.service import clean_environment

ROOT = Path(__file__).parents[2]
ANY_FREE_PORT = {"CQRS_API_PORT": "0"}

ADD_KEY = "docker compose run --rm cqrs keys add app --role reader --role writer"
READ_KEY = "docker compose run --rm --entrypoint cat cqrs /run/secrets/cqrs_operator_key"
"""As the README says it."""


def docker(*arguments: str, **own: str) -> subprocess.CompletedProcess[str]:
    """What one of Docker's commands says; `own`: variables that Compose puts into its files."""
    environment = clean_environment() | ANY_FREE_PORT | own
    command = ["docker", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def unavailable(images: list[str]) -> str | None:
    """Why there can be no containers here."""
    try:
        for question in (["compose", "version"], ["info"]):
            if (answer := docker(*question)).returncode:
                return f"`docker {' '.join(question)}` says: {answer.stderr.strip()}"
    except FileNotFoundError:
        return "there is no `docker` here"
    for image in images:
        if docker("image", "inspect", image).returncode and (answer := docker("pull", image)).returncode:
            return f"{image} can't be had: {answer.stderr.strip()}"
    return None


class Stack:
    """A project of its own: containers, networks and volumes."""

    def __init__(self, files: list[str], entrance: str, auth: str = "") -> None:
        """`auth`: CQRS_AUTH, unless the files decide."""
        self.closed = (auth or {"proxy": "on", "api": "off"}[entrance]) == "on"
        self._key = ""
        self._own = {"CQRS_AUTH": auth} if auth else {}
        self.project = f"cqrs-test-{os.getpid()}-{uuid4().hex[:8]}"
        self.entrance = entrance
        self.scale = {"command-worker": 3} | ({"api": 2, "projection-worker": 2} if entrance == "proxy" else {})
        self._files = [word for each in files for word in ("--file", each)]

    def compose(self, *arguments: str) -> str:
        return self._said(*self._files, *arguments)

    def as_documented(self, line: str) -> str:
        """What a line of the documentation says, which names no files, whatever files the stack is made of."""
        docker_, compose, *arguments = line.split()
        assert (docker_, compose) == ("docker", "compose")
        return self._said(*arguments)

    def _said(self, *arguments: str) -> str:
        result = docker("compose", "--project-name", self.project, *arguments, **self._own)
        assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
        return result.stdout

    def up(self) -> httpx.Client:
        """Have all be there; a client of it, with a key if one is needed."""
        scale = [word for name, number in self.scale.items() for word in ("--scale", f"{name}={number}")]
        self.compose("up", "--build", "--detach", "--wait", *scale)
        address = self.compose("port", self.entrance, "8000").strip()
        assert address.startswith("127.0.0.1:")
        http = httpx.Client(base_url=f"http://{address}", timeout=35, trust_env=False)
        if self.closed:
            self._key = self._key or self.as_documented(f"{ADD_KEY} --role auditor").strip()
            http.headers["Authorization"] = f"Bearer {self._key}"
            time.sleep(1)  # in which each API container sees it
        return http

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """As Docker describes them; without names, all of the stack."""
        identities = self.compose("ps", "--all", "--quiet", *services).split()
        described: list[dict[str, Any]] = json.loads(docker("inspect", *identities).stdout)
        return described

    def inside(self, service: str, *command: str, **environment: str) -> str:
        """What a command says that is run in the service's first container."""
        own = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        result = docker("exec", *own, self.containers(service)[0]["Id"], *command)
        return result.stdout + result.stderr

    def inside_each(self, service: str, *command: str, **environment: str) -> list[str]:
        """What a command says that is run in all containers of a service at once."""
        own = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        containers = [each["Id"] for each in self.containers(service)]
        with ThreadPoolExecutor(len(containers)) as pool:
            return [each.stdout for each in pool.map(lambda each: docker("exec", *own, each, *command), containers)]

    def workers_that_handled(self) -> set[str]:
        lines = self.compose("logs", "--no-color", "command-worker").splitlines()
        return {line.split()[0] for line in lines if '"handled"' in line and '"succeeded"' in line}

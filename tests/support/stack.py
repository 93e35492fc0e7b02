"""The service as containers: brought up, described, entered."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.support.service import clean_environment

ROOT = Path(__file__).parents[2]
ANY_FREE_PORT = {"CQRS_API_PORT": "0"}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | ANY_FREE_PORT
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

    def __init__(self, files: list[str], entrance: str) -> None:
        self.project = f"cqrs-test-{os.getpid()}-{uuid4().hex[:8]}"
        self.entrance = entrance
        self.scale = {"command-worker": 3} | ({"api": 2, "projection-worker": 2} if entrance == "proxy" else {})
        self._files = [word for each in files for word in ("--file", each)]

    def compose(self, *arguments: str) -> str:
        result = docker("compose", *self._files, "--project-name", self.project, *arguments)
        assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
        return result.stdout

    def up(self) -> httpx.Client:
        scale = [word for name, number in self.scale.items() for word in ("--scale", f"{name}={number}")]
        self.compose("up", "--build", "--detach", "--wait", *scale)
        address = self.compose("port", self.entrance, "8000").strip()
        assert address.startswith("127.0.0.1:")
        return httpx.Client(base_url=f"http://{address}", timeout=35, trust_env=False)

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

    def workers_that_handled(self) -> set[str]:
        lines = self.compose("logs", "--no-color", "command-worker").splitlines()
        return {line.split()[0] for line in lines if '"handled"' in line and '"succeeded"' in line}

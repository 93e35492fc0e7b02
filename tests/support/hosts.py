"""Hosts on one machine: Linux network namespaces on a switch, whose cables can be pulled without anybody being told."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

SUBNET = "10.86.0"

SWITCH = "switch"
"""The hub's own device, too."""

CLONE_NEWNET = 0x40000000
"""See setns(2)."""


class Host(NamedTuple):
    """A namespace with one address; `hub` is the one that has the switch."""

    name: str
    address: str
    hub: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Where this thread is meanwhile, with what it starts: processes and threads."""
        with Path("/proc/thread-self/ns/net").open() as before, Path("/run/netns", self.name).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def cut_off(self) -> None:
        """What is sent to it and by it vanishes: no connection ends by that, none is refused."""
        _ip("-n", self.hub, "link", "set", self.name, "down")

    def join(self) -> None:
        _ip("-n", self.hub, "link", "set", self.name, "up")


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """As many hosts, the first with the switch. Skips where they can't be made."""
    if not shutil.which("ip"):
        pytest.skip("hosts are made by `ip`, of iproute2")
    hub, made = f"{names[0]}{os.getpid()}", []
    try:
        for number, name in enumerate(names, 1):
            made.append(Host(f"{name}{os.getpid()}", f"{SUBNET}.{number}", hub))
            _make(made[-1])
        yield made
    finally:
        for host in made:
            _ip("netns", "delete", host.name, check=False)


def _make(host: Host) -> None:
    made = _ip("netns", "add", host.name, check=False)
    if made.returncode:
        pytest.skip(f"hosts can't be made here: {made.stderr.strip()}")
    own = "eth0"
    if host.name == host.hub:
        own = SWITCH
        _ip("-n", host.hub, "link", "add", SWITCH, "type", "bridge")
    else:
        _ip("-n", host.hub, "link", "add", host.name, "type", "veth", "peer", "name", own, "netns", host.name)
        _ip("-n", host.hub, "link", "set", host.name, "master", SWITCH, "up")
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", own)
    for device in ("lo", own):
        _ip("-n", host.name, "link", "set", device, "up")


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=20)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")

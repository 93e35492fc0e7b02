"""A real browser's tab, driven by the DevTools protocol through pipes: nothing else is needed for it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.browser import OPTIONS

END = b"\0"


class Tab:
    """`events` has what the browser told by itself."""

    def __init__(self, to: int, from_: int) -> None:
        self._to, self._from = to, from_
        self._ids = count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self, url: str) -> None:
        """With what it asks for and complains of among the events."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """What a line of JavaScript comes to, once its promise is kept."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def told(self, method: str) -> list[dict[str, Any]]:
        """The parameters of those events."""
        return [each["params"] for each in self.events if each["method"] == method]

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self._to, json.dumps(message).encode() + END)
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while END not in self._rest:
            some = os.read(self._from, 2**16)
            assert some, "the browser is gone"
            self._rest += some
        first, _, self._rest = self._rest.partition(END)
        message: dict[str, Any] = json.loads(first)
        return message


@contextmanager
def visiting(browser: str, profile: Path, url: str) -> Iterator[Tab]:
    to_browser, to = os.pipe()
    from_, from_browser = os.pipe()

    options = [each for each in OPTIONS if each != "--disable-web-security"]
    command = [browser, *options, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    where = f'exec "$@" 3</dev/fd/{to_browser} 4>/dev/fd/{from_browser}'  # where `--remote-debugging-pipe` has them
    process = subprocess.Popen(
        ["sh", "-c", where, "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(to_browser, from_browser),
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        tab = Tab(to, from_)
        tab.open(url)
        yield tab
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        os.close(to)
        os.close(from_)

"""A real browser, which follows streams as any page would and reports what it sees."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = "chromium", "chromium-browser", "google-chrome"

PAGE = """<!doctype html><script>
let told = Promise.resolve();
const tell = what => told = told.then(() => fetch("/", {method: "POST", body: JSON.stringify(what)}));
for (const url of %s) {
  const source = new EventSource(url);
  source.onopen = () => tell([url, "open"]);
  source.onmessage = event => tell([url, event.lastEventId, JSON.parse(event.data)]);
  source.onerror = () => tell([url, source.readyState === EventSource.CLOSED ? "closed" : "comes back"]);
}
</script>"""

# The page's origin isn't that of the API, which lets no other read its answers.
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--disable-web-security"]


def path() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing(browser: str, profile: Path, urls: Sequence[str]) -> Iterator[list[list[Any]]]:
    """What a page with an EventSource for each URL tells: the URL, and a message's id and data or a word."""
    told: list[list[Any]] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer((PAGE % json.dumps(urls)).encode())

        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def log_message(self, *_: object) -> None:
            """It isn't of interest."""

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, *OPTIONS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}"]
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
        try:
            yield told
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            server.shutdown()

"""Lighthouse, the judge of pages that Chromium's developer tools have: at least 95 of 100 for every screen."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.console.conftest import NODE_MODULES
from tests.console.test_screens import SCREENS
from tests.support import browser
from tests.support.service import Service

LIGHTHOUSE = NODE_MODULES / "lighthouse" / "cli" / "index.js"

CATEGORIES = "performance", "accessibility", "best-practices"

LEAST = 0.95

FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("route", SCREENS)
def test_lighthouse_gives_a_screen_95_of_100(
    service: Service, paths: dict[str, str], tmp_path: Path, route: str
) -> None:
    report = tmp_path / "report.json"
    command = ["node", str(LIGHTHOUSE), f"{service.url}{paths[route]}", "--preset=desktop", "--output=json"]
    command += [
        f"--output-path={report}",
        f"--only-categories={','.join(CATEGORIES)}",
        f"--chrome-flags={FLAGS}",
        "--quiet",
    ]
    subprocess.run(command, check=True, timeout=200, env=os.environ | {"CHROME_PATH": browser.path() or ""})
    found = json.loads(report.read_text())
    scores = {each: found["categories"][each]["score"] for each in CATEGORIES}
    failed = [each["id"] for each in found["audits"].values() if (each.get("score") or 0) < 1 and each.get("details")]
    assert min(scores.values()) >= LEAST, (scores, failed)

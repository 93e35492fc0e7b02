"""Keys on many hosts: made and revoked on one, they count and end on all; and what holds while a host is cut off."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.access.keys import new_key
from shared.clock import moment
from tests.support.cluster import Cluster, running_cluster
from tests.support.keys import bearer
from tests.support.service import clean_environment, environment, eventually
from tests.support.stores import JOHN

pytestmark = pytest.mark.long

OPERATOR = new_key()

SERVES_FOR, ENDS_WITHIN = 25.0, 40.0
"""Seconds for which a key must count that can't be looked up, and after which it must not: 30 s, and one look."""

ANSWERED = 10.0
"""Seconds in which an API that is cut off has to answer."""

BACK = 10.0
"""Seconds after which it has to be back."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("hosts"), OPERATOR.text) as running:
        yield running


def on_b(cluster: Cluster, *words: str) -> Any:
    """What the command says on a host without an API, as JSON."""
    own = clean_environment() | environment(cluster.settings)
    command = [sys.executable, "-m", "cli", *words, "--json"]
    with cluster.b.inside():
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def asked(url: str, key: str, path: str = "/users/") -> httpx.Response:
    return httpx.get(url + path, headers=bearer(key) if key else {}, timeout=30, trust_env=False)


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"] if answer.status_code >= 400 else ""


def test_p10_a_key_of_one_host_counts_on_all_and_revoked_there_on_none_a_second_later(cluster: Cluster) -> None:
    here, made = "http://{}:{}".format(*cluster.address), on_b(cluster, "keys", "add", "app", "--role", "reader")
    post = httpx.post(f"{here}/users/", json=JOHN, headers=bearer(made["key"]), trust_env=False)
    assert kind(post) == (403, "/problems/missing-role")
    assert kind(asked(here, "")) == (401, "/problems/unauthenticated")

    def counts() -> bool:
        with cluster.a.inside():
            on_a = asked(cluster.api_on_a, made["key"])
        return (asked(here, made["key"]).status_code, on_a.status_code) == (200, 200)

    eventually(counts, within=2)
    revoked_at = moment(on_b(cluster, "keys", "revoke", "app")["revoked_at"]).timestamp()
    time.sleep(max(0.0, revoked_at + 1 - time.time()))
    assert kind(asked(here, made["key"])) == (401, "/problems/invalid-credentials")
    with cluster.a.inside():
        assert kind(asked(cluster.api_on_a, made["key"])) == (401, "/problems/invalid-credentials")


@pytest.mark.timeout(240)
def test_p10_an_api_that_is_cut_off_lets_known_keys_in_for_half_a_minute_and_then_nobody(cluster: Cluster) -> None:
    def metrics(key: str) -> tuple[int, str]:
        """Of a route that answers without any store."""
        answer = asked(cluster.api_on_a, key, "/metrics")
        assert answer.elapsed.total_seconds() < ANSWERED
        return answer.status_code, answer.headers["content-type"].partition(";")[0]

    with cluster.a.inside():
        assert metrics(OPERATOR.text) == (200, "text/plain")
        cluster.a.cut_off()
        cut = time.monotonic()
        while time.monotonic() < cut + SERVES_FOR:
            assert metrics(OPERATOR.text) == (200, "text/plain")
            assert metrics(new_key().text)[0] == 401
            time.sleep(0.5)
        eventually(lambda: metrics(OPERATOR.text) == (503, "application/problem+json"), within=ENDS_WITHIN - SERVES_FOR)
        refused = asked(cluster.api_on_a, OPERATOR.text)
        assert kind(refused) == (503, "/problems/credentials-unavailable")
        assert refused.headers["Retry-After"]
        assert metrics(new_key().text)[0] == 503
        assert httpx.get(f"{cluster.api_on_a}/livez", trust_env=False).status_code == 200
        cluster.a.join()
        eventually(lambda: metrics(OPERATOR.text)[0] == 200, within=BACK)

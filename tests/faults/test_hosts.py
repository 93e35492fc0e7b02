"""A host is cut off under load and joins again: a cable is pulled, and nobody is told."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import httpx
import psutil
import pytest

from shared.domain.projections import PROJECTIONS
from shared.stores import event_store
from tests.faults.storm.run import Storm, probe
from tests.faults.storm.sender import Sender
from tests.support.cluster import Cluster, running_cluster
from tests.support.hosts import Host
from tests.support.service import answers, eventually
from tests.support.stores import JOHN
from tests.support.trouble import new_email

pytestmark = pytest.mark.long

AWAY = 60 if os.environ.get("LONG") else 15
"""Seconds that a host is cut off for, more than anybody waits; `make test-faults` takes the time."""

TAKEN_OVER = 10.0
"""Seconds after which another host has to be at the work of one that is gone, and one that is back at its own."""

REFUSED = 10.0
"""Seconds after which an API that is cut off from a store has to say so."""


BUSY = "SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s AND state <> 'idle'"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("hosts")) as running:
        yield running


def cut_off_at_work(cluster: Cluster) -> None:
    """Cut host a off while it holds every lock that there is, in the midst of transactions."""
    others = [cluster.roles[name] for name in ("commands on b", "projections on b")]
    with ExitStack() as resuming, cluster.connect() as connection:
        for process in others:
            resuming.callback(process.resume)
        eventually(partial(stopped, cluster, others))
        # Projections first: while no event is written, they have nothing to write.
        connection.execute("LOCK TABLE users, emails, daily IN EXCLUSIVE MODE")
        eventually(lambda: cluster.holders().keys() >= PROJECTIONS.keys())
        connection.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        eventually(lambda: cluster.holders().keys() == {event_store.LOCK, *PROJECTIONS})
        assert set(cluster.holders().values()) == {cluster.a.address}
        cluster.a.cut_off()


def stopped(cluster: Cluster, processes: list[psutil.Popen]) -> bool:
    """Whether they are, with nothing asked of the server and no lock in their hands."""
    for process in processes:
        process.suspend()
    if not cluster.number(BUSY, cluster.b.address):
        return True
    for process in processes:
        process.resume()
    return False


def at_work(cluster: Cluster, host: Host, since: int) -> bool:
    """Whether a host's workers have done something of everything, by what they said from there on."""
    said = cluster.said(host)[since:]
    return all(word in said for word in ("handled ", *(f"projection={name}" for name in PROJECTIONS)))


async def seconds_to_everything(cluster: Cluster, probes: Sender) -> float:
    """Until a new command is handled, and every projection shows what was in the log by then."""
    since = time.monotonic()
    assert await probe(probes, within=30)
    last = cluster.number("SELECT max(position) FROM events")
    await asyncio.to_thread(
        eventually, lambda: cluster.number("SELECT min(position) FROM checkpoints") >= last, within=30
    )
    return time.monotonic() - since


@pytest.mark.timeout(AWAY + 240)
def test_p1_to_p6_hold_when_a_host_with_workers_is_cut_off_and_joins_again(cluster: Cluster) -> None:
    took: list[float] = []

    async def trouble(probes: Sender) -> None:
        await seconds_to_everything(cluster, probes)
        await asyncio.to_thread(cut_off_at_work, cluster)
        cut = time.monotonic()
        took.append(await seconds_to_everything(cluster, probes))
        await asyncio.sleep(max(0, cut + AWAY - time.monotonic()))
        since, joined = len(cluster.said(cluster.a)), time.monotonic()
        cluster.a.join()
        await asyncio.to_thread(eventually, lambda: at_work(cluster, cluster.a, since), within=60)
        took.append(time.monotonic() - joined)

    storm = Storm(cluster.settings, seed=1)
    asyncio.run(storm.weathered(*cluster.address, trouble))
    verdict = storm.verdict()
    assert verdict.holds, verdict.findings
    assert max(took) < TAKEN_OVER, took
    assert all(process.poll() is None for process in cluster.roles.values())


def is_refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.headers.get("retry-after")) == (503, "1")


def test_p8_an_api_that_is_cut_off_says_so_and_is_back_by_itself(cluster: Cluster) -> None:
    create = {**JOHN, "email": new_email()}
    with cluster.a.inside(), httpx.Client(base_url=cluster.api_on_a, timeout=30) as http:
        eventually(lambda: answers(http, "/readyz"), within=60)
        assert http.post("/users/", json=create, headers={"Prefer": "wait=10"}).status_code == 201
        cluster.a.cut_off()
        until = time.monotonic() + AWAY
        while time.monotonic() < until:
            refused = [http.post("/users/", json=create), *map(http.get, ("/users/", "/events/", "/readyz"))]
            assert all(map(is_refused, refused)), refused
            assert max(answer.elapsed.total_seconds() for answer in refused) < REFUSED
            alive = http.get("/livez")
            assert (alive.status_code, alive.elapsed.total_seconds() < 1) == (200, True)
        cluster.a.join()
        create["email"] = new_email()
        back = eventually(lambda: goes_through(http, create), within=TAKEN_OVER)
        assert back.status_code == 201


def goes_through(http: httpx.Client, create: dict[str, str]) -> httpx.Response | None:
    answer = http.post("/users/", json=create, headers={"Prefer": "wait=5"})
    return None if answer.status_code == 503 else answer

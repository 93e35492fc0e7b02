"""More than the workers can take: the API says so, stays as it is, and takes more as soon as it can."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from tests.support.service import Service, api, eventually
from tests.support.stores import JOHN, Stores, accept, create, update

Start = Callable[..., Service]

CLIENTS = 16


@contextlib.contextmanager
def endless(http: httpx.Client) -> Iterator[list[httpx.Response]]:
    """Clients that post without a pause while the block runs; the answers they got so far."""
    answers: list[httpx.Response] = []
    enough = threading.Event()

    def post() -> None:
        while not enough.is_set():
            answers.append(http.post("/users/", json={**JOHN, "email": f"{secrets.token_hex(8)}@example.com"}))

    with ThreadPoolExecutor(CLIENTS) as threads:
        posts = [threads.submit(post) for _ in range(CLIENTS)]
        try:
            yield answers
        finally:
            enough.set()
    for each in posts:
        each.result()


def resident(http: httpx.Client) -> int:
    """Bytes of the process that answers there."""
    listens = (each.pid for each in psutil.net_connections("tcp") if each.laddr.port == http.base_url.port)
    return int(psutil.Process(next(filter(None, listens))).memory_info().rss)


def test_p8_without_workers_the_api_refuses_what_is_over_the_backlog_and_its_memory_stays_flat(stores: Stores) -> None:
    with api(stores.settings.data_dir, CQRS_MAX_BACKLOG="500") as http, endless(http) as answers:
        eventually(lambda: 503 in {answer.status_code for answer in answers}, within=30)
        full, memory = len(answers), resident(http)
        eventually(lambda: len(answers) > full + 2000, within=60)
        assert resident(http) < 1.1 * memory
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {(answer.json()["type"], answer.headers["retry-after"]) for answer in refused} == {
            ("/problems/backlog-full", "1")
        }
        assert sum(answer.status_code == 202 for answer in answers) == 500
        assert http.get("/users/").status_code == 200
        assert http.get(answers[0].headers["location"]).json()["status"] == "accepted"
        while stores.handler.handle():
            pass
        eventually(lambda: sum(answer.status_code == 202 for answer in answers) >= 1000)


def test_p8_ten_thousand_commands_to_one_stream_hold_up_no_other(service: Start, stores: Stores) -> None:
    accept(stores, create("a@example.com"), *(update(1, f"{n}@example.com") for n in range(10_000)))
    running = service().ready()
    other = running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"})
    assert other.status_code == 201
    for user_id in (1, 2):
        answer = running.http.put(
            f"/users/{user_id}", json={"email": f"{user_id}@later.example.com"}, headers={"Prefer": "wait=10"}
        )
        assert (answer.status_code, answer.elapsed.total_seconds() < 1) == (200, True)

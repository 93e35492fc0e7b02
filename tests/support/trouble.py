"""What the tests that make trouble share: a client that never stops, and how to see that all is well again."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pysqlite3.dbapi2 as sqlite3

from tests.support.service import Service
from tests.support.stores import JOHN


@contextmanager
def posting(service: Service) -> Iterator[list[httpx.Response]]:
    """A client that posts one command after another while the block runs; the answers it got so far."""
    answers: list[httpx.Response] = []
    enough = threading.Event()

    def post() -> None:
        while not enough.wait(0.02):
            answers.append(service.http.post("/users/", json={**JOHN, "email": new_email()}))

    with ThreadPoolExecutor(1) as thread:
        posts = thread.submit(post)
        try:
            yield answers
        finally:
            enough.set()
        posts.result()


def goes_all_the_way(service: Service, answers: Iterable[httpx.Response]) -> None:
    """A new command becomes visible, and whatever was answered 202 before it is visible then."""
    command = {**JOHN, "email": new_email()}
    last = service.http.post("/users/", json=command, headers={"Prefer": "wait=30"})
    assert last.status_code == 201, last.text
    accepted = {answer.json()["user_id"] for answer in answers if answer.status_code == 202}
    assert accepted <= user_ids(service)


def user_ids(service: Service) -> set[int]:
    """Every user that the read model shows."""
    ids: set[int] = set()
    while page := service.http.get("/users/", params={"limit": 1000, "after": max(ids, default=0)}).json():
        ids.update(user["user_id"] for user in page)
    return ids


def new_email() -> str:
    return f"{uuid4().hex}@example.com"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nobody else can write to a store."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield

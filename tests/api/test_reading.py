"""Requests that read a server: one that hangs holds up only who asks it, and not for long."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from api.reading.store import READ_TIMEOUT
from tests.support.postgresql import MASTER_KEY, Postgres
from tests.support.service import answers, api, environment, eventually, free_port, start
from tests.support.stores import Stores

AT_ONCE = 20


@contextmanager
def hung(server: Postgres) -> Iterator[None]:
    assert server._process
    processes = [server._process, *server._process.children()]
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in processes:
            each.resume()


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_p8_while_a_server_hangs_queries_are_503_in_time_and_the_process_is_alive(
    stores: Stores, postgres: Postgres
) -> None:
    settings = stores.settings
    there = {"CQRS_READ_MODEL_URL": settings.read_model_url}
    elsewhere = {"CQRS_SUBJECTS_URL": f"sqlite:///{settings.data_dir / 'subjects.db'}", "CQRS_MASTER_KEY": MASTER_KEY}
    with api(settings.data_dir, **there, **elsewhere) as http, ThreadPoolExecutor(AT_ONCE) as many:
        assert http.get("/users/").json() == []
        with hung(postgres):
            asked = [many.submit(http.get, path) for path in ["/users/", "/stats", "/users/1?min_position=1"] * 7]
            assert http.get("/livez").elapsed.total_seconds() < READ_TIMEOUT
            assert http.get("/events/").elapsed.total_seconds() < READ_TIMEOUT
            assert (
                http.get("/readyz").json()["dependencies"]["read_model"]
                == f"down: it said nothing for {READ_TIMEOUT:g} s"
            )
            for each in asked:
                answer = each.result()
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
                assert answer.elapsed.total_seconds() < READ_TIMEOUT + 10
        eventually(lambda: http.get("/users/").status_code == 200)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_the_api_stops_while_a_server_hangs(stores: Stores, postgres: Postgres) -> None:
    own = environment(stores.settings) | {"CQRS_API_PORT": str(port := free_port())}
    process = start(["api"], stores.settings.data_dir, own)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=35) as http:
        eventually(lambda: answers(http, "/livez"), within=30)
        assert http.get("/users/").json() == []
        with hung(postgres):
            assert http.get("/users/").status_code == 503
            process.terminate()
            assert process.wait(20) == 0

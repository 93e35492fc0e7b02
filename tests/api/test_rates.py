"""Requests a second: of a key, and of an address without one."""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.access.keys import new_key
from shared.access.roles import Role
from shared.settings import Settings
from tests.support import keys
from tests.support.service import api, eventually

BY_KEY, BY_ADDRESS = 20, 5
"""Requests a second."""

PROXY = "127.0.0.9"

Client = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def folder(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates") / "data"
    shutil.copytree(files, folder)
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> Callable[..., str]:
    """Makes keys."""

    def make(*roles: Role) -> str:
        return keys.add(Settings(data_dir=folder, _env_file=None), *roles).text

    return make


@pytest.fixture(scope="module")
def url(folder: Path, key: Callable[..., str]) -> Iterator[str]:
    key("reader")  # without any, it would not start
    limits = {"CQRS_MAX_RATE_PER_KEY": str(BY_KEY), "CQRS_MAX_RATE_PER_ADDRESS": str(BY_ADDRESS)}
    with api(folder, CQRS_AUTH="on", CQRS_TRUSTED_PROXIES=PROXY, CQRS_LOG_FORMAT="json", **limits) as http:
        yield str(http.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Makes clients, each at an address, and perhaps with a key."""
    with ExitStack() as open_:

        def make(address: str, key: str = "", **headers: str) -> httpx.Client:
            if key:
                headers["Authorization"] = f"Bearer {key}"
            transport = httpx.HTTPTransport(verify=False, local_address=address)
            return open_.enter_context(httpx.Client(base_url=url, headers=headers, transport=transport, timeout=30))

        yield make


@pytest.fixture
def reader(client: Client, key: Callable[..., str]) -> Callable[[str], httpx.Client]:
    """Makes clients with a new key each, once it counts."""

    def make(address: str) -> httpx.Client:
        made = client(address, key("reader"))
        eventually(lambda: made.get("/stats").status_code == 200)
        time.sleep(1)  # its bucket is full again
        return made

    return make


def use_up(http: httpx.Client, path: str = "/stats") -> httpx.Response:
    """The first answer that is 429."""
    for _ in range(2000):
        if (answer := http.get(path)).status_code == 429:
            return answer
    raise AssertionError("it was never too many")


def test_a_key_that_asks_too_often_is_told_so_and_may_go_on_after_a_second(
    reader: Callable[[str], httpx.Client],
) -> None:
    http = reader("127.0.0.1")
    answer = use_up(http)
    assert answer.json()["type"] == "/problems/too-many-requests"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["ratelimit-policy"] == f'"key";q={BY_KEY};w=1'
    assert answer.headers["ratelimit"] == '"key";r=0;t=1'
    time.sleep(int(answer.headers["retry-after"]))
    assert [http.get("/stats").status_code for _ in range(BY_KEY)] == [200] * BY_KEY


def test_who_is_below_half_of_the_rate_is_told_what_is_left(reader: Callable[[str], httpx.Client]) -> None:
    http = reader("127.0.0.1")
    assert "ratelimit" not in http.get("/stats").headers
    told = next(filter(None, (http.get("/stats").headers.get("ratelimit") for _ in range(2000))))
    found = re.fullmatch(r'"key";r=(\d+);t=1', told)
    assert found
    assert int(found[1]) < BY_KEY / 2


def test_p8_one_key_at_its_limit_does_not_disturb_another(reader: Callable[[str], httpx.Client]) -> None:
    busy, other = reader("127.0.0.1"), reader("127.0.0.1")
    use_up(busy)
    assert other.get("/stats").status_code == 200


def test_a_key_has_one_rate_wherever_it_is_used(reader: Callable[[str], httpx.Client], client: Client) -> None:
    busy = reader("127.0.0.1")
    elsewhere = client("127.0.0.31", busy.headers["authorization"].removeprefix("Bearer "))
    use_up(busy)
    assert sum(elsewhere.get("/stats").status_code == 429 for _ in range(5)) >= 3


def test_p8_an_address_without_a_key_is_refused_while_keys_at_it_and_health_checks_go_on(
    reader: Callable[[str], httpx.Client], client: Client
) -> None:
    with_key, stranger = reader("127.0.0.32"), client("127.0.0.32")
    assert stranger.get("/stats").status_code == 401
    answer = use_up(stranger)
    assert (answer.headers["ratelimit"], answer.headers["retry-after"]) == ('"address";r=0;t=1', "1")
    assert answer.headers["ratelimit-policy"] == f'"address";q={BY_ADDRESS};w=1'
    assert with_key.get("/stats").status_code == 200
    assert [stranger.get("/livez").status_code for _ in range(3 * BY_ADDRESS)] == [200] * 3 * BY_ADDRESS
    assert client("127.0.0.33").get("/stats").status_code == 401


def test_guessing_keys_is_slow_on_every_route(
    client: Client, key: Callable[..., str], reader: Callable[[str], httpx.Client]
) -> None:
    operator = key("operator")
    eventually(lambda: "dependencies" in client("127.0.0.34", operator).get("/readyz").json())
    guess = client("127.0.0.35", new_key().text)
    answers = [guess.get("/stats").status_code for _ in range(10 * BY_ADDRESS)]
    assert answers[:BY_ADDRESS] == [401] * BY_ADDRESS
    assert answers.count(429) >= 5 * BY_ADDRESS
    with_right_key = client("127.0.0.35", operator)  # at an address whose rate is used up it isn't even looked at
    shown = []
    for _ in range(10):
        guess.get("/stats")
        shown.append("dependencies" in with_right_key.get("/readyz").json())
    assert shown.count(False) >= 5
    assert reader("127.0.0.35").get("/stats").status_code == 200


def test_a_stranger_s_x_forwarded_for_makes_no_new_bucket_and_a_trusted_proxy_s_does(client: Client) -> None:
    stranger, proxy = client("127.0.0.36"), client(PROXY)

    def forwarded(by: httpx.Client, clients: str) -> int:
        return by.get("/stats", headers={"X-Forwarded-For": clients}).status_code

    by_stranger = [forwarded(stranger, f"10.0.0.{number}") for number in range(6 * BY_ADDRESS)]
    assert by_stranger.count(429) >= 2 * BY_ADDRESS
    assert [forwarded(proxy, f"10.0.0.{number}") for number in range(6 * BY_ADDRESS)] == [401] * 6 * BY_ADDRESS
    of_one = [forwarded(proxy, f"10.9.{number}.1, 10.0.0.200") for number in range(6 * BY_ADDRESS)]
    assert of_one.count(429) >= 2 * BY_ADDRESS
    network = [forwarded(proxy, f"2001:db8::{number:x}") for number in range(6 * BY_ADDRESS)]
    assert network.count(429) >= 2 * BY_ADDRESS


def test_refusals_are_counted_and_logged_now_and_then_without_any_secret(
    client: Client, key: Callable[..., str], folder: Path
) -> None:
    operator = key("operator")
    http = client("127.0.0.37", operator)
    eventually(lambda: http.get("/metrics").status_code == 200)
    before = _refused(http)
    guessed = new_key().text
    guess = client("127.0.0.38", guessed)
    assert [guess.get("/stats").status_code for _ in range(3)] == [401] * 3
    assert [http.get("/stats").status_code for _ in range(4)] == [403] * 4
    after = _refused(http)
    assert after["invalid-credentials"] - before.get("invalid-credentials", 0) == 3
    assert after["missing-role"] - before.get("missing-role", 0) == 4

    id = operator.split("_")[1]
    told = eventually(lambda: [each for each in _lines(folder) if f"key:{id}" in each["clients"]], within=15)
    assert sum(each["missing-role"] for each in told) == 4
    assert any("127.0.0.38" in each["clients"] for each in _lines(folder))
    text = folder.with_suffix(".log").read_text()
    assert operator not in text
    assert guessed not in text
    times = [each["timestamp"] for each in _lines(folder)]
    seconds = [_seconds(later) - _seconds(earlier) for earlier, later in pairwise(times)]
    assert all(each > 9 for each in seconds)


def _refused(http: httpx.Client) -> dict[str, float]:
    lines = [each for each in http.get("/metrics").text.splitlines() if each.startswith("cqrs_http_refused_total{")]
    return {each.split('"')[1]: float(each.rsplit(" ", 1)[1]) for each in lines}


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = (json.loads(each) for each in folder.with_suffix(".log").read_text().splitlines() if each[0] == "{")
    return [each for each in lines if each["event"] == "requests refused"]


def _seconds(timestamp: str) -> float:
    hours, minutes, seconds = timestamp.rstrip("Z").split("T")[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_an_open_api_limits_nobody_unless_it_is_told_to(folder: Path) -> None:
    with api(folder, CQRS_AUTH="off") as http:
        assert "HTTP/1.1 429" not in at_once(http, 300)
    with api(folder, CQRS_AUTH="off", CQRS_MAX_RATE_PER_ADDRESS="5") as http:
        assert use_up(http).headers["ratelimit-policy"] == '"address";q=5;w=1'


def test_a_closed_api_has_limits_unless_it_is_told_none(folder: Path) -> None:
    with api(folder, CQRS_AUTH="on") as http:
        assert '"address";q=100;w=1' in at_once(http, 300)
    with api(folder, CQRS_AUTH="on", CQRS_MAX_RATE_PER_ADDRESS="0") as http:
        assert "ratelimit" not in at_once(http, 300)


def at_once(http: httpx.Client, times: int) -> str:
    """The answers to so many requests that are sent before any is answered."""
    ask = f"GET /stats HTTP/1.1\r\nHost: 127.0.0.1:{http.base_url.port}\r\n"
    with socket.create_connection(("127.0.0.1", http.base_url.port or 80), timeout=30) as connection:
        connection.sendall(f"{ask}\r\n".encode() * (times - 1) + f"{ask}Connection: close\r\n\r\n".encode())
        with connection.makefile("rb") as answers:
            return answers.read().decode()

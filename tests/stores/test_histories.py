"""Random histories of requests, and of what workers do meanwhile, held against tests/support/model.py.

They are the same each time. `HISTORIES=1000 pytest tests/stores/test_histories.py` looks for as many new ones.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import hypothesis
import pytest
from hypothesis import Phase, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from api import service
from api.main import create_app
from shared import tuning
from shared.broker import bus
from shared.database import engines
from shared.domain.users import decider
from shared.domain.users.read_models import users as read_model
from shared.settings import Settings
from tests.support.model import BUG, Command, Model, Request
from tests.support.stores import JOHN, new_handler
from workers.handling import handler
from workers.projecting import chunk as projections
from workers.projecting import runner

HISTORIES = os.environ.get("HISTORIES")


class Create(NamedTuple):
    """So many times at once."""

    email: str
    key: str | None
    times: int


class Update(NamedTuple):
    user: int
    email: str
    if_match: int | None
    key: str | None


class Mark(NamedTuple):
    """Deactivate a user, or reactivate it."""

    user: int
    active: bool
    if_match: int | None
    key: str | None


class Repeat(NamedTuple):
    """What was sent so many requests ago."""

    ago: int
    prefer: str | None


class Handle(NamedTuple):
    """So many commands, after another try of those that are set aside."""

    chunk: int
    retry: bool


class CatchUp(NamedTuple):
    chunk: int


class Query(NamedTuple):
    user: int
    if_none_match: int | None
    after: int
    limit: int
    min_position: int | None
    active: bool | None


one_of = strategies.sampled_from
builds = strategies.builds

emails = one_of(["ann@example.com", "ANN@example.com", "bob@example.com", "bob@example.com", "cy@example.com", BUG])
users = one_of([1, 1, 1, 2, 2, 3])
versions = one_of([None, None, None, None, 1, 2])
keys = one_of([None, None, "k1", "k2", "k3", "k4"])
chunks = one_of([1, 3, 500])

creations = builds(Create, email=emails, key=keys, times=one_of([1, 1, 1, 2]))
updates = builds(Update, user=users, email=emails, if_match=versions, key=keys)
marks = builds(
    Mark, user=one_of([1, 1, 1, 2]), active=strategies.booleans(), if_match=versions, key=one_of([None, "k4"])
)
repetitions = builds(Repeat, ago=one_of([1, 2]), prefer=one_of([None, "wait=0", "wait=0"]))
handling = builds(Handle, chunk=chunks, retry=strategies.booleans())
projecting = builds(CatchUp, chunk=chunks)
queries = builds(
    Query,
    user=users,
    if_none_match=one_of([None, 1, 2]),
    after=one_of([0, 1, 2]),
    limit=one_of([1, 2, 100]),
    min_position=one_of([None, None, 1, 2, 4]),
    active=one_of([None, True, False]),
)


class Stack:
    """The service in this process, on stores of its own; its workers work when they are told to."""

    def __init__(self, empty: Callable[[Path], Settings]) -> None:
        """`empty` makes stores, in a folder if they are files, as `cqrs init` leaves them."""
        self._open = ExitStack()
        self._patch = self._open.enter_context(pytest.MonkeyPatch.context())
        self._patch.setattr(bus, "wake", lambda *_: None)
        self._patch.setattr(service, "MIN_POSITION_TIMEOUT", 0.001)
        self._patch.setattr(handler, "AGGREGATES", {"user": replace(decider.users, decide=decide_with_a_bug)})
        self._patch.setattr(tuning, "collect_less", lambda: None)  # this process is not one that serves
        settings = empty(Path(self._open.enter_context(TemporaryDirectory())))
        self._log = engines.writer(settings.event_store, lock="event_store")
        self._handler = new_handler(settings, self._log)
        self._read_model = engines.writer(settings.read_model_of("users"), lock="users", durable=False)
        for engine in (self._log, self._read_model):
            self._open.callback(engine.dispose)
        app = create_app(settings)
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        self._loop = self._open.enter_context(asyncio.Runner())
        lifespan = app.router.lifespan_context(app)
        self._loop.run(lifespan.__aenter__())
        self._open.callback(lambda: self._loop.run(lifespan.__aexit__(None, None, None)))

    def close(self) -> None:
        self._open.close()

    def send(self, request: Request, key: str | None, prefer: str | None, times: int) -> list[httpx.Response]:
        user, email, if_match, active = request
        method, path = ("PUT", f"/users/{user}") if user else ("POST", "/users/")
        body: dict[str, Any] | None = {**({} if user else JOHN), "email": email}
        if active is not None:
            method, path, body = "DELETE" if active else "POST", f"/users/{user}/deactivation", None
        headers = {"Idempotency-Key": key, "Prefer": prefer, "If-Match": if_match and f'"{if_match}"'}

        async def at_once() -> list[httpx.Response]:
            one = partial(self._http.request, method, path, json=body, headers=given(headers))
            return await asyncio.gather(*(one() for _ in range(times)))

        return self._loop.run(at_once())

    def get(self, path: str, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        return self._loop.run(self._http.get(path, params=given(params), headers=headers))

    def handle(self, chunk: int, *, retry: bool) -> None:
        self._patch.setattr(handler, "CHUNK", chunk)
        if retry:
            self._handler.retry()
        self._handler.handle()

    def catch_up(self, chunk: int) -> None:
        self._patch.setattr(projections, "CHUNK", chunk)
        runner.catch_up(self._log, self._read_model, read_model.users)


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def decide_with_a_bug(command: Any, user: Any) -> Any:
    if getattr(command, "email", None) == BUG:
        raise ZeroDivisionError("a bug")
    return decider.decide(command, user)


class History(RuleBasedStateMachine):
    """One rule, not one for each act: of many rules, Hypothesis leaves out half in most histories."""

    def __init__(self, empty: Callable[[Path], Settings]) -> None:
        super().__init__()
        self.stack = Stack(empty)
        self.model = Model()
        self.sent: list[tuple[Request, str | None]] = []
        self.first_answers: dict[Command, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.stack.close()

    @initialize()
    def ann_is_user_1(self) -> None:
        self.sent.append((Request(None, "ann@example.com"), "k1"))
        self.send(*self.sent[-1])

    @rule(
        act=strategies.one_of(
            handling, handling, creations, updates, updates, updates, marks, marks, repetitions, projecting, queries
        )
    )
    def then(self, act: Create | Update | Mark | Repeat | Handle | CatchUp | Query) -> None:
        match act:
            case Create(email, key, times):
                self.sent.append((Request(None, email), key))
                self.send(*self.sent[-1], times=times)
            case Update(user, email, if_match, key):
                self.sent.append((Request(user, email, if_match), key))
                self.send(*self.sent[-1])
            case Mark(user, active, if_match, key):
                self.sent.append((Request(user, None, if_match, active), key))
                self.send(*self.sent[-1])
            case Repeat(ago, prefer):
                for request, key in self.sent[-ago:][:1]:
                    self.send(request, key, prefer)
            case Handle(chunk, retry):
                self.handle(chunk, retry)
            case CatchUp(chunk):
                self.catch_up(chunk)
            case Query(user, if_none_match, after, limit, min_position, active):
                self.show_user(user, if_none_match, min_position)
                self.list_users(after, limit, min_position, active)
                self.list_events(user, after, limit, min_position)
                for command in self.model.commands:
                    self.check_command(command)

    def handle(self, chunk: int, retry: bool) -> None:
        waiting = [command for command in self.model.commands if command.status == "accepted"]
        self.stack.handle(chunk, retry=retry)
        if retry:
            self.model.retry()
        self.model.handle(chunk)
        self.check_log()
        self.check_users()
        for command in waiting:
            self.check_command(command)

    def catch_up(self, chunk: int) -> None:
        self.stack.catch_up(chunk)
        self.model.catch_up(chunk)
        self.check_users()

    def show_user(self, user: int, if_none_match: int | None, min_position: int | None) -> None:
        known = {"If-None-Match": f'"{if_none_match}"'} if if_none_match else {}
        answer = self.stack.get(f"/users/{user}", known, min_position=min_position)
        found = self.shown.get(user)
        if self.is_beyond(answer, min_position):
            pass
        elif not found:
            assert_problem(answer, "user-not-found", 404)
        elif found["version"] == if_none_match:
            assert (answer.status_code, answer.content) == (304, b"")
        else:
            assert_user(answer, 200, found)

    def list_users(self, after: int, limit: int, min_position: int | None, active: bool | None) -> None:
        only = None if active is None else str(active).lower()
        answer = self.stack.get("/users/", after=after, limit=limit, min_position=min_position, active=only)
        if not self.is_beyond(answer, min_position):
            behind = [user for number, user in sorted(self.shown.items()) if number > after]
            assert_page(answer, [user for user in behind if active in {None, "active" not in user}], limit)

    def is_beyond(self, answer: httpx.Response, min_position: int | None) -> bool:
        """What the read model hasn't reached is answered so, and what the log hasn't."""
        if (min_position or 0) > len(self.model.events):
            assert_problem(answer, "position-unknown", 422)
            return True
        if (min_position or 0) > self.model.projected:
            assert_problem(answer, "read-model-behind", 503)
            return True
        return False

    def list_events(self, user: int, after: int, limit: int, min_position: int | None) -> None:
        stream = f"user-{user}"
        answer = self.stack.get("/events/", stream=stream, after=after, limit=limit, min_position=min_position)
        if (min_position or 0) > len(self.model.events):
            assert_problem(answer, "position-unknown", 422)
        else:
            its = [event for event in self.events if event["stream"] == stream and event["id"] > after]
            assert_page(answer, its, limit)

    def check_log(self) -> None:
        assert_page(self.stack.get("/events/"), self.events, 100)

    def check_users(self) -> None:
        assert_page(self.stack.get("/users/"), [self.shown[number] for number in sorted(self.shown)], 100)

    def check_command(self, command: Command) -> None:
        first = self.first_answers[command]
        now = self.stack.get(first["links"]["self"]).json()
        problem = now["problem"] and (now["problem"]["type"], now["problem"]["status"])
        assert problem == (command.problem and (f"/problems/{command.problem[0]}", command.problem[1]))
        assert (now["handled_at"] is None) == (command.status == "accepted")
        came_of_it = {"status": command.status, "version": command.version, "position": command.position}
        assert now == {**first, **came_of_it, "handled_at": now["handled_at"], "problem": now["problem"]}

    @property
    def shown(self) -> dict[int, dict[str, Any]]:
        return self.model.users(upto=self.model.projected)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [
            {
                "id": position,
                "type": event.type,
                "data": event.data,
                "schema_version": 1,
                "stream": f"user-{event.command.user}",
                "version": event.version,
                "metadata": {
                    "command_id": (first := self.first_answers[event.command])["command_id"],
                    "correlation_id": first["correlation_id"],
                    "principal": "local",
                },
            }
            for position, event in enumerate(self.model.events, start=1)
        ]

    def send(self, request: Request, key: str | None, prefer: str | None = None, times: int = 1) -> None:
        def order(answer: httpx.Response) -> tuple[bool, int]:
            return "Idempotency-Replayed" in answer.headers, answer.json().get("user_id", 0)

        for answer in sorted(self.stack.send(request, key, prefer, times), key=order):
            known = set(self.model.commands)
            if command := self.model.accept(request, key):
                assert answer.headers.get("Idempotency-Replayed") == ("true" if command in known else None)
                assert answer.headers.get("Preference-Applied") == prefer
                self.check_answer(answer, command, waited=bool(prefer))
                self.check_command(command)
            else:
                assert_problem(answer, "idempotency-key-reused", 422)

    def check_answer(self, answer: httpx.Response, command: Command, *, waited: bool) -> None:
        if not (waited and self.model.visible(command)):
            first = self.first_answers.setdefault(command, answer.json())
            assert (answer.status_code, answer.json()) == (202, first)
            assert answer.headers["Location"] == first["links"]["self"]
            assert (first["user_id"], first["status"]) == (command.user, "accepted")
        elif command.problem:
            assert_problem(answer, *command.problem)
        else:
            left = self.model.users(upto=command.position or 0)[command.user]
            assert_user(answer, 200 if command.request.user else 201, left)


def assert_problem(answer: httpx.Response, type: str, status: int) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{type}")


def assert_user(answer: httpx.Response, status: int, user: dict[str, Any]) -> None:
    assert (answer.status_code, answer.json()) == (status, user)
    assert answer.headers["ETag"] == f'"{user["version"]}"'


def assert_page(answer: httpx.Response, items: list[dict[str, Any]], limit: int) -> None:
    page = [{name: value for name, value in item.items() if name != "recorded_at"} for item in answer.json()]
    assert (answer.status_code, page) == (200, items[:limit])
    assert ("next" in answer.links) == (len(items) > limit)


@pytest.mark.long
@pytest.mark.both_engines
@pytest.mark.timeout(600)  # to shrink a history that failed
def test_whatever_is_asked_and_whenever_workers_work_the_service_does_what_the_model_says(
    made: Callable[[Path], Settings], engine: str
) -> None:
    search = hypothesis.settings(
        max_examples=int(HISTORIES or {"sqlite": 30, "postgresql": 8}[engine]),
        stateful_step_count=30,
        deadline=None,
        derandomize=not HISTORIES,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
    )
    history = partial(History, made)
    with capture_logs():  # rules that raise would drown the story that failed
        run_state_machine_as_test(history, settings=search)  # type: ignore[arg-type]  # it takes any factory

"""What the benchmark makes of its figures, and what it measures on."""

import asyncio
import io
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from rich.console import Console
from sqlalchemy import Engine

from benchmarks import bench
from benchmarks.contestants.fill import fill
from benchmarks.contestants.services import ROLES
from benchmarks.load.connections import Wrong, pour
from benchmarks.measures import beside, growth, scaling
from benchmarks.measures.bounds import Bound, Figures, Measure, Say, broken, verdicts
from benchmarks.shown import chart, report
from benchmarks.shown import scaling as scaling_shown
from benchmarks.timeline import __main__ as timeline
from cli.stores.init import init
from shared.database import sqlite
from shared.decider import UniqueKey
from shared.domain.users.read_models import users
from shared.stores import event_store, outcomes, subjects, unique_keys
from tests.support.stores import Stores, accept, update
from workers.projecting import runner

FAST = Measure("fast", "something fast", "/s", (Bound(20, 30, "theirs"),))
SHORT = Measure("short", "something short", "ms", (Bound(60, 25),), low=True)


@pytest.mark.parametrize(
    ("measure", "ours", "word"),
    [
        (FAST, 31, "aim"),
        (FAST, 20, "yes"),
        (FAST, 15, "nearly"),
        (FAST, 13.9, "no"),
        (SHORT, 25, "aim"),
        (SHORT, 60, "yes"),
        (SHORT, 85, "nearly"),
        (SHORT, 86, "no"),
    ],
)
def test_a_ratio_is_broken_when_it_is_missed_by_more_than_noise(measure: Measure, ours: float, word: str) -> None:
    figures: Figures = {measure.key: {"ours": [ours], "theirs": [1.0]}}
    assert [row[-1] for row in report.rows([measure], figures)] == [word]
    assert bool(broken([measure], figures)) == (word == "no" and measure is FAST)


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([{"fast": 14.1, "short": 1.4}], 0),
        ([{"fast": 13.9, "short": 1.0}, {"fast": 14.1, "short": 1.0}], 0),
        ([{"fast": 13.9, "short": 1.0}, {"fast": 14.1, "short": 1.5}], 0),
        ([{"fast": 13.9, "short": 1.5}, {"fast": 14.1, "short": 1.5}], 1),
    ],
)
def test_the_quick_run_measures_once_more_if_a_ratio_is_broken_and_fails_only_if_the_same_is_broken_again(
    monkeypatch: pytest.MonkeyPatch, runs: list[dict[str, float]], code: int
) -> None:
    measured = iter(runs)

    def run(_: Say) -> Figures:
        return {key: {"ours": [ours], "theirs": [1.0]} for key, ours in next(measured).items()}

    asked = [FAST, Measure("short", "something short", "ms", (Bound(1, over="theirs"),), low=True)]
    monkeypatch.setitem(bench.RUNS, bench.What.quick, (asked, run))
    with pytest.raises(typer.Exit) as ended:
        bench.main(bench.What.quick)
    assert ended.value.exit_code == code
    assert not list(measured)


def test_a_ratio_is_that_of_each_round_so_that_a_slow_round_slows_both() -> None:
    figures = {"ours": [100.0, 10.0, 90.0], "theirs": [5.0, 0.5, 1.0]}
    assert [verdict.reached for verdict in verdicts(FAST, figures)] == [20]


@pytest.mark.parametrize("asked", [beside.MEASURES, growth.MEASURES, scaling.MEASURES])
def test_the_report_has_a_row_for_every_measure_on_the_terminal_and_as_a_file(
    asked: Sequence[Measure], tmp_path: Path
) -> None:
    figures = _some(asked)
    assert {len(row) for row in report.rows(asked, figures)} == {len(report.HEADINGS)}
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(report.table(asked, figures))
    report.write(tmp_path / "results.md", asked, figures, report.machine())
    for shown in (console.export_text(), (tmp_path / "results.md").read_text()):
        assert [measure.what for measure in asked if measure.what not in shown] == []


def test_the_chart_of_the_same_figures_is_the_same(tmp_path: Path) -> None:
    drawn = []
    for name in ("one.svg", "two.svg"):
        chart.write(tmp_path / name, beside.MEASURES, _some(beside.MEASURES))
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


def test_what_more_processes_give_is_shown_for_each_number_of_them(tmp_path: Path) -> None:
    roles = {role: [0.25] for role in (*ROLES, scaling_shown.CLIENT)}
    figures: Figures = defaultdict(lambda: {"ours": [1000.0, 2000.0], scaling.ONE: [1000.0, 4000.0]})
    for engine, apis, workers in itertools.product(scaling.ENGINES, scaling.APIS, scaling.WORKERS):
        figures[scaling.key(engine, apis, workers, "CPU")] = roles
    scaling_shown.write(tmp_path / "scaling.md", figures, "A machine.")
    written = (tmp_path / "scaling.md").read_text()
    assert written.count("| 0.75 |") == 4  # the ratio of most to one, in each round
    assert written.count("| 1.750 |") == 12  # all roles
    assert "| PostgreSQL | 1,500 | 1,500 | 1,500 | 1,500 | accepting: 1,500 |" in written
    drawn = []
    for name in ("one.svg", "two.svg"):
        scaling_shown.draw(tmp_path / name, figures)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


def test_a_filled_service_is_as_if_it_had_handled_the_commands(stores: Stores) -> None:
    fill(stores.settings, 300)
    before = _users(stores.read_model)
    sqlite.path_of(stores.settings.read_model_of("users")).unlink()
    init(stores.settings)
    while runner.catch_up(stores.events, stores.read_model, users.users):
        pass
    assert _users(stores.read_model) == before
    with stores.events.begin() as connection:
        blind = subjects.of(connection).blind
        keys = [UniqueKey("email", blind("email", email or "")) for *_, email, _, _ in before]
        assert set(unique_keys.holders(connection, keys).values()) == {(f"user-{user_id}",) for user_id, *_ in before}
        versions = event_store.heads(connection, [f"user-{user_id}" for user_id, *_ in before]).versions
        assert list(versions.values()) == [version for *_, version, _ in before]


def test_a_filled_service_goes_on(stores: Stores) -> None:
    fill(stores.settings, 300)
    init(stores.settings)  # refuses stores that aren't a pair
    accept(stores, update(1, "next@example.com"))
    assert stores.handler.handle() == 1
    with stores.events.begin() as connection:
        assert event_store.last_position(connection) == 301
        assert outcomes.find(connection, [301])[301].status == "succeeded"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", b""])
def test_a_request_that_is_not_answered_well_ends_the_pouring(answer: bytes) -> None:
    async def go() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await pour(host, port, [b"GET / HTTP/1.1\r\n\r\n"] * 3, at_once=2)

    with pytest.raises(Wrong):
        asyncio.run(go())


def _users(engine: Engine) -> list[users.User]:
    with engine.connect() as connection:
        return users.users_after(connection, 0, limit=1000)


def _some(asked: Sequence[Measure]) -> Figures:
    """Of every measure, of everybody it is compared with."""
    others = {measure.key: [bound.over for bound in measure.bounds if bound.over] for measure in asked}
    return {key: {name: [1.0, 2.0, 3.0] for name in ("ours", *names)} for key, names in others.items()}


def test_each_step_of_a_lone_command_is_the_first_of_its_kind_after_the_one_before() -> None:
    ms = 1_000_000
    stamps = {step: [0, (100 + number) * ms, 900 * ms] for number, step in enumerate(timeline.WAY)}
    found = timeline.times(stamps, 90 * ms, 110 * ms, 200 * ms)
    assert found
    assert [found[step] for step in timeline.WAY] == [10 + number for number in range(len(timeline.WAY))]
    assert (found[timeline.ANSWERED], found[timeline.SEEN]) == (20, 110)
    assert timeline.times(stamps, 90 * ms, 110 * ms, 105 * ms) is None, "it was seen before its rows were committed"

"""The word for how the service is: what is wrong, and what to do about it."""

from datetime import UTC, datetime

import pytest

from api.reading.condition import Condition
from api.watching.findings import found, word_for
from api.watching.hour import Latency, Minute
from api.watching.surroundings import People, Workers
from shared.stores.backlog import Backlog, Handled, Lag, Lags
from shared.stores.checkpoints import Progress, Stop

OK = dict.fromkeys(("inbox", "event_store", "read_model", "subjects", "redis", "workers"), "ok")

ALL = Workers({"command-worker": ["a"], "projection-worker": ["b"]}, "")

NOBODY = People([], [])


def condition(progress: Progress, behind: float = 0.0, oldest: float | None = None, **states: str) -> Condition:
    lags = Lags(9, {"users": Lag(progress, 3, behind)})
    return Condition(Handled(9, 0, []), Backlog(9, 0, oldest), lags, OK | states)


RUNS = Progress(6, paused=False, stopped=None)

PAUSED = RUNS._replace(paused=True)

STOPPED = RUNS._replace(stopped=Stop(7, "ValueError: a bug"))


@pytest.mark.parametrize(
    ("its", "workers", "people", "word", "says"),
    [
        (condition(RUNS), ALL, NOBODY, "Well", ""),
        (condition(RUNS, behind=3.0), ALL, NOBODY, "Slow", "3.0 s and 3 events behind"),
        (condition(RUNS, oldest=2.5), ALL, NOBODY, "Slow", "the oldest for 2.5 s"),
        (condition(PAUSED), ALL, NOBODY, "Needs attention", "cqrs projections resume users"),
        (condition(STOPPED), ALL, NOBODY, "In trouble", "ValueError: a bug"),
        (condition(RUNS, inbox="down: no file"), ALL, NOBODY, "In trouble", "The inbox is down"),
        (condition(RUNS, workers="it waits for 12 s"), ALL, NOBODY, "In trouble", "it waits for 12 s"),
        (condition(RUNS, redis="down"), Workers({}, "down"), NOBODY, "Needs attention", "Redis is down"),
        (condition(RUNS), Workers({"command-worker": []}, ""), NOBODY, "In trouble", "No command worker answers"),
        (condition(RUNS), ALL, People(["user-7"], []), "In trouble", "user-7"),
        (condition(RUNS), ALL, People([], ["user-8"]), "In trouble", "user-8"),
    ],
)
def test_the_word_has_its_reason_and_what_to_do(
    its: Condition, workers: Workers, people: People, word: str, says: str
) -> None:
    findings = found(its, workers, people, None)
    assert word_for(findings).word == word
    assert says in str(findings)
    assert all(each.todo for each in findings)
    assert len(findings) == (word != "Well")


def test_the_worst_comes_first() -> None:
    first, second = found(condition(PAUSED), Workers({"command-worker": []}, ""), None, None)
    assert (first.level, second.level) == ("bad", "warn")


def test_a_minute_in_which_commands_took_long_is_slow() -> None:
    minute = Minute(datetime.now(UTC), 60, 1, {"succeeded": 1}, Latency(0.1, 1.5, 2), None, None, 0, settled=True)
    findings = found(condition(RUNS), ALL, NOBODY, [minute, minute._replace(handling=None)])
    assert word_for(findings).word == "Slow"


def test_a_store_s_reason_is_a_sentence_of_its_own() -> None:
    [inbox, redis] = found(condition(RUNS, inbox="down: no file", redis="down"), ALL, NOBODY, None)
    assert (inbox.why, redis.why) == ("No file.", "Nothing answers.")

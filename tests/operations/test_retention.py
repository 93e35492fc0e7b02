"""Retention by workers: old commands are emptied beside all else, and nobody notices but who looks for their data."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from shared.clock import written
from shared.database import engines
from shared.stores import inbox
from shared.stores.inbox import commands
from tests.operations.test_metrics import value
from tests.support.command_line import told
from tests.support.service import Service, eventually
from tests.support.stores import JOHN, Stores, accept, create
from workers.upkeep.retention import BATCH

OLD = BATCH + 50


@pytest.mark.long
def test_workers_take_old_commands_data_away_batch_by_batch_while_the_service_works(
    stores: Stores, service: Callable[..., Service]
) -> None:
    accepted = accept(stores, *(create(f"{n}@example.com", idempotency_key=f"key {n}") for n in range(OLD)))
    while stores.handler.handle():
        pass
    with stores.inbox.begin() as connection:
        old = written(datetime.now(UTC) - timedelta(days=2))
        connection.execute(update(commands).values(accepted_at=old))
    accept(stores, create("new@example.com"))
    running = service("--command-workers", "2", CQRS_KEEP_COMMANDS="1").ready()

    def emptied() -> int:
        with engines.reading(stores.settings.inbox) as connection:
            return inbox.emptied_seq(connection)

    eventually(lambda: emptied() == OLD, within=20)
    shown = running.http.get(f"/commands/{accepted[0].command_id}").json()
    assert (shown["status"], shown["accepted_at"], shown["user_id"]) == ("succeeded", old, 1)
    assert running.http.get(f"/commands/{accepted[0].command_id}").status_code == 200
    again = running.http.post("/users/", json=JOHN, headers={"Idempotency-Key": "key 0", "Prefer": "wait=10"})
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (201, None)
    assert value(running.http.get("/metrics").text, "cqrs_commands_emptied_total") == OLD
    assert running.log.read_text().count(" emptied ") >= 2
    assert told(stores.settings, "verify")["well"]

"""Retention under kills: whichever instant a worker is killed at, commands are emptied in order, none by half."""

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from shared.clock import written
from shared.stores import inbox
from shared.stores.inbox import commands
from tests.support.command_line import told
from tests.support.service import clean_environment, environment
from tests.support.stores import Stores, accept, create

pytestmark = pytest.mark.both_engines

OLD, KILLS = 3000, 8

UPKEEP = """
import os
from datetime import timedelta
from shared.database import engines
from shared.database.errors import Taken
from shared.settings import Settings
from workers.upkeep import retention
retention.BATCH = 20
urls = Settings()
it = retention.Retention(
    engines.reader(urls.inbox),
    engines.writer(urls.inbox, lock="inbox", waits=False),
    engines.writer(urls.event_store, lock="event_store", waits=False),
    timedelta(days=1),
)
print("begins", flush=True)
while True:
    try:
        if not it.empty():
            break
    except Taken:
        pass
"""


def test_p4_a_batch_of_the_upkeep_is_whole_whenever_its_worker_is_killed(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com", idempotency_key=f"key {n}") for n in range(OLD)))
    while stores.handler.handle():
        pass
    with stores.inbox.begin() as connection:
        connection.execute(update(commands).values(accepted_at=written(datetime.now(UTC) - timedelta(days=2))))
    accept(stores, create("new@example.com"))
    emptied = 0
    for kill in range(KILLS + 1):
        own = clean_environment() | environment(stores.settings)
        with subprocess.Popen([sys.executable, "-c", UPKEEP], env=own, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout
            assert worker.stdout.readline() == "begins\n"
            if kill < KILLS:
                time.sleep(random.uniform(0.01, 0.1))
                worker.kill()
            worker.wait(60)
        now = rows_are_whole(stores)
        assert now >= emptied
        emptied = now
    assert emptied == OLD
    assert told(stores.settings, "verify")["well"]
    accept(stores, create("later@example.com"))
    assert stores.handler.handle()


def rows_are_whole(stores: Stores) -> int:
    """How many commands are emptied: the first ones, data and key of each; no other lacks anything."""
    with stores.inbox.begin() as connection:
        rows = connection.execute(commands.select().order_by(commands.c.seq)).all()
        emptied = inbox.emptied_seq(connection)
    for row in rows[:-1]:
        assert (row.data == "", row.idempotency_key is None, row.fingerprint is None) == (row.seq <= emptied,) * 3
    return emptied

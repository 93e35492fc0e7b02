"""Upkeep: what no message told of is done all the same."""

from sqlalchemy import Engine

from shared import event_store, inbox, outcomes
from workers import commands

PAGE = 1000


def sweep(accepted: Engine, reading: Engine, store: Engine) -> bool:
    """Handle every command in the inbox that has no outcome. Tells if it appended events."""
    with reading.connect() as connection:
        swept = outcomes.swept(connection)
    seen = done = swept
    news = stuck = False
    while page := _page(accepted, seen):
        seen = page[-1][0]
        upto = {stream: seq for seq, stream in page}
        news = commands.handle(accepted, store, upto) or news
        with reading.connect() as connection:
            heads = event_store.heads(connection, upto)
        for seq, stream in page:
            stuck = stuck or heads[stream].last_command < seq
            done = done if stuck else seq
    if done > swept:
        with store.begin() as connection:
            outcomes.record_swept(connection, done)
    return news


def _page(accepted: Engine, after: int) -> list[tuple[int, str]]:
    with accepted.connect() as connection:
        return inbox.streams_after(connection, after, limit=PAGE)

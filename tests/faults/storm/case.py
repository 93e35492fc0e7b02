"""All there is to judge by."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tests.faults.storm.evidence import Evidence, Row
from tests.faults.storm.ledger import Ledger
from tests.faults.storm.model import Fold, fold

WORDS = ("lost", "duplicated", "reordered", "torn", "skipped", "readable", "forgotten", "unexpected")
"""Readable is what is personal of somebody erased, forgotten what is of anybody else."""


class Finding(NamedTuple):
    """`key` is the Idempotency-Key of the command that it is about, if it is about one."""

    word: str
    what: str
    key: str | None = None


@dataclass
class Case:
    """What clients saw, what the stores hold, and the ways from one to the other.

    What the stores can't open any more is filled in as it was sent, in the `data` of commands and events.
    """

    ledger: Ledger
    stores: Evidence
    sums: Fold = field(init=False)
    row_of: dict[str | None, Row] = field(init=False)
    command: dict[str, Row] = field(init=False)
    events_of: dict[str, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        sent = {self.stores.blind("idempotency", each.key): each for each in self.ledger.requests}
        body: dict[str, Mapping[str, str]] = {}
        inbox = []
        for row in self.stores.inbox:
            request = sent.get(row.idempotency_key or "")
            body[row.command_id] = request.body if request else {}
            data = _filled(row.opened, body[row.command_id])
            inbox.append(row._replace(idempotency_key=request.key if request else None, data=data))
        events = [
            event._replace(data=_filled(event.opened, body.get(event.command_id, {}))) for event in self.stores.events
        ]
        self.stores = self.stores._replace(inbox=inbox, events=events)
        self.sums = fold(self.stores)
        self.row_of = {row.idempotency_key: row for row in self.stores.inbox}
        self.command = {row.command_id: row for row in self.stores.inbox}
        self.events_of = defaultdict(list)
        for event in self.stores.events:
            self.events_of[event.command_id].append(event)

    @cached_property
    def erased(self) -> set[str]:
        """The streams whose people are erased, by the log."""
        return {event.stream for event in self.stores.events if event.type == "UserErased"}

    def seq(self, event: Row) -> int:
        """0 if nobody gave the command."""
        return self.command[event.command_id].seq if event.command_id in self.command else 0

    def about(self, word: str, event: Row, what: str) -> Finding:
        command = self.command.get(event.command_id)
        return Finding(word, f"{event} {what}", command and command.idempotency_key)


def _filled(opened: str, sent: Mapping[str, str]) -> str:
    """The data with what was sent where it has null."""
    data = json.loads(opened)
    sent = {**sent, "new_email": sent.get("email", "")}
    return json.dumps({name: sent.get(name) if value is None else value for name, value in data.items()})

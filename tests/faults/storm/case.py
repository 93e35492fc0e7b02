"""All there is to judge by."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.storm.evidence import Evidence, Row
from tests.faults.storm.ledger import Ledger
from tests.faults.storm.model import Fold, fold

WORDS = ("lost", "duplicated", "reordered", "torn", "skipped", "unexpected")


class Finding(NamedTuple):
    """`key` is the Idempotency-Key of the command that it is about, if it is about one."""

    word: str
    what: str
    key: str | None = None


@dataclass
class Case:
    """What clients saw, what the stores hold, and the ways from one to the other."""

    ledger: Ledger
    stores: Evidence
    sums: Fold = field(init=False)
    row_of: dict[str | None, Row] = field(init=False)
    command: dict[str, Row] = field(init=False)
    events_of: dict[str, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        sent = {self.stores.blind("idempotency", each.key): each.key for each in self.ledger.requests}
        inbox = [row._replace(idempotency_key=sent.get(row.idempotency_key or "")) for row in self.stores.inbox]
        self.stores = self.stores._replace(inbox=inbox)
        self.sums = fold(self.stores)
        self.row_of = {row.idempotency_key: row for row in self.stores.inbox}
        self.command = {row.command_id: row for row in self.stores.inbox}
        self.events_of = defaultdict(list)
        for event in self.stores.events:
            self.events_of[event.command_id].append(event)

    def seq(self, event: Row) -> int:
        """0 if nobody gave the command."""
        return self.command[event.command_id].seq if event.command_id in self.command else 0

    def about(self, word: str, event: Row, what: str) -> Finding:
        command = self.command.get(event.command_id)
        return Finding(word, f"{event} {what}", command and command.idempotency_key)

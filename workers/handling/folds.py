"""Folded states that a worker keeps, so that a long stream isn't folded anew for each message."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection

from shared.messages import RecordedEvent
from shared.stores import event_store

KEPT = 10_000
"""Streams whose state is kept: the latest to be used."""


class Fold(NamedTuple):
    """The state that a stream's events up to a version come to."""

    version: int
    state: Any


class Folds:
    """States by stream, in memory only: a new process, and so new rules, begin with none."""

    def __init__(self) -> None:
        self._folds: dict[str, Fold] = {}
        self._erased = 0

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """The folds of a connection. They end with it, since a file that replaces the database has other events."""
        folds = connection.info.setdefault("folds", cls())
        assert isinstance(folds, cls)
        return folds

    def upto(self, connection: Connection, versions: Mapping[str, int]) -> tuple[dict[str, Fold], list[RecordedEvent]]:
        """The folds known of these streams, and the events past them up to the streams' versions."""
        known = {stream: self._known(stream, version) for stream, version in versions.items()}
        behind = {stream: fold.version for stream, fold in known.items() if fold.version < versions[stream]}
        return known, event_store.read_streams(connection, after=behind)

    def forget(self, erased: int) -> None:
        """Forget all folds if more people were erased than when this was last asked: a fold may hold what they were."""
        if erased != self._erased:
            self._folds.clear()
            self._erased = erased

    def keep(self, folds: Mapping[str, Fold]) -> None:
        """Keep folds whose events are committed."""
        for stream, fold in folds.items():
            self._folds.pop(stream, None)
            self._folds[stream] = fold
        if (surplus := len(self._folds) - KEPT) > 0:
            for stream in list(islice(self._folds, surplus)):
                del self._folds[stream]

    def _known(self, stream: str, version: int) -> Fold:
        fold = self._folds.get(stream)
        return fold if fold and fold.version <= version else Fold(0, None)

"""Caution with commands that may end or hang the process that decides them, so that they stop no others."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection

from shared.stores.inbox import Accepted
from workers.poison.probes import probe
from workers.poison.watch import Suspect, Watch

CAREFUL_SECONDS = 10.0
"""How long each command is probed first, once one ended a process."""

CAREFUL_CHUNK = 50
"""Commands in one transaction while they are: a probe takes 5 ms, and other workers wait."""


class Caution:
    """Takes up the command that ended a process first; behind one there may be more, so for a while it probes all.

    Only the holder of the event store's lock may use it.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._until = 0.0

    def suspect(self, connection: Connection) -> Suspect | None:
        """The command that a process was deciding when it ended, if one did since the last `watching`."""
        if suspect := self._watch.suspect(connection):
            self._begin()
        return suspect

    def dismiss(self, connection: Connection) -> None:
        """Clear a suspect that there is nothing to find out about."""
        self._watch.clear(connection)

    def limit(self, chunk: int) -> int:
        """How many commands one transaction may have, `chunk` if there is no reason for caution."""
        return min(chunk, CAREFUL_CHUNK) if self._is_on() else chunk

    def deadly(
        self,
        connection: Connection,
        commands: Sequence[Accepted],
        tries: Mapping[int, int],
        suspect: Suspect | None,
        decide: Callable[[Accepted], object],
    ) -> dict[int, Exception]:
        """The commands that must not be decided here, by seq, and why: the suspect, or those whose probe died or hung.

        Probed are all commands while caution lasts, else those with failed tries. `decide` runs in the probe.
        """
        if suspect and suspect.seq in {command.seq for command in commands}:
            return {suspect.seq: suspect.error}
        suspicious = commands if self._is_on() else [command for command in commands if tries.get(command.seq)]
        probes = {command.seq: partial(decide, command) for command in suspicious}
        found = probe(probes, partial(self._watch.show_life, connection))
        if found.keys() - tries.keys():
            self._begin()
        return found

    @contextmanager
    def watching(self, connection: Connection, tries: Mapping[int, int]) -> Iterator[Callable[[int], None]]:
        """Yields what to call with each command's seq right before it is decided."""
        with self._watch.deciding(connection, exactly=self._is_on() or bool(tries)):
            yield partial(self._watch.on, connection)

    def _begin(self) -> None:
        self._until = time.monotonic() + CAREFUL_SECONDS

    def _is_on(self) -> bool:
        return time.monotonic() < self._until


def up_to(suspect: Suspect | None, commands: list[Accepted]) -> list[Accepted]:
    """The commands up to the suspect: its outcome is committed before another command may end the process."""
    seqs = [command.seq for command in commands]
    return commands[: seqs.index(suspect.seq) + 1] if suspect and suspect.seq in seqs else commands

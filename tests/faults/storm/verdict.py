"""What a storm comes to."""

import statistics
from dataclasses import dataclass
from typing import NamedTuple

from tests.faults.storm.case import WORDS, Finding
from tests.faults.storm.faults import Fault

BACK_WITHIN, BACK_WITHIN_P50 = 10.0, 4.0
"""Seconds from a kill to a command, sent after it, being visible: always, and half of the time."""


class Recovery(NamedTuple):
    """`seconds` to a visible command, from the fault on, or from the thaw of a process that was frozen.

    `stood` tells of a freeze that commands had to wait for its end.
    """

    fault: Fault
    seconds: float
    stood: bool = False


@dataclass
class Verdict:
    counts: dict[str, int]
    findings: list[Finding]
    recoveries: list[Recovery]

    @property
    def p50(self) -> float:
        """Seconds of recovery after the kill of one process; 0 if there was none."""
        return statistics.median(self._single or [0.0])

    @property
    def longest(self) -> float:
        return max(self._single or [0.0])

    @property
    def quick(self) -> bool:
        return self.p50 < BACK_WITHIN_P50 and self.longest < BACK_WITHIN

    @property
    def holds(self) -> bool:
        return self.quick and not any(map(self.counts.get, WORDS))

    @property
    def _single(self) -> list[float]:
        return [recovery.seconds for recovery in self.recoveries if recovery.fault.kills == 1]

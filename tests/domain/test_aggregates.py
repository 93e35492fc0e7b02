"""The registries of aggregates and projections."""

import pytest

from shared.domain import aggregates
from shared.domain.aggregates import AGGREGATES


def test_no_two_aggregates_have_an_event_of_one_name() -> None:
    with pytest.raises(ValueError, match="two aggregates have an event UserCreated"):
        aggregates.by_name([AGGREGATES["user"], AGGREGATES["user"]])

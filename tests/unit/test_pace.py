"""How often what failed is tried again."""

from tests.support.service import eventually
from workers.app import Pace


def test_a_pace_is_kept_however_often_it_is_asked() -> None:
    assert not any(Pace(60).due() for _ in range(5))
    pace = Pace(0.2)
    eventually(pace.due)
    assert not pace.due()
    eventually(pace.due)

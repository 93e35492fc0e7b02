"""Sessions: how many of them one principal has."""

from shared.clock import now
from shared.stores import sessions
from shared.stores.sessions import MOST, Session
from tests.support.stores import Stores


def test_who_signs_in_again_and_again_keeps_the_latest_sessions_alone(stores: Stores) -> None:
    with stores.inbox.begin() as inbox:
        sessions.begin(inbox, Session("another's", "key:2", "digest", now(), "9"))
        for n in range(MOST + 2):
            sessions.begin(inbox, Session(f"session-{n}", "key:1", "digest", f"{now()}{n:04}", "9"))
        kept = sessions.of_principal(inbox, "key:1")
        assert [each.digest for each in kept] == [f"session-{n}" for n in reversed(range(2, MOST + 2))]
        assert sessions.find(inbox, "another's")

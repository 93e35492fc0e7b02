"""Times: written and read as they are stored, and read as clients and other programs write them (RFC 3339)."""

import re
from datetime import UTC, datetime, timedelta

MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"

RFC_3339 = re.compile(rf"(\d{{4}}-\d\d-\d\d)[Tt]({MINUTE}):(\d\d)(\.\d+)?([Zz]|[+-]{MINUTE})", re.ASCII)

LEAP_SECOND = "60"


def parsed(text: str) -> datetime:
    """The datetime, in UTC, of a text in RFC 3339. Raises ValueError, whose message says what the text must be.

    A leap second is read as the second after it, as most clocks do.
    """
    match = RFC_3339.fullmatch(text)
    if not match:
        raise ValueError("must be a time as in RFC 3339: 2026-01-31T12:00:00Z")
    day, minute, second, fraction, offset = match.groups()
    is_leap = second == LEAP_SECOND
    try:
        moment = datetime.fromisoformat(
            f"{day}T{minute}:{'59' if is_leap else second}{(fraction or '')[:7]}{offset.upper()}"
        )
        moment = moment.astimezone(UTC)
        return _behind_leap_second(moment) if is_leap else moment
    except OverflowError:
        raise ValueError("must be within the years 1 to 9999 in UTC") from None
    except ValueError as error:
        raise ValueError(f"must be a time that exists: {error}") from None


def _behind_leap_second(moment: datetime) -> datetime:
    """The second after a leap second. Raises ValueError unless a month begins with it (RFC 3339, section 5.7)."""
    after = moment + timedelta(seconds=1)
    if (after.day, after.hour, after.minute, after.second) != (1, 0, 0, 0):
        raise ValueError("leap seconds end a month in UTC")
    return after


def now() -> str:
    """The present time, as it is stored and shown."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """The text of a datetime in UTC, in RFC 3339. It always has microseconds, so that texts sort as their times do."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(time: str) -> datetime:
    """The datetime of a stored text: in UTC if the text has no offset; now if it is no time, as in imported logs."""
    try:
        its = datetime.fromisoformat(time)
    except ValueError:
        return datetime.now(UTC)
    return its if its.tzinfo else its.replace(tzinfo=UTC)

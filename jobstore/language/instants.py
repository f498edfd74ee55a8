"""Instants: integers in microseconds since 1970 UTC inside, RFC 3339 text outside.

An instant lies in the years 1 to 9999; its text ends in ``Z`` and has seconds, then six digits
of fraction only where the fraction is not zero (the seed writes ``2026-01-15T08:00:00Z``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROSECONDS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC = EPOCH.replace(tzinfo=None)
"""A third of the arithmetic, and no offset in its text."""
MIN_US = -62_135_596_800 * MICROSECONDS
"""0001-01-01T00:00:00Z"""
MAX_US = 253_402_300_800 * MICROSECONDS - 1
"""9999-12-31T23:59:59.999999Z"""

_TICK = timedelta(microseconds=1)


def instant_us(moment: datetime) -> int:
    """The instant of an aware datetime, in microseconds since 1970 UTC.

    >>> instant_us(datetime(2026, 1, 15, 8, tzinfo=UTC))
    1768464000000000

    Raises:
        ValueError: the datetime is naive, or its offset takes it out of the years 1 to 9999.
    """
    if moment.utcoffset() is None:
        raise ValueError("a datetime without a time zone names no instant")
    us = (moment - EPOCH) // _TICK
    if not MIN_US <= us <= MAX_US:
        raise ValueError("the instant lies outside the years 1 to 9999")
    return us


def instant_datetime(us: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return EPOCH + timedelta(microseconds=us)


def instant_text(us: int | None) -> str | None:
    """The RFC 3339 text of an instant; null stays null, and what lies outside the years 1 to 9999 has no text.

    >>> instant_text(1768464000000000), instant_text(1768464000000001), instant_text(None)
    ('2026-01-15T08:00:00Z', '2026-01-15T08:00:00.000001Z', None)
    """
    if us is None:
        return None
    minute, rest = divmod(us, 60_000_000)
    second, fraction = divmod(rest, MICROSECONDS)
    try:
        text = _minute_text(minute)
    except OverflowError:
        return None
    return f"{text}{_SECONDS[second]}.{fraction:06d}Z" if fraction else f"{text}{_SECONDS[second]}Z"


_SECONDS = tuple(f"{second:02d}" for second in range(60))


@lru_cache(maxsize=8192)
def _minute_text(minute: int) -> str:
    """The text up to the minute: a page has a hundred instants, and most share theirs with another."""
    return (_EPOCH_UTC + timedelta(0, 60 * minute)).isoformat()[: len("2026-01-15T08:00:")]

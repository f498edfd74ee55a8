"""Instants: integers in microseconds since 1970 UTC inside, RFC 3339 text outside.

An instant lies in the years 1 to 9999. Its text ends in ``Z`` and has seconds; six digits of fraction follow only if
the fraction is not zero (the job API writes ``2026-01-15T08:00:00Z``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

MICROSECONDS = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC = EPOCH.replace(tzinfo=None)
"""Naive, because arithmetic on it takes a third of the time and its text has no offset."""
MIN_US = -62_135_596_800 * MICROSECONDS
"""0001-01-01T00:00:00Z"""
MAX_US = 253_402_300_800 * MICROSECONDS - 1
"""9999-12-31T23:59:59.999999Z"""

TICK = timedelta(microseconds=1)


def instant_us(moment: datetime) -> int:
    """The instant of an aware datetime, in microseconds since 1970 UTC.

    >>> instant_us(datetime(2026, 1, 15, 8, tzinfo=UTC))
    1768464000000000

    Raises:
        ValueError: the datetime is naive, or its offset takes it out of the years 1 to 9999.
    """
    if moment.utcoffset() is None:
        raise ValueError("a datetime without a time zone is ambiguous")
    us = datetime.__sub__(moment, EPOCH) // TICK
    if not MIN_US <= us <= MAX_US:
        raise ValueError("the instant lies outside the years 1 to 9999")
    return us


class BadInstant(ValueError):
    """A value names no instant: the rule it breaks, and a remedy to append to the message (may be empty)."""

    def __init__(self, rule: str, remedy: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


INSTANT_RULE: Final = "a time: YYYY-MM-DD or YYYY-MM-DDTHH:MM[:SS[.f]], with or without Z or ±HH:MM"
_INSTANT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:Z|([+\- ])([0-9]{2}):([0-9]{2}))?)?"
)
"""What people and programs write. A blank may stand for the plus sign: decoding a query string turns it into one."""


def read_instant(value: object) -> int:
    """The microseconds of an aware `datetime` or of text. Queries and records share this grammar.

    >>> read_instant("2026-01-15T16:00:00+08:00"), read_instant("2026-01-15")
    (1768464000000000, 1768435200000000)

    Raises:
        BadInstant: the value names no instant in the years 1 to 9999.
    """
    if isinstance(value, datetime):
        return _datetime_us(value)
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        remedy = "" if isinstance(value, str) else "; give text or a datetime with a time zone"
        raise BadInstant(INSTANT_RULE, remedy)
    try:
        return instant_us(_moment(match))
    except ValueError:
        raise BadInstant("a valid time in the years 1 to 9999") from None


def _datetime_us(moment: datetime) -> int:
    rule = "a datetime with a time zone"
    try:
        us = instant_us(moment) if moment.utcoffset() is not None else None
    except (ArithmeticError, NotImplementedError, TypeError, ValueError):  # what a tzinfo may raise
        raise BadInstant(f"{rule}, in the years 1 to 9999 of UTC") from None
    if us is None:
        raise BadInstant(rule, "; add tzinfo=UTC, for example")
    return us


def _moment(match: re.Match[str]) -> datetime:
    """The aware datetime; digits below a microsecond are cut off."""
    year, month, day, hour, minute, second = (int(part or "0") for part in match.group(1, 2, 3, 4, 5, 6))
    microsecond = int((match[7] or "")[:6].ljust(6, "0"))
    return datetime(year, month, day, hour, minute, second, microsecond, _zone(match))


def _zone(match: re.Match[str]) -> timezone:
    sign, hours, minutes = match.group(8, 9, 10)
    if sign is None:
        return UTC
    if int(minutes) >= 60:  # noqa: PLR2004  # minutes of an hour
        raise ValueError("an offset has at most 59 minutes")
    east = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-east if sign == "-" else east)


def instant_datetime(us: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return EPOCH + timedelta(microseconds=us)


def instant_text(us: int | None) -> str | None:
    """The RFC 3339 text of an instant; None for None and for an instant outside the years 1 to 9999.

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
    """The text up to the minute, cached: a page has a hundred instants, and most share their minute with another."""
    return (_EPOCH_UTC + timedelta(0, 60 * minute)).isoformat()[: len("2026-01-15T08:00:")]

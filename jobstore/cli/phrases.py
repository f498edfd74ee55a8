"""Numbers, times and intervals as short English text."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

from jobstore.language.instants import MICROSECONDS, instant_datetime, instant_us

if TYPE_CHECKING:
    from datetime import tzinfo

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MONTH_DAYS, YEAR_DAYS = 30.44, 365.25
SECOND_MS = 1_000
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or hides: controls, direction marks, lone surrogates, line separators."""
_JOINERS = frozenset("\u200c\u200d")
"""Persian words and emoji need these two."""


def plain(text: str) -> str:
    r"""Return the text as one line that is safe on a terminal: controls and invisible marks become escapes.

    >>> plain("first\nsecond \x1b[31mred")
    'first second \\x1b[31mred'
    """
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(_shown(char) for char in line)  # an error may have megabytes


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN or char in _JOINERS:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode()


def instant(text: str | None) -> int | None:
    """Return the microseconds since the epoch of a document's RFC 3339 text."""
    return None if text is None else instant_us(datetime.fromisoformat(text))


def count(number: int, noun: str) -> str:
    """Format a number with its noun: ``1 job``, ``1,500 executions``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(seconds: float) -> str:
    """Format a duration in its largest whole unit, rounded down.

    >>> span(12), span(125), span(7_200), span(86_400), span(10 * 86_400), span(300 * 86_400), span(800 * 86_400)
    ('12 s', '2 min', '2 h', '1 day', '10 days', '9 months', '2 years')
    """
    if seconds < MINUTE:
        return f"{int(seconds)} s"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)} min"
    if seconds < DAY:
        return f"{int(seconds // HOUR)} h"
    days = int(seconds // DAY)
    if days < 2 * MONTH_DAYS:
        return count(days, "day")
    return count(int(days / MONTH_DAYS), "month") if days < 2 * YEAR_DAYS else count(int(days / YEAR_DAYS), "year")


def distance(us: int, now_us: int) -> str:
    """Format an instant's distance from now.

    >>> distance(0, 61_000_000), distance(61_000_000, 0), distance(5, 6)
    ('1 min ago', 'in 1 min', 'now')
    """
    seconds = (now_us - us) / MICROSECONDS
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def every(seconds: int) -> str:
    """Format an interval without rounding.

    >>> every(300), every(90), every(86_400), every(3_600), every(5_400)
    ('every 5 min', 'every 90 s', 'every day', 'every hour', 'every 90 min')
    """
    one = {DAY: "day", HOUR: "hour", MINUTE: "minute", 1: "second"}.get(seconds)
    return f"every {one or length(seconds)}"


def length(seconds: int) -> str:
    """Format seconds without rounding, in the largest unit that divides them.

    >>> length(300), length(90), length(86_400)
    ('5 min', '90 s', '1 day')
    """
    if seconds % DAY == 0:
        return count(seconds // DAY, "day")
    if seconds % HOUR == 0:
        return f"{seconds // HOUR:,} h"
    return f"{seconds // MINUTE:,} min" if seconds % MINUTE == 0 else f"{seconds:,} s"


def took(milliseconds: int) -> str:
    """Format a duration with about three digits, rounded down.

    >>> took(0), took(850), took(1_234), took(150_000), took(3_900_000), took(180_000_000)
    ('0ms', '850ms', '1.2s', '2m30s', '1h05m', '2d02h')
    """
    if milliseconds < 0:
        return f"-{took(-milliseconds)}"
    if milliseconds < SECOND_MS:
        return f"{milliseconds}ms"
    seconds = milliseconds // SECOND_MS
    if seconds < MINUTE:
        return f"{milliseconds // 100 / 10:.1f}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE}m{seconds % MINUTE:02d}s"
    if seconds < DAY:
        return f"{seconds // HOUR}h{seconds % HOUR // MINUTE:02d}m"
    return f"{seconds // DAY}d{seconds % DAY // HOUR:02d}h"


def clock_time(us: int, zone: tzinfo | None, now_us: int | None = None) -> str:
    """Format an instant as wall-clock time in a zone (None: this machine's), without the year if `now_us` has the same.

    >>> from datetime import UTC
    >>> clock_time(1_768_464_000_000_000, UTC), clock_time(1_768_464_000_000_000, UTC, 1_768_464_000_000_001)
    ('2026-01-15 08:00:00', '01-15 08:00:00')
    """
    moment = _local(us, zone)
    text = f"{moment.year:04d}-{moment:%m-%d %H:%M:%S}"
    this_year = now_us is not None and _local(now_us, zone).year == moment.year
    return text[5:] if this_year else text


def zone_name(zone: tzinfo | None, now_us: int) -> str:
    """Return the zone's current abbreviation: ``UTC``, ``CET``, or ``UTC+05:45`` if it has none in letters."""
    moment = _local(now_us, zone)
    name = moment.tzname() or ""
    offset = f"{moment:%z}"
    return name if name.isalpha() else f"UTC{offset[:3]}:{offset[3:5]}"


def _local(us: int, zone: tzinfo | None) -> datetime:
    moment = instant_datetime(us)
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return moment  # in this zone, the time is outside the years 1 to 9999


def stamp(us: int, zone: tzinfo | None) -> str:
    """Format an instant for programs: RFC 3339 in whole seconds, in a zone.

    >>> from datetime import UTC
    >>> stamp(1_768_464_000_500_000, UTC)
    '2026-01-15T08:00:00Z'
    """
    moment = _local(us, zone)
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{moment.isoformat()[-6:]}".replace("+00:00", "Z")

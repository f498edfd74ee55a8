"""Times and durations as people type them: ``yesterday``, ``24h``, ``1h30m``, a local time.

They become RFC 3339 text or seconds, which the rules common to all interfaces then check. Other text is passed on
unchanged, so that those rules refuse it with their own message.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from datetime import tzinfo

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LENGTH: Final = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))
_WALL_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ]((?!24)\d\d:\d\d(?::\d\d)?))?(\.\d+)?", re.ASCII)
_DAYS_BACK: Final = {"today": 0, "yesterday": 1}


def seconds_in(text: str) -> int | None:
    """Return the seconds in ``90``, ``15m``, ``1h30m`` or ``30d``; None for any other text.

    >>> seconds_in("90"), seconds_in("15m"), seconds_in("1h30m"), seconds_in("30d"), seconds_in("soon")
    (90, 900, 5400, 2592000, None)
    """
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < _LONGEST else None
    found = _LENGTH.fullmatch(text)
    if not text or found is None:
        return None
    return sum(int(number) * size for number, size in zip(found.groups(), _UNITS.values(), strict=True) if number)


_LONGEST: Final = 18
"""Only numbers with fewer digits are parsed: the common rules can compare those."""


def instant_text(text: str, zone: tzinfo | None, now: datetime) -> str:
    """Return a time typed by the user as RFC 3339 text.

    Args:
        text: ``today`` or ``yesterday`` (midnight in the zone), a duration before now (``24h``, ``7d``), a date or a
            time without offset, or any other text, which is returned unchanged.
        zone: the time zone in which to read it; None for this machine's.
        now: the current time.

    >>> noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    >>> instant_text("yesterday", UTC, noon), instant_text("24h", UTC, noon), instant_text("2026-01-02", UTC, noon)
    ('2026-01-14T00:00:00Z', '2026-01-14T12:00:00Z', '2026-01-02T00:00:00Z')
    >>> instant_text("2026-01-15T08:00:00+08:00", UTC, noon), instant_text("soon", UTC, noon)
    ('2026-01-15T08:00:00+08:00', 'soon')
    """
    word = text.strip().lower()
    try:
        if word in _DAYS_BACK:
            today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
            return _in_utc(today - timedelta(days=_DAYS_BACK[word]), zone)
        back = None if word.isdigit() else seconds_in(word)
        if back is not None:
            return _in_utc((now - timedelta(seconds=back)).replace(microsecond=0), zone)
        wall = _WALL_TIME.fullmatch(text.strip())
        if wall and not (wall[3] and not (wall[2] and wall[2].count(":") > 1)):
            return _in_utc(datetime.fromisoformat(f"{wall[1]} {wall[2] or '00:00'}"), zone, wall[3] or "")
    except (ValueError, OverflowError, OSError):
        pass  # no such day, or outside the years 1 to 9999: the common rules refuse it
    return text


def _in_utc(moment: datetime, zone: tzinfo | None, fraction: str = "") -> str:
    """Format a moment in UTC; one without a time zone is a wall-clock time in `zone`."""
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}{fraction}Z"


def length_option(text: str | None, option: str, least: int = 1) -> int | None:
    """Parse a duration option into seconds; raise `InvalidParameter` for other text, or less than `least` seconds."""
    if text is None:
        return None
    seconds = seconds_in(text)
    if seconds is None or seconds < least:
        raise InvalidParameter(
            f"{option} must be seconds, or a time such as 90s, 15m, 1h30m or 30d, of at least {least} s; "
            f"received {shown(text)}"
        )
    return seconds

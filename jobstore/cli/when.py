"""Times and lengths of time as people type them: ``yesterday``, ``24h``, ``1h30m``, a local clock time.

Each becomes the RFC 3339 text, or the number of seconds, that the common rules check afterwards. Text that is
none of these is handed on as it is, so that those rules refuse it in their own words.
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
_WALL_TIME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?))?(\.[0-9]+)?")
_DAYS_BACK: Final = {"today": 0, "yesterday": 1}


def seconds_in(text: str) -> int | None:
    """The seconds in ``90``, ``15m``, ``1h30m`` or ``30d``; None for any other text.

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
"""Digits of a number that every rule can still compare."""


def instant_text(text: str, zone: tzinfo | None, now: datetime) -> str:
    """RFC 3339 text of the time that was typed, read in the zone that times are shown in.

    Args:
        text: ``today`` or ``yesterday`` (midnight in the zone), a length of time before now (``24h``, ``7d``), a date
            or a time without offset, or any other text, which comes back as it is.
        zone: None for this machine's.
        now: what lengths of time count back from.

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
        pass  # no such day, or one at the edge of the calendar: the common rules say so
    return text


def _in_utc(moment: datetime, zone: tzinfo | None, fraction: str = "") -> str:
    """An instant in UTC; a moment without a zone is a wall-clock time in `zone`."""
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}{fraction}Z"


def length_option(text: str | None, option: str, least: int = 1) -> int | None:
    """The seconds that an option asks for.

    Raises:
        InvalidParameter: it is no length of time, or less than `least` seconds.
    """
    if text is None:
        return None
    seconds = seconds_in(text)
    if seconds is None or seconds < least:
        raise InvalidParameter(
            f"{option} must be seconds, or a time such as 90s, 15m, 1h30m or 30d, of at least {least} s; "
            f"received {shown(text)}"
        )
    return seconds

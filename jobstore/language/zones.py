"""Time zones: which names are known, a zone's offset from UTC, and when it changes. Pure."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from jobstore.language.errors import InvalidRecord, shown
from jobstore.language.instants import EPOCH, MICROSECONDS

TICK: Final = timedelta(microseconds=1)
WALL_EPOCH: Final = EPOCH.replace(tzinfo=None)
"""The wall time of the epoch in UTC; wall times are counted from it."""
_NOT_PLACES = ("localtime", "posixrules", "Factory", "posix/", "right/")
"""Names that zoneinfo opens if the system has such files, but that mean another clock on another host."""


def check_timezone(name: object) -> str:
    """Validate the IANA name of a time zone and return it unchanged.

    Raises:
        InvalidRecord: zoneinfo does not know it, or it means another zone on another host (``localtime``).
    """
    if isinstance(name, str) and not name.startswith(_NOT_PLACES) and zone_of(name) is not None:
        return str.__str__(name)
    raise InvalidRecord(
        f"timezone must be an IANA name such as 'Europe/Berlin' or 'UTC'; received {shown(name)}{_did_you_mean(name)}"
    )


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name; None if this host does not know it."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown name; malformed name; name of a folder
        return UTC if name == "UTC" else None  # a machine without time zones has that one


def same_zone(one: str, other: str) -> bool:
    """Whether two IANA names certainly mean the same clock.

    >>> same_zone("UTC", "Etc/UTC"), same_zone("Europe/Berlin", "Europe/Paris")
    (True, False)
    """
    return one == other or (one in _UTC_NAMES and other in _UTC_NAMES)


_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Etc/GMT", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "GMT", "UCT", "Zulu"})


def _did_you_mean(name: object) -> str:
    from difflib import get_close_matches  # only a refusal needs it

    names = _places()
    close = get_close_matches(str(name)[:80].casefold(), names, n=1, cutoff=0.8)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


@cache
def _places() -> dict[str, str]:
    """The zones of this host, by folded name and by folded city: people often give that alone, such as Berlin."""
    places = [known for known in sorted(available_timezones()) if not known.startswith(_NOT_PLACES)]
    names = {known.rpartition("/")[2].casefold(): known for known in places}
    return names | {known.casefold(): known for known in places}


def change_us(tz: tzinfo, before_us: int, after_us: int) -> int:
    """The instant, a whole second, between the two at which the zone's offset changes."""
    seconds = range(before_us // MICROSECONDS, -(-after_us // MICROSECONDS) + 1)
    new = offset_us(tz, seconds[-1] * MICROSECONDS)
    changed = bisect_left(seconds, True, key=lambda second: offset_us(tz, second * MICROSECONDS) == new)
    return seconds[changed] * MICROSECONDS


def offset_us(tz: tzinfo, us: int) -> int:
    """The zone's offset from UTC at an instant, in microseconds."""
    try:
        return utcoffset_us((EPOCH + us * TICK).astimezone(tz))
    except OverflowError:  # the ends of the calendar, where the zone's year would be 0 or 10000
        return utcoffset_us(datetime(1 if us < 0 else 9999, 1 if us < 0 else 12, 2 if us < 0 else 30, tzinfo=tz))


def utcoffset_us(moment: datetime) -> int:
    """The offset from UTC of an aware datetime, in microseconds."""
    return (moment.utcoffset() or timedelta()) // TICK

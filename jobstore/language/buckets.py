"""Where the hours and days of a time zone begin, for counts over time. Pure.

An hour begins whenever the zone's clock shows a whole hour; a day at its first moment, which is midnight unless the
clock jumps over it. So a day has 23 or 25 hours when clocks change, and a whole hour that occurs twice begins twice.
"""

from __future__ import annotations

from datetime import date, datetime, time, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from jobstore.language.errors import InvalidParameter
from jobstore.language.instants import MAX_US, MICROSECONDS, MIN_US
from jobstore.language.zones import TICK, WALL_EPOCH, change_us, offset_us, utcoffset_us

HOUR, DAY, AUTO = "1h", "1d", "auto"
BUCKETS: Final = (AUTO, HOUR, DAY)
MOST_BUCKETS: Final = 400

_HOUR_US: Final = 3600 * MICROSECONDS
_DAY_US: Final = 24 * _HOUR_US


def bucket_starts(bucket: str, zone: str, first_us: int, last_us: int) -> tuple[str, list[int]]:
    """The width of the buckets and their starts, ascending, from the one with `first_us` in it to that with `last_us`.

    >>> from datetime import UTC
    >>> from jobstore.language.instants import instant_text, instant_us
    >>> first, last = (instant_us(datetime(2026, 3, day, 12, tzinfo=UTC)) for day in (28, 30))
    >>> width, starts = bucket_starts("1d", "Europe/Berlin", first, last)
    >>> [instant_text(us) for us in starts]
    ['2026-03-27T23:00:00Z', '2026-03-28T23:00:00Z', '2026-03-29T22:00:00Z']
    >>> [instant_text(us) for us in bucket_starts("1d", "Europe/Berlin", MAX_US, MAX_US)[1]]
    ['9999-12-31T23:00:00Z']

    Args:
        bucket: ``1h``, ``1d``, or ``auto`` for hours if at most 400 are enough, else days.
        zone: an IANA name.
        first_us: an instant of the first bucket.
        last_us: an instant of the last bucket, not before it.

    Raises:
        InvalidParameter: there would be more than 400 buckets.
    """
    tz = ZoneInfo(zone)
    if bucket == AUTO:
        starts = _hour_starts(tz, first_us, last_us) if last_us - first_us <= (MOST_BUCKETS + 2) * _HOUR_US else []
        if 0 < len(starts) <= MOST_BUCKETS:
            return HOUR, starts
        bucket = DAY
    starts = (_hour_starts if bucket == HOUR else _day_starts)(tz, first_us, last_us)
    if len(starts) > MOST_BUCKETS:
        raise InvalidParameter(_too_many(bucket, first_us, last_us))
    return bucket, starts


def _too_many(bucket: str, first_us: int, last_us: int) -> str:
    count = (last_us - first_us) // (_HOUR_US if bucket == HOUR else _DAY_US) + 1
    remedy = "use bucket=1d" if bucket == HOUR else f"choose after and before at most {MOST_BUCKETS - 1} days apart"
    return f"bucket={bucket} would give about {count} buckets; at most {MOST_BUCKETS} are allowed; {remedy}"


def _hour_starts(tz: tzinfo, first_us: int, last_us: int) -> list[int]:
    """Step hour by hour: what the clock shows an hour later depends on whether it changes in between."""
    starts = [_hour_begun(tz, first_us)]
    while len(starts) <= MOST_BUCKETS:
        following_us = _next_hour_us(tz, starts[-1])
        if following_us > last_us:
            break
        starts.append(following_us)
    return starts


def _hour_begun(tz: tzinfo, us: int) -> int:
    """The latest moment at or before `us` at which the clock showed a whole hour."""
    begun_us = us - (us + offset_us(tz, us)) % _HOUR_US
    if begun_us < MIN_US or offset_us(tz, begun_us) == offset_us(tz, us):
        return max(begun_us, MIN_US)
    # The clock has changed since then: step forward from well before the change.
    earlier_us = begun_us - 2 * _HOUR_US
    hour_us = earlier_us - (earlier_us + offset_us(tz, earlier_us)) % _HOUR_US
    while (following_us := _next_hour_us(tz, hour_us)) <= us:
        hour_us = following_us
    return max(hour_us, MIN_US)


def _next_hour_us(tz: tzinfo, us: int) -> int:
    """The first moment after `us` at which the clock shows a whole hour.

    If the clock changes first, round up from the change: on Lord Howe Island, where 02:00 becomes 02:30, the whole hour
    after 01:00 is 03:00, 90 minutes later.
    """
    before, next_us = offset_us(tz, us), us + _HOUR_US - (us + offset_us(tz, us)) % _HOUR_US
    after = offset_us(tz, next_us)
    if before == after:
        return next_us
    changed_us = change_us(tz, us, next_us)
    return changed_us + -(changed_us + after) % _HOUR_US


def _day_starts(tz: tzinfo, first_us: int, last_us: int) -> list[int]:
    """Leave out dates that the zone skipped (Samoa's 2011-12-30): they begin at the same moment as the next one."""
    day = (first_us + offset_us(tz, first_us)) // _DAY_US + WALL_EPOCH.toordinal() + 1
    # When the clock is set back across midnight, yesterday's date returns after today has begun.
    while _day_begins_us(tz, day) > first_us:
        day -= 1
    starts = [_day_begins_us(tz, day)]
    while len(starts) <= MOST_BUCKETS:
        day += 1
        begins_us = _day_begins_us(tz, day)
        if begins_us > last_us:
            break
        if begins_us > starts[-1]:
            starts.append(begins_us)
    return starts


def _day_begins_us(tz: tzinfo, day: int) -> int:
    if day < date.min.toordinal():
        return MIN_US
    if day > date.max.toordinal():  # the year 10000, which begins within the last hours where clocks are ahead of UTC
        return (day - WALL_EPOCH.toordinal()) * _DAY_US - offset_us(tz, MAX_US)
    midnight = datetime.combine(date.fromordinal(day), time())
    wall_us = (midnight - WALL_EPOCH) // TICK
    first_us, second_us = (wall_us - utcoffset_us(midnight.replace(tzinfo=tz, fold=fold)) for fold in (0, 1))
    if first_us <= second_us:
        return max(first_us, MIN_US)
    return change_us(tz, second_us, first_us)

"""When a job runs next: cron expressions and intervals, from a time that is given. Pure.

An expression speaks of *wall times*, what the clock on the wall of the store's time zone shows; see
`jobstore.language.cron`. The step from wall time to instant is taken here, because it decides what happens when
clocks change:

- At *fixed times* (neither the minute nor the hour field starts with ``*``) a job fires once for each
  wall time: at the first moment after the gap when clocks jump over it, the first time only when it
  comes twice. This is what people mean by "daily at 02:30", and what Debian's cron does.
- Any *other* schedule (``*/10 * * * *``) fires at each real minute whose wall time matches: nothing for
  the gap, twice for the hour that comes twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from jobstore.language.cron import Cron, read_schedule
from jobstore.language.errors import InvalidSchedule, shown
from jobstore.language.fields import LARGEST_SECONDS
from jobstore.language.instants import EPOCH, MAX_US, MICROSECONDS
from jobstore.language.zones import TICK, WALL_EPOCH, change_us, utcoffset_us, zone_of

_GAPS_IN_A_ROW = 50
"""A schedule whose times fall into this many gaps one after the other falls into all of them."""


def check_interval(seconds: object) -> int:
    """The interval, 1 to 3,155,760,000 seconds.

    Raises:
        InvalidSchedule: anything else, flags and floats included.
    """
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 1 <= seconds <= LARGEST_SECONDS:
        return int(seconds)
    raise InvalidSchedule(f"interval_seconds must be an integer from 1 to {LARGEST_SECONDS}; received {shown(seconds)}")


def next_cron_us(expression: str, zone: str, now_us: int) -> int | None:
    """The first fire time strictly after now; null when none comes before the year 10000.

    Args:
        expression: as `check_schedule` takes it.
        zone: the IANA name of the zone whose wall times the expression speaks of.
        now_us: an instant in microseconds since 1970 UTC.

    >>> from datetime import UTC, datetime
    >>> from jobstore.language.instants import instant_text, instant_us
    >>> instant_text(next_cron_us("0 * * * *", "UTC", instant_us(datetime(2026, 1, 15, 8, 30, tzinfo=UTC))))
    '2026-01-15T09:00:00Z'

    Raises:
        InvalidSchedule: the expression or the zone is not one that could have been written here.
    """
    cron = read_schedule(expression)
    tz = zone_of(zone)
    if tz is None:
        raise InvalidSchedule(f"the time zone {shown(zone)} of this store is not known on this host; install tzdata")
    wall = _wall_time(tz, now_us)
    if wall is None:
        return None
    next_us = (_next_fixed_us if cron.fixed else _next_matching_us)(cron, tz, wall, now_us)
    return next_us if next_us is not None and next_us <= MAX_US else None


def next_interval_us(interval_seconds: int, anchor_us: int, now_us: int) -> int | None:
    """``anchor + n * interval`` with the smallest n >= 1 that lies after now; null from the year 10000 on.

    >>> next_interval_us(60, 0, 59_999_999), next_interval_us(60, 0, 60_000_000), next_interval_us(60, 0, -1)
    (60000000, 120000000, 60000000)

    Raises:
        InvalidSchedule: `check_interval` would refuse the interval.
    """
    interval_us = check_interval(interval_seconds) * MICROSECONDS
    n = max(1, (now_us - anchor_us) // interval_us + 1)
    next_us = anchor_us + n * interval_us
    return next_us if next_us <= MAX_US else None


# --- wall times and instants --------------------------------------------------------------------


def _wall_time(tz: tzinfo, now_us: int) -> datetime | None:
    """What the wall shows now, with its fold; null when that is past the year 9999."""
    try:
        return (EPOCH + timedelta(microseconds=now_us)).astimezone(tz).replace(tzinfo=None)
    except OverflowError:
        return datetime.min if now_us < 0 else None  # noqa: DTZ901 - the first wall time there is


def _passings_us(tz: tzinfo, wall: datetime) -> tuple[int, int]:
    """When the wall shows this: equal instants for once, ascending for twice, descending for never (a gap)."""
    local_us = (wall - WALL_EPOCH) // TICK
    first, second = (utcoffset_us(wall.replace(tzinfo=tz, fold=fold)) for fold in (0, 1))
    return local_us - first, local_us - second


def _next_fixed_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """Each wall time once. In the second run of doubled times, all of those have fired: on from their end."""
    first_us, second_us = _passings_us(tz, wall)
    if first_us < second_us == now_us:
        wall += (change_us(tz, first_us, second_us) - first_us) * TICK - TICK
    later = cron.after(wall)
    if later is None:
        return None
    first_us, second_us = _passings_us(tz, later)
    return first_us if first_us <= second_us else change_us(tz, second_us, first_us)


def _next_matching_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """Each real minute. In the first run of doubled times, the earlier ones come again: both walks, the nearer end."""
    first_us, second_us = _passings_us(tz, wall)
    walks = [wall]
    if now_us == first_us < second_us:
        walks.append(wall - (second_us - change_us(tz, first_us, second_us)) * TICK - TICK)
    ends = [_next_passing_us(cron, tz, walk, now_us) for walk in walks]
    return min((end for end in ends if end is not None), default=None)


def _next_passing_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """The first passing after now of a matching wall time after this one, whichever gaps lie between.

    All times of ``* 2 * 3 L0`` (02:00 on the last Sunday of March) are gaps in Berlin: it never comes there.
    """
    for _ in range(_GAPS_IN_A_ROW):
        later = cron.after(wall)
        if later is None:
            return None
        first_us, second_us = _passings_us(tz, later)
        if first_us <= second_us:
            return first_us if first_us > now_us else second_us
        wall = later + (change_us(tz, second_us, first_us) - second_us) * TICK - TICK
    return None

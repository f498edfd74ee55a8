"""When a job runs next after a given time, by cron expression or interval. Pure.

A cron expression names *wall times*, what a clock in the store's time zone shows; see `jobstore.language.cron`. This
module converts wall times to instants, which decides what happens when clocks change:

- A schedule at *fixed times* (neither the minute nor the hour field starts with ``*``) fires once for each wall time:
  right after the gap if the clock skips it, only the first time if it occurs twice. This is what people mean by
  "daily at 02:30", and what Debian's cron does.
- Any *other* schedule (``*/10 * * * *``) fires at each real minute whose wall time matches: never in the gap, twice in
  an hour that occurs twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from jobstore.language.cron import Cron, read_schedule
from jobstore.language.errors import InvalidSchedule, shown
from jobstore.language.fields import checked_interval
from jobstore.language.instants import EPOCH, MAX_US, MICROSECONDS
from jobstore.language.zones import TICK, WALL_EPOCH, change_us, utcoffset_us, zone_of

_GAPS_IN_A_ROW = 50
"""If this many times in a row lie in gaps, all times of the schedule do, and it never fires."""


def next_cron_us(expression: str, zone: str, now_us: int) -> int | None:
    """The first fire time strictly after now, in microseconds; None if there is none before the year 10000.

    Args:
        expression: as `check_schedule` accepts it.
        zone: the IANA name of the time zone whose wall times the expression names.
        now_us: an instant in microseconds since 1970 UTC.

    >>> from datetime import UTC, datetime
    >>> from jobstore.language.instants import instant_text, instant_us
    >>> instant_text(next_cron_us("0 * * * *", "UTC", instant_us(datetime(2026, 1, 15, 8, 30, tzinfo=UTC))))
    '2026-01-15T09:00:00Z'

    Raises:
        InvalidSchedule: the expression is not valid, or this host does not know the zone.
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
    """``anchor + n * interval`` after now with the smallest n >= 1; None from the year 10000 on.

    >>> next_interval_us(60, 0, 59_999_999), next_interval_us(60, 0, 60_000_000), next_interval_us(60, 0, -1)
    (60000000, 120000000, 60000000)

    Raises:
        InvalidSchedule: `checked_interval` would refuse the interval.
    """
    interval_us = checked_interval(interval_seconds) * MICROSECONDS
    n = max(1, (now_us - anchor_us) // interval_us + 1)
    next_us = anchor_us + n * interval_us
    return next_us if next_us <= MAX_US else None


# --- wall times and instants --------------------------------------------------------------------


def _wall_time(tz: tzinfo, now_us: int) -> datetime | None:
    """The wall time now, with its fold; None if it is past the year 9999."""
    try:
        return (EPOCH + timedelta(microseconds=now_us)).astimezone(tz).replace(tzinfo=None)
    except OverflowError:
        return datetime.min if now_us < 0 else None  # noqa: DTZ901 - the first wall time there is


def _passings_us(tz: tzinfo, wall: datetime) -> tuple[int, int]:
    """The instants at which the clock shows this wall time, for fold 0 and 1.

    Equal: it occurs once. Ascending: twice (in Berlin, 2026-10-25 02:30 is 00:30Z and 01:30Z). Descending: never, it
    lies in a gap (2026-03-29 02:30 gives 01:30Z and 00:30Z, around the change at 01:00Z).
    """
    local_us = (wall - WALL_EPOCH) // TICK
    first, second = (utcoffset_us(wall.replace(tzinfo=tz, fold=fold)) for fold in (0, 1))
    return local_us - first, local_us - second


def _next_fixed_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """The next fire time of a schedule at fixed times: each wall time counts once.

    If now is in the second pass of a repeated hour, its wall times have all fired: continue after its end. In Berlin,
    ``30 2 * * *`` fires on 2026-10-25 at 00:30Z, the first 02:30, and not at 01:30Z.
    """
    first_us, second_us = _passings_us(tz, wall)
    if first_us < second_us == now_us:
        wall += (change_us(tz, first_us, second_us) - first_us) * TICK - TICK
    later = cron.after(wall)
    if later is None:
        return None
    first_us, second_us = _passings_us(tz, later)
    return first_us if first_us <= second_us else change_us(tz, second_us, first_us)


def _next_matching_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """The next fire time of any other schedule: each real minute counts.

    In the first pass of a repeated hour, earlier wall times come again, so search from now and from the start of the
    second pass and take the nearer result. In Berlin on 2026-10-25, at the first 02:50 (00:50Z), ``*/30 * * * *`` finds
    03:00 (02:00Z) from now, but the second 02:00 (01:00Z) is nearer.
    """
    first_us, second_us = _passings_us(tz, wall)
    walks = [wall]
    if now_us == first_us < second_us:
        walks.append(wall - (second_us - change_us(tz, first_us, second_us)) * TICK - TICK)
    ends = [_next_passing_us(cron, tz, walk, now_us) for walk in walks]
    return min((end for end in ends if end is not None), default=None)


def _next_passing_us(cron: Cron, tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """The first instant after now that shows a matching wall time later than this one; times in gaps are skipped.

    In Berlin all times of ``* 2 * 3 L0`` (02:00 to 02:59 on the last Sunday of March) lie in gaps, so it never fires.
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

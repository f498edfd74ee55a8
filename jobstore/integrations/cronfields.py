"""Writes sets of minutes, hours and days as cron fields, and finds the times that clock changes make ambiguous."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from jobstore.language.cron import WEEKDAY_NAMES
from jobstore.language.instants import MICROSECONDS, instant_us
from jobstore.language.zones import change_us, offset_us

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_DAY_MINUTES = 24 * 60
_MINUTE_US = 60 * MICROSECONDS
_DAY_US = _DAY_MINUTES * _MINUTE_US
_DAYS_FORESEEN = 3653
_RANGE_LENGTH = 3
"""Fewer consecutive values are written as a list."""


def field_text(values: Sequence[int], low: int, high: int) -> str:
    """Return the shortest usual cron field for ascending values within `low` to `high`.

    >>> [field_text(v, 0, 59) for v in (range(60), range(0, 60, 15), range(8, 19, 2), (0, 30), (1, 2, 3, 10))]
    ['*', '*/15', '8-18/2', '0,30', '1-3,10']
    """
    if len(values) == high - low + 1:
        return "*"
    step = values[1] - values[0] if len(values) >= _RANGE_LENGTH else 0
    if step > 1 and list(values) == list(range(values[0], values[-1] + 1, step)):
        is_full = values[0] == low and values[-1] + step > high
        return f"*/{step}" if is_full else f"{values[0]}-{values[-1]}/{step}"
    return _listed(values, [str(value) for value in range(high + 1)])


def weekday_text(values: Collection[int]) -> str:
    """Return a cron field with weekdays by name, since numbers mean different days elsewhere; 0 is Sunday.

    >>> weekday_text([1, 2, 3, 4, 5]), weekday_text([6, 0]), weekday_text(range(7))
    ('mon-fri', 'sun,sat', '*')
    """
    return "*" if len(values) == len(WEEKDAY_NAMES) else _listed(sorted(values), WEEKDAY_NAMES)


def _listed(values: Sequence[int], words: Sequence[str]) -> str:
    """Return a comma-separated list, with three or more consecutive values as a range."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [
        [f"{words[run[0]]}-{words[run[-1]]}"] if len(run) >= _RANGE_LENGTH else [words[value] for value in run]
        for run in runs
    ]
    return ",".join(text for run in texts for text in run)


# --- clock changes ------------------------------------------------------------------------------


def keeps_clear(zone: str, year: int, minutes: Collection[int], hours: Collection[int]) -> bool:
    """Whether no clock change of the next ten years makes one of these times of the day ambiguous."""
    doubtful = doubtful_minutes(zone, year)
    return not (doubtful and any(60 * hour + minute in doubtful for hour in hours for minute in minutes))


def changes_within_hours(zone: str, year: int) -> bool:
    """Whether the zone's clocks change by, or at, other than full hours."""
    doubtful = doubtful_minutes(zone, year)
    return any((minute in doubtful) != (minute - minute % 60 in doubtful) for minute in range(_DAY_MINUTES))


@lru_cache(maxsize=32)
def doubtful_minutes(zone: str, year: int) -> frozenset[int]:
    """Return the minutes of the day that clock changes in the ten years from `year` on make ambiguous.

    These are the minutes that are skipped or repeated and, if clocks go forward, as many minutes at the start of the
    day, since APScheduler misses those after such a change. For example, Berlin skips 02:00 to 02:59 in spring and
    repeats it in autumn, so its ambiguous minutes are those from 02:00 to 02:59 and from 00:00 to 00:59.
    """
    doubtful: set[int] = set()
    tz, first_us = ZoneInfo(zone), instant_us(datetime(year, 1, 1, tzinfo=UTC)) - _DAY_US
    for begins_us in range(first_us, first_us + _DAYS_FORESEEN * _DAY_US, _DAY_US):
        old_us, new_us = offset_us(tz, begins_us), offset_us(tz, begins_us + _DAY_US)
        if old_us == new_us:
            continue
        changed_us = change_us(tz, begins_us, begins_us + _DAY_US)
        wall_before, wall_after = (changed_us + old_us) // _MINUTE_US, (changed_us + new_us) // _MINUTE_US
        low, high = sorted((wall_before, wall_after))
        doubtful.update(minute % _DAY_MINUTES for minute in range(low, high))
        doubtful.update(range(min(_DAY_MINUTES, wall_after - wall_before)))
    return frozenset(doubtful)

"""What an APScheduler 3 trigger is in a store: a cron expression, an interval with its grid, or neither.

A trigger becomes an expression only where both give the same fire times; everything else is an
*external* schedule, whose next run is what APScheduler says, and whose description holds the
trigger's own words and the reason. Where the two differ:

- Weekday 0 is Monday there and Sunday in cron, so weekdays are written by name.
- Day and weekday are joined by AND there and by OR in cron, unless the day begins with ``*``.
- Years, weeks, seconds, jitter and an end have no place in five fields.
- A clock change: APScheduler fires a skipped wall time an hour late, a repeated one twice, and misses
  the first hour of some day after the clocks went forward (its steps from day to day are counted in
  real time). In such a zone an expression must keep away from those times, or run in every hour of
  every day (and in every minute, where clocks change within an hour).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
)
from apscheduler.triggers.cron.fields import MAX_VALUES, MIN_VALUES
from apscheduler.triggers.interval import IntervalTrigger

from jobstore.integrations.cronfields import (
    changes_within_hours,
    field_text,
    keeps_clear,
    same_zone,
    weekday_text,
)
from jobstore.language.cron import WEEKDAY_NAMES, check_schedule
from jobstore.language.errors import InvalidSchedule
from jobstore.language.schedule import check_interval

if TYPE_CHECKING:
    from collections.abc import Collection

_RANGES = (AllExpression, RangeExpression, MonthRangeExpression, WeekdayRangeExpression)
_WORDS_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Translation:
    """A schedule as `Recorder.save_job` takes it; `reason` says why it is external, where it is."""

    schedule: str | None = None
    interval_seconds: int | None = None
    anchor_at: datetime | None = None
    reason: str | None = None

    @property
    def external(self) -> bool:
        """Whether no cron expression and no interval says it."""
        return self.reason is not None


class _NotSayable(Exception):
    """The trigger has no faithful form; the message says why."""


def translate(trigger: Any, zone: str, *, now: datetime, next_run_time: datetime | None = None) -> Translation:
    """The trigger as a schedule of a store in this zone.

    Args:
        trigger: an APScheduler trigger.
        zone: the IANA name of the store's time zone.
        now: an aware datetime; a trigger that begins later is external until then.
        next_run_time: what the scheduler will do next, if it said so; an interval's grid goes through it.

    >>> from apscheduler.triggers.cron import CronTrigger
    >>> translate(CronTrigger(day_of_week=0, hour=3, timezone="UTC"), "UTC", now=datetime.now(UTC)).schedule
    '0 3 * * mon'
    """
    try:
        if type(trigger) is CronTrigger:
            return Translation(schedule=_expression(trigger, zone, now, next_run_time))
        if type(trigger) is IntervalTrigger:
            return _interval(trigger, next_run_time)
    except (_NotSayable, InvalidSchedule) as reason:
        return Translation(reason=str(reason))
    return Translation(reason="no cron expression or interval can express this")


def trigger_words(trigger: Any) -> str:
    """The trigger in its own words, all its options named; at most 500 characters."""
    try:
        words = repr(trigger)
    except Exception:  # noqa: BLE001 - somebody else's class
        words = type(trigger).__name__
    words = words.removeprefix("<").removesuffix(">")
    return words if len(words) <= _WORDS_LENGTH else f"{words[: _WORDS_LENGTH - 1]}…"


# --- intervals ----------------------------------------------------------------------------------


def _interval(trigger: Any, next_run_time: datetime | None) -> Translation:
    """The grid is anchored one step before a run: a store counts from the first step after its anchor."""
    _refuse_jitter_and_end(trigger)
    if trigger.interval % timedelta(seconds=1):
        raise _NotSayable("the interval is not a whole number of seconds")
    seconds = check_interval(trigger.interval // timedelta(seconds=1))
    try:
        anchor_at = (next_run_time or trigger.start_date).astimezone(UTC) - trigger.interval
    except OverflowError:
        raise _NotSayable("the interval reaches back before the year 1") from None
    return Translation(interval_seconds=seconds, anchor_at=anchor_at)


def _refuse_jitter_and_end(trigger: Any) -> None:
    if trigger.jitter:
        raise _NotSayable(f"each run is delayed by up to {trigger.jitter} s at random")
    if trigger.end_date is not None:
        raise _NotSayable("it ends")


# --- cron expressions ---------------------------------------------------------------------------


def _expression(trigger: Any, zone: str, now: datetime, next_run_time: datetime | None) -> str:
    _refuse_jitter_and_end(trigger)
    if not same_zone(_zone_name(trigger.timezone), zone):
        raise _NotSayable(f"it runs in the time zone {trigger.timezone}, the store's is {zone}")
    if trigger.start_date is not None and trigger.start_date > now:
        raise _NotSayable("its start date is in the future")
    fields = {field.name: field for field in trigger.fields}
    for name in ("year", "week"):
        if not _is_full(name, _values(fields[name])):
            raise _NotSayable(f"cron has no field for the {name}")
    if _values(fields["second"]) != [0]:
        raise _NotSayable("cron has no field for seconds")
    minutes, hours, months = (_values(fields[name]) for name in ("minute", "hour", "month"))
    day, weekday = _day_fields(fields["day"], fields["day_of_week"])
    text = f"{_field('minute', minutes)} {_field('hour', hours)} {day} {_field('month', months)} {weekday}"
    if not keeps_clear(zone, now.year, minutes, hours) and not _steps_by_the_hour(text, zone, now.year):
        raise _NotSayable(f"near a clock change in {zone} its times differ from cron's")
    _refuse_other_next_run(trigger, now, next_run_time)
    return check_schedule(text)


def _steps_by_the_hour(text: str, zone: str, year: int) -> bool:
    """Whether it runs in every hour of every day: then APScheduler steps through clock changes in real time, too."""
    minute, *others = text.split()
    return others == ["*"] * 4 and (minute == "*" or not changes_within_hours(zone, year))


def _field(name: str, values: list[int]) -> str:
    return field_text(values, MIN_VALUES[name], MAX_VALUES[name])


def _zone_name(timezone: object) -> str:
    return "UTC" if timezone is UTC else str(getattr(timezone, "key", ""))


def _refuse_other_next_run(trigger: Any, now: datetime, next_run_time: datetime | None) -> None:
    """The next run may be set by hand, apart from the trigger."""
    if next_run_time is not None and next_run_time > now and trigger.get_next_fire_time(None, now) != next_run_time:
        raise _NotSayable("its next run was set independently of its trigger")


def _values(field: Any) -> list[int]:
    """The values that a field lets through, in order."""
    found: set[int] = set()
    for expression in field.expressions:
        if type(expression) not in _RANGES:
            raise _NotSayable(f"cron cannot say {expression} for the {field.name}")
        first = getattr(expression, "first", MIN_VALUES[field.name])
        last = getattr(expression, "last", None)
        found.update(range(first, (MAX_VALUES[field.name] if last is None else last) + 1, expression.step or 1))
    return sorted(found)


def _is_full(name: str, values: Collection[int]) -> bool:
    return bool(len(values) == MAX_VALUES[name] - MIN_VALUES[name] + 1)


def _day_fields(day: Any, day_of_week: Any) -> tuple[str, str]:
    """The fields for day and weekday. APScheduler joins them by AND; cron only where one begins with ``*``."""
    weekdays = weekday_text([(value + 1) % 7 for value in _values(day_of_week)])
    kinds = {type(expression) for expression in day.expressions}
    if kinds == {WeekdayPositionExpression}:
        if weekdays != "*":
            raise _NotSayable("it combines day and weekday with AND")
        return "*", ",".join(_position(expression) for expression in day.expressions)
    days = _days_and_last(day) if LastDayOfMonthExpression in kinds else _field("day", _values(day))
    if not days.startswith("*") and weekdays != "*":
        raise _NotSayable("it combines day and weekday with AND")
    return days, weekdays


def _days_and_last(day: Any) -> str:
    """Days of the month with the last one among them; cron writes it L."""
    numbered = [expression for expression in day.expressions if type(expression) is not LastDayOfMonthExpression]
    if not numbered:
        return "L"
    plain = type(day)(day.name, ",".join(str(expression) for expression in numbered))
    text = _field("day", _values(plain))
    return text if text == "*" else f"{text},L"


def _position(expression: Any) -> str:
    """``3rd fri`` as ``fri#3``, ``last fri`` as ``L5``."""
    weekday = (expression.weekday + 1) % 7
    nth = expression.option_num + 1
    return f"L{weekday}" if nth == len(expression.options) else f"{WEEKDAY_NAMES[weekday]}#{nth}"

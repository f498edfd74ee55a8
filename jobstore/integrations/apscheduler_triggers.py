"""APScheduler 3 triggers as schedules of a store: a cron expression, an interval with its anchor, or external.

A trigger becomes a cron expression only if both have the same fire times. Any other trigger is an *external* schedule:
its next run is the one that APScheduler reports, and its description holds the trigger's own words and the reason.
The two differ in these points:

- Weekday 0 is Monday in APScheduler and Sunday in cron, so weekdays are written by name.
- APScheduler joins day and weekday by AND, cron by OR unless the day begins with ``*``.
- Cron's five fields cannot express years, weeks, seconds, jitter or an end.
- At a clock change, APScheduler fires a skipped wall time an hour late and a repeated one twice. After the clocks
  went forward, it misses the first hour of some day, since it counts the steps from day to day in real time. In a zone
  with clock changes, an expression must avoid those times, or run in every hour of every day (and in every minute, if
  clocks change by or at other than full hours).
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
    weekday_text,
)
from jobstore.language.cron import WEEKDAY_NAMES, check_schedule
from jobstore.language.errors import InvalidSchedule
from jobstore.language.fields import checked_interval
from jobstore.language.zones import same_zone

if TYPE_CHECKING:
    from collections.abc import Collection

_RANGES = (AllExpression, RangeExpression, MonthRangeExpression, WeekdayRangeExpression)
_WORDS_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Translation:
    """A schedule as `Recorder.save_job` takes it; `reason` says why a schedule is external."""

    schedule: str | None = None
    interval_seconds: int | None = None
    anchor_at: datetime | None = None
    reason: str | None = None

    @property
    def external(self) -> bool:
        """Whether neither a cron expression nor an interval can express the trigger."""
        return self.reason is not None


class _NotSayable(Exception):
    """The trigger has no exact equivalent; the message says why."""


def translate(trigger: Any, zone: str, *, now: datetime, next_run_time: datetime | None = None) -> Translation:
    """Translate a trigger into a schedule of a store in this zone.

    Args:
        trigger: an APScheduler trigger.
        zone: the IANA name of the store's time zone.
        now: an aware datetime; a trigger that starts later is external until then.
        next_run_time: the scheduler's next run, if known; an interval is anchored to it.

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
    """Return the trigger's repr, which names all its options; at most 500 characters."""
    try:
        words = repr(trigger)
    except Exception:  # noqa: BLE001 - a foreign class
        words = type(trigger).__name__
    words = words.removeprefix("<").removesuffix(">")
    return words if len(words) <= _WORDS_LENGTH else f"{words[: _WORDS_LENGTH - 1]}…"


# --- intervals ----------------------------------------------------------------------------------


def _interval(trigger: Any, next_run_time: datetime | None) -> Translation:
    """Translate an interval. The anchor is one interval before a run, since the first run is one after the anchor."""
    _refuse_jitter_and_end(trigger)
    if trigger.interval % timedelta(seconds=1):
        raise _NotSayable("the interval is not a whole number of seconds")
    seconds = checked_interval(trigger.interval // timedelta(seconds=1))
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
    """Whether it runs in every hour of every day: then APScheduler passes clock changes in real time, as cron does."""
    minute, *others = text.split()
    return others == ["*"] * 4 and (minute == "*" or not changes_within_hours(zone, year))


def _field(name: str, values: list[int]) -> str:
    return field_text(values, MIN_VALUES[name], MAX_VALUES[name])


def _zone_name(timezone: object) -> str:
    return "UTC" if timezone is UTC else str(getattr(timezone, "key", ""))


def _refuse_other_next_run(trigger: Any, now: datetime, next_run_time: datetime | None) -> None:
    """Raise if the next run is not the trigger's: a program may have set it by itself."""
    if next_run_time is not None and next_run_time > now and trigger.get_next_fire_time(None, now) != next_run_time:
        raise _NotSayable("its next run was set independently of its trigger")


def _values(field: Any) -> list[int]:
    """Return the values that match a field, ascending."""
    found: set[int] = set()
    for expression in field.expressions:
        if type(expression) not in _RANGES:
            raise _NotSayable(f"cron cannot express {expression} in the {field.name}")
        first = getattr(expression, "first", MIN_VALUES[field.name])
        last = getattr(expression, "last", None)
        found.update(range(first, (MAX_VALUES[field.name] if last is None else last) + 1, expression.step or 1))
    return sorted(found)


def _is_full(name: str, values: Collection[int]) -> bool:
    return bool(len(values) == MAX_VALUES[name] - MIN_VALUES[name] + 1)


def _day_fields(day: Any, day_of_week: Any) -> tuple[str, str]:
    """Return the fields for day and weekday. APScheduler joins them by AND, cron only if one begins with ``*``."""
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
    """Return a day field that includes the last day of the month, as ``L``."""
    numbered = [expression for expression in day.expressions if type(expression) is not LastDayOfMonthExpression]
    if not numbered:
        return "L"
    plain = type(day)(day.name, ",".join(str(expression) for expression in numbered))
    text = _field("day", _values(plain))
    return text if text == "*" else f"{text},L"


def _position(expression: Any) -> str:
    """Return ``fri#3`` for ``3rd fri``, ``L5`` for ``last fri``."""
    weekday = (expression.weekday + 1) % 7
    nth = expression.option_num + 1
    return f"L{weekday}" if nth == len(expression.options) else f"{WEEKDAY_NAMES[weekday]}#{nth}"

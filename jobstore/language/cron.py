"""Cron expressions as in Debian's crontab(5): which are valid, and the wall times they match. Pure.

`croniter` handles fields that are more than numbers (``L``, ``15W``, ``fri#2``). The first such expression imports it;
importing this module does not.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from copy import copy
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jobstore.language.errors import InvalidSchedule, shown

if TYPE_CHECKING:
    from croniter import croniter

EXPRESSION_CHARACTERS = 200
"""A limit, because croniter needs more than half a second for 200,000 characters."""

FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day", "1-31 or L"),
    ("month", "1-12 or jan-dec"),
    ("weekday", "0-7 or sun-sat"),
)
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
"""The index is cron's number of the weekday."""
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NUMBERS: tuple[dict[str, int], ...] = (
    *({}, {}, {}),
    {name: number for number, name in enumerate(MONTH_NAMES, 1)},
    {name: number for number, name in enumerate(WEEKDAY_NAMES)},
)
_DAY, _WEEKDAY = 2, 4
_DAYS_A_WEEK = 7
_PLAIN = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")
_BLANKS = " \t\n\r\f\v"
_FIELD = re.compile(rf"[^{_BLANKS}]+")
_HASHED_OR_RANDOM = re.compile(r"(?<![a-z])[hr](?![a-z])")  # not the letters of thu, mar or fri

_YEARS_SEARCHED = 50
_HOME = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time
_CALENDAR_CYCLE = timedelta(days=146_097)
"""The Gregorian calendar, weekdays included, repeats every 400 years."""


class CronField(NamedTuple):
    """One field of an expression.

    Attributes:
        values: the values it matches, ascending; None if it holds more than numbers (``L``, ``15W``, ``fri#2``).
        text: the field for croniter, with ranges listed out: croniter reads ``9-9`` as the whole field.
        starred: whether it starts with ``*``; such a day or weekday field does not restrict the other one.
    """

    values: tuple[int, ...] | None
    text: str
    starred: bool


class Times(NamedTuple):
    """A reading whose fields are numbers only; croniter needs forty times as long for one.

    Attributes:
        both: whether day and weekday must both match, because one of them starts with ``*``; else either is enough.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    both: bool

    def after(self, wall: datetime) -> datetime | None:
        """The first matching wall time after this one; None if there is none within fifty years."""
        minute = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)
        if self._is_day(minute):
            for hour in self.hours[bisect_left(self.hours, minute.hour) :]:
                left = self.minutes if hour > minute.hour else self.minutes[bisect_left(self.minutes, minute.minute) :]
                if left:
                    return minute.replace(hour=hour, minute=left[0])
        day = minute.replace(hour=self.hours[0], minute=self.minutes[0])
        end = day.year + _YEARS_SEARCHED
        while day.year < end:
            day += timedelta(days=1)
            if day.month not in self.months:
                day = day.replace(day=1) + timedelta(days=31)  # skip to the day before the next month
                day = day.replace(day=1) - timedelta(days=1)
            elif self._is_day(day):
                return day
        return None

    def _is_day(self, moment: datetime) -> bool:
        if moment.month not in self.months:
            return False
        matches = moment.day in self.days, moment.isoweekday() % _DAYS_A_WEEK in self.weekdays
        return all(matches) if self.both else any(matches)


class Cron(NamedTuple):
    """A parsed expression: it fires at the times of each of its readings."""

    readings: tuple[croniter | Times, ...]
    fixed: bool

    def after(self, wall: datetime) -> datetime | None:
        """The first matching wall time after this one; None if it is past the year 9999.

        The search runs in the years 2000 to 2399 (the calendar repeats every 400 years), because croniter handles
        neither the ends of datetime nor times before 1970.
        """
        shift = (wall.year - _HOME.year) // 400 * _CALENDAR_CYCLE
        found = [after for each in self.readings if (after := _reading_after(each, wall - shift)) is not None]
        try:
            return min(found) + shift if found else None
        except OverflowError:
            return None


def _reading_after(reading: croniter | Times, wall: datetime) -> datetime | None:
    if isinstance(reading, Times):
        return reading.after(wall)
    # A croniter holds its position, and readings are shared between threads: move a copy.
    found: datetime = copy(reading).get_next(datetime, start_time=wall)
    return found


# --- validation ---------------------------------------------------------------------------------


def check_schedule(expression: object) -> str:
    """Validate a cron expression and return it as stored, without surrounding blanks.

    Valid are five fields or an ``@`` alias that croniter accepts, at most 200 characters, that fire within fifty years.

    >>> check_schedule(" */5 * * * mon-fri ")
    '*/5 * * * mon-fri'

    Raises:
        InvalidSchedule: it is not valid; the message says why.
    """
    read_schedule(expression)
    return _trimmed(expression)


def fires_at_fixed_times(expression: str) -> bool:
    """Whether the schedule names times of the day: neither its minute nor its hour field starts with ``*``.

    >>> fires_at_fixed_times("30 2 * * *"), fires_at_fixed_times("@daily"), fires_at_fixed_times("@hourly")
    (True, True, False)

    Raises:
        InvalidSchedule: `check_schedule` would refuse it.
    """
    return read_schedule(expression).fixed


# --- parsing ------------------------------------------------------------------------------------


def read_schedule(expression: object) -> Cron:
    """Parse an expression.

    Raises:
        InvalidSchedule: `check_schedule` would refuse it.
    """
    text = _trimmed(expression)
    read = _read(text)
    if isinstance(read, str):
        raise InvalidSchedule(f"schedule {shown(text)} {read}")
    return read


def _trimmed(expression: object) -> str:
    if not isinstance(expression, str):
        raise InvalidSchedule(f"schedule must be text: five cron fields or an alias; received {shown(expression)}")
    text = expression.strip(_BLANKS)
    if len(text) > EXPRESSION_CHARACTERS:
        raise InvalidSchedule(
            f"schedule must have at most {EXPRESSION_CHARACTERS} characters; received {len(text)}: {shown(text)}"
        )
    return text


@lru_cache(maxsize=4096)
def _read(text: str) -> Cron | str:
    """The parsed expression, or why it is refused; refusals are cached too, so a bad row costs parsing once."""
    if reason := _refused_unread(text):
        return reason
    fields = cron_fields(text)
    read = _read_numbers(fields) or _read_by_croniter(fields)
    if read is None:
        return _refused_field(text)
    coming = tuple(reading for reading in read if _ever_comes(reading))
    if not coming:
        return "never fires: no such day exists within fifty years"
    return Cron(coming, fixed=not fields[0].starred and not fields[1].starred)


def _read_numbers(fields: tuple[CronField, ...]) -> tuple[Times, ...] | None:
    values = [field.values for field in fields if field.values is not None]
    if len(values) < len(FIELDS):
        return None
    return (Times._make((*values, fields[_DAY].starred or fields[_WEEKDAY].starred)),)


def _read_by_croniter(fields: tuple[CronField, ...]) -> tuple[croniter, ...] | None:
    from croniter import CroniterError, croniter  # importing jobstore stays cheap

    try:
        return tuple(croniter(each, _HOME, day_or=False) for each in _readings(fields))
    except CroniterError:
        return None


def _readings(fields: tuple[CronField, ...]) -> list[str]:
    """The expressions for croniter that together fire at the right times.

    crontab(5) joins day and weekday by OR, croniter (with ``day_or=False``) by AND. So ``0 0 L * 1`` becomes
    ``0 0 l * *`` and ``0 0 * * 1``.
    """
    texts = [field.text for field in fields]
    if fields[_DAY].starred or fields[_WEEKDAY].starred:
        return [" ".join(texts)]
    return [" ".join([*texts[:_WEEKDAY], "*"]), " ".join([*texts[:_DAY], "*", *texts[_DAY + 1 :]])]


def _ever_comes(reading: croniter | Times) -> bool:
    if isinstance(reading, Times):
        return reading.after(_HOME) is not None
    from croniter import CroniterBadDateError  # importing jobstore stays cheap

    try:
        copy(reading).get_next(datetime)
    except CroniterBadDateError:
        return False
    return True


def cron_fields(text: str) -> tuple[CronField, ...]:
    """Parse the fields of an expression (five if it is valid) as in Debian's crontab(5).

    >>> [field.values for field in cron_fields("5-20/5 9-9 L jan mon-wed")]
    [(5, 10, 15, 20), (9,), None, (1,), (1, 2, 3)]
    """
    fields = _FIELD.findall(ALIASES.get(text.lower(), text))
    return tuple(_cron_field(position, field) for position, field in enumerate(fields[: len(FIELDS)]))


# Thousands of expressions share a few hundred distinct fields.
@lru_cache(maxsize=1024)
def _cron_field(position: int, field: str) -> CronField:
    if field == "?" and position in {_DAY, _WEEKDAY}:
        field = "*"
    parts = [(part, _part_values(position, part)) for part in field.lower().split(",")]
    known = sorted({value for _, values in parts for value in values or ()})
    more = [part for part, values in parts if values is None]
    text = "*" if len(known) == _size(position) else ",".join([*map(str, known), *more])
    return CronField(None if more else tuple(known), text, starred=field.startswith("*"))


def _part_values(position: int, part: str) -> list[int] | None:
    """The values of ``*``, ``7``, ``mon``, ``1-5`` or one of them with a step; None for anything else.

    A backward range wraps around the end of the field, and so does its step: ``sat-tue/2`` is Saturday and Monday.
    """
    plain = _PLAIN.fullmatch(part)
    if plain is None:
        return None
    low, high = _BOUNDS[position]
    begin, end, step = plain.groups()
    first = low if begin == "*" else _number(position, begin)
    last = _number(position, end) if end else high if begin == "*" or step else first
    if first is None or last is None or (begin == "*" and end) or (step and not int(step)):
        return None
    size = _size(position)
    values = range(first, last + 1 + (size if last < first else 0), int(step or 1))
    return [(value - low) % size + low for value in values]


def _size(position: int) -> int:
    low, high = _BOUNDS[position]
    return _DAYS_A_WEEK if position == _WEEKDAY else high - low + 1


def _number(position: int, word: str) -> int | None:
    low, high = _BOUNDS[position]
    number = int(word) if word.isdigit() else _NUMBERS[position].get(word)
    return number if number is not None and low <= number <= high else None


def _refused_unread(text: str) -> str | None:
    """Why to refuse text that croniter might accept, but with seconds or random times; None if nothing is wrong."""
    if not text.isascii():
        return "has non-ASCII characters; use plain digits, names and spaces"
    if text.startswith("@"):
        return None if text.lower() in ALIASES else f"is not a known alias; use {', '.join(ALIASES)} or five fields"
    fields = _FIELD.findall(text)
    if len(fields) != len(FIELDS):
        has = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        return f"has {has}; write five: minute hour day month weekday (no seconds, no years)"
    if _HASHED_OR_RANDOM.search(text.lower()):
        return "uses H or R, which do not fix a time; write a number"
    return None


def _refused_field(text: str) -> str:
    """Why croniter refused the expression: names the first field that it refuses on its own."""
    from croniter import croniter  # importing jobstore stays cheap

    for position, ((name, values), field) in enumerate(zip(FIELDS, _FIELD.findall(text), strict=True)):
        alone = ["*"] * len(FIELDS)
        alone[position] = field
        if not croniter.is_valid(" ".join(alone)):
            return f"has a bad {name} field {shown(field)}; use {values}, with * , - and / as in crontab(5)"
    return "is not a valid cron expression; see crontab(5)"

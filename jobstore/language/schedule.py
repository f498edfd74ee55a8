"""When a job runs next: cron expressions and intervals, from a time that is given. Pure.

An expression speaks of *wall times*, what the clock on the wall of the store's time zone shows;
`croniter` reads it and walks from one wall time to the next, knowing nothing of zones. The step from
wall time to instant is taken here, because it decides what happens when clocks change:

- At *fixed times* (neither the minute nor the hour field starts with ``*``) a job fires once for each
  wall time: at the first moment after the gap when clocks jump over it, the first time only when it
  comes twice. This is what people mean by "daily at 02:30", and what Debian's cron does.
- Any *other* schedule (``*/10 * * * *``) fires at each real minute whose wall time matches: nothing for
  the gap, twice for the hour that comes twice.

croniter is imported by the first expression that is read, not by importing this module.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from copy import copy
from datetime import datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from jobstore.language.errors import InvalidRecord, InvalidSchedule, shown
from jobstore.language.instants import EPOCH, MAX_US, MICROSECONDS

if TYPE_CHECKING:
    from croniter import croniter

EXPRESSION_CHARACTERS = 200
"""croniter needs more than half a second for an expression of 200,000."""
INTERVAL_SECONDS_MAX = 3_155_760_000
"""A hundred years."""

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
"""As cron counts them."""
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

_NOT_PLACES = ("localtime", "posixrules", "Factory", "posix/", "right/")
"""Names zoneinfo opens where the system has such files, and that mean another clock on another host."""

_TICK = timedelta(microseconds=1)
_WALL_EPOCH = EPOCH.replace(tzinfo=None)
_CALENDAR_CYCLE = timedelta(days=146_097)
"""The Gregorian calendar, weekdays included, repeats every 400 years."""
_YEARS_SEARCHED = 50
_HOME = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time
_GAPS_IN_A_ROW = 50
"""A schedule whose times fall into this many gaps one after the other falls into all of them."""


class CronField(NamedTuple):
    """One field of an expression.

    Attributes:
        values: what it matches, ascending; null where it says more than numbers (``L``, ``15W``, ``fri#2``).
        text: the same for croniter, without ranges: it reads ``9-9`` as the whole field.
        starred: it begins with ``*``: as a day or a weekday it does not restrict the other one.
    """

    values: tuple[int, ...] | None
    text: str
    starred: bool


class _Times(NamedTuple):
    """An expression whose fields are nothing but numbers: croniter needs forty times as long for it.

    Attributes:
        both: whether the day and the weekday must match, because one of them does not restrict; else one is enough.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    both: bool

    def after(self, wall: datetime) -> datetime | None:
        """The first matching wall time after this one; null when there is none in fifty years."""
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
                day = day.replace(day=1) + timedelta(days=31)  # on to the next month
                day = day.replace(day=1) - timedelta(days=1)
            elif self._is_day(day):
                return day
        return None

    def _is_day(self, moment: datetime) -> bool:
        if moment.month not in self.months:
            return False
        matches = moment.day in self.days, moment.isoweekday() % _DAYS_A_WEEK in self.weekdays
        return all(matches) if self.both else any(matches)


class _Cron(NamedTuple):
    """An expression as it was read: its times are those of all readings together."""

    readings: tuple[croniter | _Times, ...]
    fixed: bool


# --- what may be written ------------------------------------------------------------------------


def check_schedule(expression: object) -> str:
    """The expression as it is stored: what came, without blanks around it.

    Good is what croniter takes in five fields or as an ``@`` alias, at most 200 characters, if it ever comes.

    >>> check_schedule(" */5 * * * mon-fri ")
    '*/5 * * * mon-fri'

    Raises:
        InvalidSchedule: anything else, with the reason.
    """
    text = _trimmed(expression)
    _read_or_raise(text)
    return text


def check_interval(seconds: object) -> int:
    """The interval, 1 to 3,155,760,000 seconds.

    Raises:
        InvalidSchedule: anything else, flags and floats included.
    """
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 1 <= seconds <= INTERVAL_SECONDS_MAX:
        return int(seconds)
    raise InvalidSchedule(
        f"interval_seconds must be an integer from 1 to {INTERVAL_SECONDS_MAX}; received {shown(seconds)}"
    )


def check_timezone(name: object) -> str:
    """The IANA name of a time zone, as it came.

    Raises:
        InvalidRecord: zoneinfo does not know it, or it means another zone on another host (``localtime``).
    """
    if isinstance(name, str) and not name.startswith(_NOT_PLACES) and _zone(name) is not None:
        return str(name)
    raise InvalidRecord(
        f"timezone must be an IANA name such as 'Europe/Berlin' or 'UTC'; received {shown(name)}{_did_you_mean(name)}"
    )


def fires_at_fixed_times(expression: str) -> bool:
    """Whether the schedule names times of the day: neither its minute nor its hour field starts with ``*``.

    >>> fires_at_fixed_times("30 2 * * *"), fires_at_fixed_times("@daily"), fires_at_fixed_times("@hourly")
    (True, True, False)

    Raises:
        InvalidSchedule: `check_schedule` would refuse it.
    """
    return _read_or_raise(_trimmed(expression)).fixed


# --- when it comes next -------------------------------------------------------------------------


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
    cron = _read_or_raise(_trimmed(expression))
    tz = _zone(zone)
    if tz is None:
        raise InvalidSchedule(f"the time zone {shown(zone)} of this store is not known on this host; install tzdata")
    wall = _wall_time(tz, now_us)
    if wall is None:
        return None
    next_us = (_next_fixed_us if cron.fixed else _next_matching_us)(cron.readings, tz, wall, now_us)
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


# --- reading an expression ----------------------------------------------------------------------


def _trimmed(expression: object) -> str:
    if not isinstance(expression, str):
        raise InvalidSchedule(f"schedule must be text, five cron fields or an alias; received {shown(expression)}")
    text = expression.strip(_BLANKS)
    if len(text) > EXPRESSION_CHARACTERS:
        raise InvalidSchedule(
            f"schedule must have at most {EXPRESSION_CHARACTERS} characters; received {len(text)}: {shown(text)}"
        )
    return text


def _read_or_raise(text: str) -> _Cron:
    read = _read(text)
    if isinstance(read, str):
        raise InvalidSchedule(f"schedule {shown(text)} {read}")
    return read


@lru_cache(maxsize=4096)
def _read(text: str) -> _Cron | str:
    """The expression as croniter reads it, or why it is refused: a bad row costs its price once, too."""
    if reason := _refused_unread(text):
        return reason
    fields = cron_fields(text)
    read = _read_numbers(fields) or _read_by_croniter(fields)
    if read is None:
        return _refused_field(text)
    coming = tuple(reading for reading in read if _ever_comes(reading))
    if not coming:
        return "never comes: there is no such day in fifty years"
    return _Cron(coming, fixed=not fields[0].starred and not fields[1].starred)


def _read_numbers(fields: tuple[CronField, ...]) -> tuple[_Times, ...] | None:
    values = [field.values for field in fields if field.values is not None]
    if len(values) < len(FIELDS):
        return None
    return (_Times._make((*values, fields[_DAY].starred or fields[_WEEKDAY].starred)),)


def _read_by_croniter(fields: tuple[CronField, ...]) -> tuple[croniter, ...] | None:
    from croniter import CroniterError, croniter  # importing jobstore stays cheap

    try:
        return tuple(croniter(each, _HOME, day_or=False) for each in _readings(fields))
    except CroniterError:
        return None


def _readings(fields: tuple[CronField, ...]) -> list[str]:
    """Expressions whose times together are meant: croniter joins day and weekday by AND in each."""
    texts = [field.text for field in fields]
    if fields[_DAY].starred or fields[_WEEKDAY].starred:
        return [" ".join(texts)]
    return [" ".join([*texts[:_WEEKDAY], "*"]), " ".join([*texts[:_DAY], "*", *texts[_DAY + 1 :]])]


def _ever_comes(reading: croniter | _Times) -> bool:
    if isinstance(reading, _Times):
        return reading.after(_HOME) is not None
    from croniter import CroniterBadDateError  # importing jobstore stays cheap

    try:
        copy(reading).get_next(datetime)
    except CroniterBadDateError:
        return False
    return True


def cron_fields(text: str) -> tuple[CronField, ...]:
    """The fields of an expression (five, if it is a good one), as Debian's crontab(5) reads them.

    >>> [field.values for field in cron_fields("5-20/5 9-9 L jan mon-wed")]
    [(5, 10, 15, 20), (9,), None, (1,), (1, 2, 3)]
    """
    fields = _FIELD.findall(ALIASES.get(text.lower(), text))
    return tuple(_cron_field(position, field) for position, field in enumerate(fields[: len(FIELDS)]))


def _cron_field(position: int, field: str) -> CronField:
    if field == "?" and position in {_DAY, _WEEKDAY}:
        field = "*"
    parts = [(part, _part_values(position, part)) for part in field.lower().split(",")]
    known = sorted({value for _, values in parts for value in values or ()})
    more = [part for part, values in parts if values is None]
    text = "*" if len(known) == _size(position) else ",".join([*map(str, known), *more])
    return CronField(None if more else tuple(known), text, starred=field.startswith("*"))


def _part_values(position: int, part: str) -> list[int] | None:
    """The values of ``*``, ``7``, ``mon``, ``1-5`` or one of them with a step; null for anything else.

    A range that runs backwards goes on over the end of the field, its step too (``sat-tue/2`` is Saturday and Monday).
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
    """What croniter might take and this store does not: it would read it differently each time, or with seconds."""
    if not text.isascii():
        return "has characters beyond ASCII; use plain digits, names and blanks"
    if text.startswith("@"):
        return None if text.lower() in ALIASES else f"is not a known alias; use {', '.join(ALIASES)} or five fields"
    fields = _FIELD.findall(text)
    if len(fields) != len(FIELDS):
        return f"has {len(fields)} fields; write five: minute hour day month weekday (no seconds, no years)"
    if _HASHED_OR_RANDOM.search(text.lower()):
        return "uses H or R, which leave the time open; write the number itself"
    return None


def _refused_field(text: str) -> str:
    """Why croniter refused it: the first field that it refuses alone."""
    from croniter import croniter  # importing jobstore stays cheap

    for position, ((name, values), field) in enumerate(zip(FIELDS, _FIELD.findall(text), strict=True)):
        alone = ["*"] * len(FIELDS)
        alone[position] = field
        if not croniter.is_valid(" ".join(alone)):
            return f"has a bad {name} field {shown(field)}; use {values}, with * , - and / as in crontab(5)"
    return "is not an expression croniter takes; see crontab(5)"


# --- wall times and instants --------------------------------------------------------------------


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; no proper name; the name of a folder
        return None


def _did_you_mean(name: object) -> str:
    names = {known.casefold(): known for known in available_timezones() if not known.startswith(_NOT_PLACES)}
    close = get_close_matches(str(name)[:80].casefold(), names, n=1, cutoff=0.8)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def _wall_time(tz: tzinfo, now_us: int) -> datetime | None:
    """What the wall shows now, with its fold; null when that is past the year 9999."""
    try:
        return (EPOCH + timedelta(microseconds=now_us)).astimezone(tz).replace(tzinfo=None)
    except OverflowError:
        return datetime.min if now_us < 0 else None  # noqa: DTZ901 - the first wall time there is


def _wall_after(readings: tuple[croniter | _Times, ...], wall: datetime) -> datetime | None:
    """The first matching wall time after this one; null when it is past the year 9999.

    The years 2000 to 2399 are searched: there croniter meets neither the ends of datetime nor times before 1970.
    """
    shift = (wall.year - _HOME.year) // 400 * _CALENDAR_CYCLE
    found = [after for reading in readings if (after := _reading_after(reading, wall - shift)) is not None]
    try:
        return min(found) + shift if found else None
    except OverflowError:
        return None


def _reading_after(reading: croniter | _Times, wall: datetime) -> datetime | None:
    """A copy of croniter's walks: its position is its state, and readings are shared between threads."""
    if isinstance(reading, _Times):
        return reading.after(wall)
    found: datetime = copy(reading).get_next(datetime, start_time=wall)
    return found


def _passings_us(tz: tzinfo, wall: datetime) -> tuple[int, int]:
    """When the wall shows this: equal instants for once, ascending for twice, descending for never (a gap)."""
    local_us = (wall - _WALL_EPOCH) // _TICK
    before = wall.replace(tzinfo=tz, fold=0).utcoffset() or timedelta()
    after = wall.replace(tzinfo=tz, fold=1).utcoffset() or timedelta()
    return local_us - before // _TICK, local_us - after // _TICK


def _change_us(tz: tzinfo, before_us: int, after_us: int) -> int:
    """The instant between the two at which the zone's offset changes, a whole second."""
    seconds = range(before_us // MICROSECONDS, after_us // MICROSECONDS + 1)
    new = datetime.fromtimestamp(seconds[-1], tz).utcoffset()
    changed = bisect_left(seconds, True, key=lambda second: datetime.fromtimestamp(second, tz).utcoffset() == new)
    return seconds[changed] * MICROSECONDS


def _next_fixed_us(readings: tuple[croniter | _Times, ...], tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """Each wall time once. In the second run of doubled times, all of those have fired: on from their end."""
    first_us, second_us = _passings_us(tz, wall)
    if first_us < second_us == now_us:
        wall += (_change_us(tz, first_us, second_us) - first_us) * _TICK - _TICK
    later = _wall_after(readings, wall)
    if later is None:
        return None
    first_us, second_us = _passings_us(tz, later)
    return first_us if first_us <= second_us else _change_us(tz, second_us, first_us)


def _next_matching_us(readings: tuple[croniter | _Times, ...], tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """Each real minute. In the first run of doubled times, the earlier ones come again: both walks, the nearer end."""
    first_us, second_us = _passings_us(tz, wall)
    walks = [wall]
    if now_us == first_us < second_us:
        walks.append(wall - (second_us - _change_us(tz, first_us, second_us)) * _TICK - _TICK)
    ends = [_next_passing_us(readings, tz, walk, now_us) for walk in walks]
    return min((end for end in ends if end is not None), default=None)


def _next_passing_us(readings: tuple[croniter | _Times, ...], tz: tzinfo, wall: datetime, now_us: int) -> int | None:
    """The first passing after now of a matching wall time after this one, whichever gaps lie between.

    All times of ``* 2 * 3 L0`` (02:00 on the last Sunday of March) are gaps in Berlin: it never comes there.
    """
    for _ in range(_GAPS_IN_A_ROW):
        later = _wall_after(readings, wall)
        if later is None:
            return None
        first_us, second_us = _passings_us(tz, later)
        if first_us <= second_us:
            return first_us if first_us > now_us else second_us
        wall = later + (_change_us(tz, second_us, first_us) - second_us) * _TICK - _TICK
    return None

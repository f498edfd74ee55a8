"""A schedule in words, English or Chinese: a sentence if it is certainly right, else the expression itself. Pure.

cron-descriptor writes the English. It describes the text of a field, not the times it matches: ``*/7`` is not every
seven minutes, and ``0 0 */2 * 1`` needs both fields. So an expression is first parsed into the values of its fields.
Only shapes whose sentences a test reads back are described (tests/property/test_schedule_text.py), and cron-descriptor
gets the values in the one spelling it describes well. Its Chinese leaves the names of days and months in English, so
Chinese sentences are made here.

The first sentence that needs cron-descriptor imports it; importing this module does not.
"""

from __future__ import annotations

import calendar
import re
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jobstore.language.cron import check_schedule, cron_fields
from jobstore.language.errors import InvalidParameter, InvalidSchedule, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cron_descriptor import ExpressionDescriptor, Options

    from jobstore.language.cron import CronField

LANGUAGES = ("en", "zh")

_UNITS = ((86_400, "day", "天"), (3600, "hour", "小时"), (60, "minute", "分钟"), (1, "second", "秒"))
_EXTERNAL = {"en": "Set by its scheduler", "zh": "由调度器决定"}
_MOST_LISTED = 12
_MOST_TIMES = 6
"""Up to this many times of the day are listed; more are described as a range of hours if they form one."""
_RUN_LENGTH = 3
"""Fewer consecutive values are described as a list."""
_NTH = re.compile(r"([0-6])#([1-5])|l([0-6])")
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_CHINESE_WEEKDAYS = ("周日", "周一", "周二", "周三", "周四", "周五", "周六")
_CHINESE_NTH = ("最后一个", "第一个", "第二个", "第三个", "第四个", "第五个")


def schedule_text(schedule: str | int | None, lang: str = "en") -> str:
    """The schedule in words. A cron expression comes back unchanged if no sentence says it exactly.

    Args:
        schedule: a cron expression, an interval in seconds, or None for an external schedule.
        lang: ``en`` or ``zh``.

    >>> schedule_text("0 3 * * mon-fri"), schedule_text(90), schedule_text("0 0 */2 * *")
    ('At 03:00, Monday through Friday', 'Every 90 seconds', '0 0 */2 * *')
    >>> schedule_text("0 3 * * mon-fri", "zh"), schedule_text(3600, "zh")
    ('每周一至周五 03:00', '每小时')

    Raises:
        InvalidParameter: `lang` is neither ``en`` nor ``zh``.
    """
    if lang not in LANGUAGES:
        raise InvalidParameter(f"lang must be one of {', '.join(LANGUAGES)}; received {shown(lang)}")
    if schedule is None:
        return _EXTERNAL[lang]
    return _interval_text(schedule, lang) if isinstance(schedule, int) else _cron_text(schedule, lang)


def _interval_text(seconds: int, lang: str) -> str:
    size, english, chinese = next(unit for unit in _UNITS if seconds % unit[0] == 0)
    count = seconds // size
    if lang == "zh":
        return f"每{chinese}" if count == 1 else f"每 {count} {chinese}"
    return f"Every {english}" if count == 1 else f"Every {count} {english}s"


@lru_cache(maxsize=4096)
def _cron_text(expression: str, lang: str) -> str:
    try:
        shape = _shape(cron_fields(check_schedule(expression)))
    except InvalidSchedule:
        shape = None
    if shape is None:
        return expression
    return _chinese(shape) if lang == "zh" else _english(shape)


# --- shapes that can be described ---------------------------------------------------------------


class _Told(NamedTuple):
    """How a field is described.

    Attributes:
        kind: ``all``; ``step`` (0 and the step, which divides the field); ``range`` (first and last, which may wrap
            around the end of the field); ``list``; ``last`` day of the month; ``nth`` (weekday and which one of
            the month, 0 for the last); empty if it cannot be described.
        values: as the kind says.
    """

    kind: str
    values: tuple[int, ...] = ()

    @property
    def is_one(self) -> bool:
        return self.kind == "list" and len(self.values) == 1

    @property
    def text(self) -> str:
        """The field in the spelling that cron-descriptor describes well."""
        if self.kind == "list":
            return ",".join(map(str, self.values))
        first, last = self.values or (0, 0)
        nth = f"{first}#{last}" if last else f"{first}L"
        return {"all": "*", "step": f"*/{last}", "range": f"{first}-{last}", "last": "L", "nth": nth}[self.kind]


_NOT_TOLD = _Told("")
_ALL = _Told("all")


class _Shape(NamedTuple):
    """An expression that can be described."""

    minutes: _Told
    hours: _Told
    days: _Told
    months: _Told
    weekdays: _Told


def _shape(fields: tuple[CronField, ...]) -> _Shape | None:
    days, weekdays = _told_days(fields[2], fields[4])
    shape = _Shape(*_told_times(fields[0], fields[1]), days, _told(fields[3], 12, low=1), weekdays)
    return None if _is_unclear(shape) or _NOT_TOLD in shape else shape


def _is_unclear(shape: _Shape) -> bool:
    """Whether its sentence would be ambiguous.

    "On day 1 or on Monday, only in January": are both in January? "From 22:00 to 06:59 on Monday": which nights?
    """
    dates = [told for told in (shape.days, shape.weekdays, shape.months) if told != _ALL]
    is_overnight = shape.hours.kind == "range" and shape.hours.values[0] > shape.hours.values[1]
    return len(dates) == len(shape[2:]) or (is_overnight and bool(dates))


def _told(field: CronField, size: int, *, low: int = 0, wraps: bool = True) -> _Told:
    """A field as all, a range or a list; the weekdays ``fri-mon`` are the range (5, 1)."""
    values = field.values
    if values is None:
        return _NOT_TOLD
    if len(values) == size:
        return _ALL
    begins = [value for value in values if (value - 1 - low) % size + low not in values]
    if len(values) >= _RUN_LENGTH and len(begins) == 1 and (wraps or begins[0] == values[0]):
        return _Told("range", (begins[0], (begins[0] + len(values) - 1 - low) % size + low))
    return _Told("list", values) if len(values) <= _MOST_LISTED else _NOT_TOLD


def _told_times(minute: CronField, hour: CronField) -> tuple[_Told, _Told]:
    """Minutes and hours if their sentence is clear; "every 15 minutes, at 09:00 and 12:00" is not."""
    minutes = _stepped(minute, 60) or _told(minute, 60, wraps=False)
    hours = _stepped(hour, 24) or _told(hour, 24)
    if minutes.kind in {"all", "step"} and hours.is_one:
        return minutes, _Told("range", hours.values * 2)
    if minutes.is_one and hours.kind == "range" and len(hour.values or ()) <= _MOST_TIMES:
        return minutes, _Told("list", hour.values or ())
    clear = {"all", "range", "step", "list"} if minutes.is_one else {"all", "range"}
    return minutes, hours if hours.kind in clear else _NOT_TOLD


def _stepped(field: CronField, size: int) -> _Told | None:
    """Steps from 0 that divide the field; other steps are not equally spaced across its end."""
    values = field.values or (0,)
    step = size // len(values)
    is_stepped = 1 < len(values) < size and values == tuple(range(0, size, step)) and size % step == 0
    return _Told("step", (0, step)) if is_stepped else None


def _told_days(day: CronField, weekday: CronField) -> tuple[_Told, _Told]:
    """Days and weekdays. If both restrict, they are described only if cron joins them by OR."""
    days = _Told("last", (0, 0)) if day.text == "l" else _told(day, 31, low=1, wraps=False)
    weekdays = _nth(weekday) or _told(weekday, 7)
    is_either = not day.starred and not weekday.starred
    if _ALL in (days, weekdays):
        return (_ALL, _ALL) if is_either else (days, weekdays)
    # List the weekdays: cron-descriptor drops the "or" before a range.
    return (days, _Told("list", weekday.values)) if is_either and weekday.values else (_NOT_TOLD, _NOT_TOLD)


def _nth(weekday: CronField) -> _Told | None:
    found = _NTH.fullmatch(weekday.text)
    return found and _Told("nth", (int(found[1] or found[3]), int(found[2] or 0)))


# --- English ------------------------------------------------------------------------------------


def _english(shape: _Shape) -> str:
    from cron_descriptor.ExpressionParser import ExpressionParser  # importing jobstore stays cheap

    try:
        made, options = _descriptor()
    except OSError:  # a frozen program or a slim image, without the translations of cron-descriptor
        return " ".join(told.text for told in shape)
    descriptor = copy(made)  # a new one would read its translations again, which takes milliseconds
    parts = ExpressionParser(" ".join(told.text for told in shape), options).parse()
    descriptor._expression_parts = parts  # noqa: SLF001 - the constructor's other half
    return _in_english(descriptor.get_description()).replace("At 1 minutes", "At 1 minute")


@lru_cache(maxsize=1)
def _descriptor() -> tuple[ExpressionDescriptor, Options]:
    from cron_descriptor import ExpressionDescriptor, Options  # importing jobstore stays cheap

    options = Options(locale_code="en_US", use_24hour_time_format=True)
    return ExpressionDescriptor("* * * * *", options), options


def _in_english(text: str) -> str:
    """Translate the names of days and months to English: cron-descriptor takes them from the process's locale."""
    english = (*_WEEKDAYS[1:], _WEEKDAYS[0], *_MONTHS)
    names = dict(zip((*calendar.day_name, *calendar.month_name[1:]), english, strict=True))
    longest_first = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda name: names[name[0]], text)


# --- Chinese ------------------------------------------------------------------------------------


def _chinese(shape: _Shape) -> str:
    date, minutes, hours = _chinese_date(shape), shape.minutes, shape.hours
    if minutes.is_one and hours.kind == "list":
        return f"{date or '每天'} {_listed([f'{hour:02}:{minutes.values[0]:02}' for hour in hours.values])}"
    time = f"{_chinese_hours(hours)}{_chinese_minutes(minutes, hours)}"
    return f"{date}，{time}" if date else time


def _chinese_hours(hours: _Told) -> str:
    if hours.kind == "step":
        return f"每 {hours.values[1]} 小时"
    return f"{hours.values[0]:02}:00 至 {hours.values[1]:02}:59 " if hours.kind == "range" else ""


def _chinese_minutes(minutes: _Told, hours: _Told) -> str:
    if minutes.kind in {"all", "step"}:
        return f"每 {minutes.values[1]} 分钟" if minutes.kind == "step" else "每分钟"
    if minutes.values == (0,):
        return {"all": "每小时", "range": "每小时整点", "step": ""}[hours.kind]
    first, last = minutes.values[0], minutes.values[-1]
    which = f"{first} 至 {last}" if minutes.kind == "range" else _listed(minutes.values)
    return f"{'，' if hours.kind == 'step' else '每小时的'}第 {which} 分"


def _chinese_date(shape: _Shape) -> str:
    month, day, weekday = _chinese_months(shape.months), _chinese_days(shape.days), _chinese_weekdays(shape.weekdays)
    if day and weekday:
        return f"每月{day}或每{weekday}"
    if day or shape.weekdays.kind == "nth":
        return f"{month or '每月'}{day or weekday}"
    return f"{month}每{weekday or '天'}" if month or weekday else ""


def _chinese_months(months: _Told) -> str:
    if months.kind == "range":
        return f"每年 {months.values[0]} 月至 {months.values[1]} 月的"
    return f"每年 {_listed(months.values)} 月的" if months.kind == "list" else ""


def _chinese_days(days: _Told) -> str:
    if days.kind == "range":
        return f" {days.values[0]} 日至 {days.values[1]} 日"
    return {"last": "最后一天", "list": f" {_listed(days.values)} 日"}.get(days.kind, "")


def _chinese_weekdays(weekdays: _Told) -> str:
    if weekdays.kind == "nth":
        return f"{_CHINESE_NTH[weekdays.values[1]]}{_CHINESE_WEEKDAYS[weekdays.values[0]]}"
    names = [_CHINESE_WEEKDAYS[value] for value in weekdays.values]
    return "至".join(names) if weekdays.kind == "range" else _listed(names)


def _listed(words: Sequence[object]) -> str:
    """The words joined as in Chinese: 一、二和三."""
    *others, last = (str(word) for word in words or [""])
    blank = " " if last.isascii() else ""
    return f"{'、'.join(others)}{blank}和{blank}{last}" if others else last

"""Each sentence of schedule_text, read back into times, means what the expression means: no sentence is wrong."""

from __future__ import annotations

import calendar
import re
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstore.language import schedule_text as module
from jobstore.language.errors import InvalidParameter
from jobstore.language.instants import instant_us
from jobstore.language.schedule import next_cron_us
from jobstore.language.schedule_text import schedule_text
from tests.property.test_schedule import is_taken

# --- readers of the sentences: text -> does it name this wall time? --------------------------------

WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
MONTHS = list(calendar.month_name)
NTH = ["last", "first", "second", "third", "fourth", "fifth"]


def within(first: int, value: int, last: int) -> bool:
    return first <= value <= last if first <= last else value >= first or value <= last


def items(text: str) -> list[str]:
    return re.split(r", and | and |, |、| 和 |和", text)


def nth_of(wall: datetime, nth: int) -> bool:
    last = calendar.monthrange(wall.year, wall.month)[1]
    return wall.day + 7 > last if nth == 0 else (wall.day + 6) // 7 == nth


def weekday(wall: datetime) -> int:
    return wall.isoweekday() % 7


def english_time(text: str, wall: datetime) -> bool:
    clock = f"{wall:%H:%M}"
    if between := re.fullmatch(r"(.+), between (\d\d):00 and (\d\d):59", text):
        return within(int(between[2]), wall.hour, int(between[3])) and english_time(between[1], wall)
    if every := re.fullmatch(r"(?:(.+), e|E)very(?: (\d+))? hours?", text):
        return wall.hour % int(every[2] or 1) == 0 and (
            wall.minute == 0 if every[1] is None else english_time(every[1], wall)
        )
    if minutes := re.fullmatch(r"Every(?: (\d+))? minutes?", text):
        return wall.minute % int(minutes[1] or 1) == 0
    if span := re.fullmatch(r"Minutes (\d+) through (\d+) past the hour", text):
        return int(span[1]) <= wall.minute <= int(span[2])
    if past := re.fullmatch(r"At (.+) minutes? past the hour", text):
        return str(wall.minute) in items(past[1])
    at = re.fullmatch(r"At (.+)", text)
    assert at, text
    assert all(re.fullmatch(r"\d\d:\d\d", item) for item in items(at[1])), text
    return clock in items(at[1])


def english_date(text: str, wall: datetime) -> bool:  # noqa: PLR0911 - one for each form
    if span := re.fullmatch(r"between day (\d+) and (\d+) of the month", text):
        return int(span[1]) <= wall.day <= int(span[2])
    if days := re.fullmatch(r"on day (.+) of the month", text):
        return str(wall.day) in items(days[1])
    if nth := re.fullmatch(r"on the (\w+) (\w+) of the month", text):
        if nth[2] == "day":
            return wall.day == calendar.monthrange(wall.year, wall.month)[1]
        return weekday(wall) == WEEKDAYS.index(nth[2]) and nth_of(wall, NTH.index(nth[1]))
    if months := re.fullmatch(r"only in (.+)", text):
        assert set(items(months[1])) <= set(MONTHS), text
        return MONTHS[wall.month] in items(months[1])
    if days := re.fullmatch(r"(?:or|only) on (.+)", text):
        assert set(items(days[1])) <= set(WEEKDAYS), text
        return WEEKDAYS[weekday(wall)] in items(days[1])
    first, last = text.split(" through ")
    if first in MONTHS:
        return within(MONTHS.index(first), wall.month, MONTHS.index(last))
    return within(WEEKDAYS.index(first), weekday(wall), WEEKDAYS.index(last))


ENGLISH_DATE = re.compile(
    r", (?=on day|on the|between day|only in|only on|or on|(?:\w+day|{}) through)".format("|".join(MONTHS[1:]))
)


def english(text: str, wall: datetime) -> bool:
    time, *dates = ENGLISH_DATE.split(text)
    either = [date for date in dates if date.startswith("or on")]
    if either:
        assert len(dates) == 2, text
        return english_time(time, wall) and any(english_date(date, wall) for date in dates)
    return english_time(time, wall) and all(english_date(date, wall) for date in dates)


CHINESE_DAYS = "日一二三四五六"
CHINESE_NTH = ["最后一个", "第一个", "第二个", "第三个", "第四个", "第五个"]


def chinese_minutes(text: str, wall: datetime) -> bool:
    if step := re.fullmatch(r"每(?: (\d+) )?分钟", text):
        return wall.minute % int(step[1] or 1) == 0
    if text in ("每小时", "每小时整点", ""):
        return wall.minute == 0
    which = re.fullmatch(r"(?:每小时的|，)第 (.+) 分", text)
    assert which, text
    if "至" in which[1]:
        first, last = which[1].split(" 至 ")
        return int(first) <= wall.minute <= int(last)
    return str(wall.minute) in items(which[1])


def chinese_time(text: str, wall: datetime) -> bool:
    if hours := re.match(r"(\d\d):00 至 (\d\d):59 ", text):
        return within(int(hours[1]), wall.hour, int(hours[2])) and chinese_minutes(text[hours.end() :], wall)
    if step := re.match(r"每 (\d+) 小时", text):
        return wall.hour % int(step[1]) == 0 and chinese_minutes(text[step.end() :], wall)
    if re.fullmatch(r"\d\d:\d\d(.*\d\d:\d\d)?", text):
        return f"{wall:%H:%M}" in items(text)
    return chinese_minutes(text, wall)


def chinese_date(text: str, wall: datetime) -> bool:  # noqa: PLR0911 - one for each form
    if "或每" in text:
        return any(chinese_date(date, wall) for date in text.split("或"))
    if months := re.match(r"每年 (\d+) 月至 (\d+) 月的", text):
        return within(int(months[1]), wall.month, int(months[2])) and chinese_date(text[months.end() :], wall)
    if months := re.match(r"每年 (.+?) 月的", text):
        return str(wall.month) in items(months[1]) and chinese_date(text[months.end() :], wall)
    text = text.removeprefix("每月").removeprefix("的").strip()
    if text == "每天":
        return True
    if text == "最后一天":
        return wall.day == calendar.monthrange(wall.year, wall.month)[1]
    if span := re.fullmatch(r"(\d+) 日至 (\d+) 日", text):
        return int(span[1]) <= wall.day <= int(span[2])
    if days := re.fullmatch(r"([\d、和 ]+) 日", text):
        return str(wall.day) in items(days[1])
    if nth := re.fullmatch(r"(第.个|最后一个)周(.)", text):
        return weekday(wall) == CHINESE_DAYS.index(nth[2]) and nth_of(wall, CHINESE_NTH.index(nth[1]))
    if span := re.fullmatch(r"每周(.)至周(.)", text):
        return within(CHINESE_DAYS.index(span[1]), weekday(wall), CHINESE_DAYS.index(span[2]))
    names = items(text.removeprefix("每"))
    assert all(re.fullmatch("周[日一二三四五六]", name) for name in names), text
    return f"周{CHINESE_DAYS[weekday(wall)]}" in names


def chinese(text: str, wall: datetime) -> bool:
    date, comma, time = text.partition("，")
    if not comma or "第" in date.partition(" 小时")[2] or re.match(r"每 \d+ 小时$", date):
        date, comma, time = "", "", text
        if clock := re.fullmatch(r"(.*[^\d 、和]) ((?:\d\d:\d\d(?:、| 和 )?)+)", text):
            date, time = clock[1], clock[2]
    return chinese_time(time, wall) and (not date or chinese_date(date, wall))


READERS = {"en": english, "zh": chinese}

# --- against what the expression means ---------------------------------------------------------------

COMMON = [
    *("* * * * *", "*/5 * * * *", "*/7 * * * *", "1 * * * *", "5,35 * * * *", "0-10 * * * *", "5/10 * * * *"),
    *("0 */2 * * *", "30 */2 * * *", "0 */5 * * *", "*/15 9-17 * * mon-fri", "0 9-17 * * 1-5", "0 3 * * *"),
    *("0 3,15 * * *", "0 1-3 * * *", "0,30 3,15 * * *", "*/10 9-9 * * *", "0 22-6 * * *", "*/20 22-6 * * 1-5"),
    *("0 0 1,15 * *", "0 0 */2 * *", "0 0 */2 * 1", "0 0 13 * 5", "0 0 1-7 * 1", "0 0 1 * 1-5", "0 0 L * 5"),
    *("0 0 1 */3 *", "0 0 * * 7", "0 0 * * fri-mon", "0 0 * * 5#2", "0 0 * 3 5#2", "0 0 * * L5", "0 0 15W * *"),
    *("0 0 15 * 1-5,*", "@daily", "@hourly", "@weekly", "@monthly", "@yearly", "0 0 1 jan,feb mon", "0 0 * 11-2 *"),
    *("*/20 */2 * * *", "*/20 9,12 * * *", "10-20 9 * * *", "10-20 9-12 L * *", "23 0-20/2 * * *", "59-59 * 31-31 * *"),
]
minutes = st.sampled_from(["*", "0", "0", "5", "*/5", "*/7", "*/15", "1,31", "0-10", "5-55/10", "50-10", "59"])
hours = st.sampled_from(["*", "*", "3", "0", "*/2", "*/5", "9-17", "22-6", "3,15", "1-3", "9-9", "1-23/2", "*/12"])
days = st.sampled_from(["*", "*", "*", "1", "1,15", "1-7", "*/2", "L", "31", "15W", "28-3", "1-31", "*/10"])
months = st.sampled_from(["*", "*", "*", "1", "jan,jul", "1-3", "*/3", "11-2", "dec-dec"])
weekdays = st.sampled_from(["*", "*", "*", "1-5", "0", "7", "mon,wed,fri", "fri-mon", "*/2", "5#2", "L5", "0-6", "5#5"])
expressions = st.builds("{} {} {} {} {}".format, minutes, hours, days, months, weekdays).filter(is_taken)
BEGIN = datetime(2023, 1, 1)


def fires(expression: str, wall: datetime) -> bool:
    return next_cron_us(expression, "UTC", instant_us(datetime.fromisoformat(f"{wall}Z")) - 1) == instant_us(
        datetime.fromisoformat(f"{wall}Z")
    )


def wrong_walls(expression: str, lang: str, walls: list[datetime]) -> list[datetime]:
    text = schedule_text(expression, lang)
    return (
        [] if text == expression else [wall for wall in walls if READERS[lang](text, wall) != fires(expression, wall)]
    )


def some_walls(expression: str, start: datetime) -> list[datetime]:
    """Times that it names, those beside them, and a day's minutes of another month."""
    found = []
    at_us = instant_us(datetime.fromisoformat(f"{start}Z"))
    for _ in range(20):
        at_us = next_cron_us(expression, "UTC", at_us) or at_us
        found.append(datetime(1970, 1, 1) + timedelta(microseconds=at_us))
    beside = [wall + step for wall in found for step in (timedelta(minutes=-1), timedelta(hours=1), timedelta(days=1))]
    spread = [start + timedelta(minutes=minute * 7, days=minute) for minute in range(50)]
    return found + beside + spread


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("expression", COMMON)
def test_a_common_expression_is_told_right_or_not_at_all(expression, lang):
    assert wrong_walls(expression, lang, some_walls(expression, BEGIN)) == []


@settings(max_examples=200, deadline=None)
@given(expression=expressions, lang=st.sampled_from(["en", "zh"]), day=st.integers(0, 1500))
def test_any_sentence_means_what_the_expression_means(expression, lang, day):
    assert wrong_walls(expression, lang, some_walls(expression, BEGIN + timedelta(days=day))) == []


def test_most_common_expressions_are_told():
    """Else agreement would prove nothing."""
    told = [expression for expression in COMMON if schedule_text(expression) != expression]
    assert len(told) >= len(COMMON) * 3 // 4
    assert not wrong_walls("0 3 * * *", "en", [datetime(2026, 1, 1, 3)])
    assert not english("At 03:00, Monday through Friday", datetime(2026, 1, 3, 3))
    assert not chinese("每周一至周五 03:00", datetime(2026, 1, 3, 3))


@pytest.mark.parametrize(
    ("schedule", "english_text", "chinese_text"),
    [
        ("*/5 * * * *", "Every 5 minutes", "每 5 分钟"),
        ("@daily", "At 00:00", "每天 00:00"),
        ("0 3 * * 1-5", "At 03:00, Monday through Friday", "每周一至周五 03:00"),
        ("0 0 1,15 * *", "At 00:00, on day 1 and 15 of the month", "每月 1 和 15 日 00:00"),
        ("0 0 13 * 5", "At 00:00, on day 13 of the month, or on Friday", "每月 13 日或每周五 00:00"),
        (
            "*/7 * * * *",
            "At 0, 7, 14, 21, 28, 35, 42, 49, and 56 minutes past the hour",
            "每小时的第 0、7、14、21、28、35、42、49 和 56 分",
        ),
        ("0 0 */2 * 1", "0 0 */2 * 1", "0 0 */2 * 1"),
        ("@reboot", "@reboot", "@reboot"),
        ("no schedule", "no schedule", "no schedule"),
        (1, "Every second", "每秒"),
        (90, "Every 90 seconds", "每 90 秒"),
        (60, "Every minute", "每分钟"),
        (3600, "Every hour", "每小时"),
        (172_800, "Every 2 days", "每 2 天"),
        (None, "Set by its scheduler", "由调度器决定"),
    ],
)
def test_a_schedule_reads(schedule, english_text, chinese_text):
    assert schedule_text(schedule) == schedule_text(schedule, lang="en") == english_text
    assert schedule_text(schedule, "zh") == chinese_text


def test_another_language_is_refused():
    with pytest.raises(InvalidParameter, match="lang must be one of en, zh; received 'de'"):
        schedule_text(60, "de")


def test_the_locale_of_the_process_changes_nothing(monkeypatch):
    monkeypatch.setattr(calendar, "day_name", ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"])
    assert schedule_text("7 3 * * 2-5") == "At 03:07, Tuesday through Friday"


def test_importing_the_module_does_not_import_cron_descriptor():
    script = "import sys, jobstore.language.schedule_text; sys.exit('cron_descriptor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0


def test_without_the_translations_of_cron_descriptor_an_expression_stays(monkeypatch):
    def missing() -> None:
        raise FileNotFoundError(2, "No such file or directory", "en_US.mo")

    monkeypatch.setattr(module, "_descriptor", missing)
    assert module._english(module._Shape(*[module._ALL] * 5)) == "* * * * *"

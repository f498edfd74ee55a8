"""next_cron_us against an oracle that walks real minutes, looks at the wall and applies the rule.

The rule, as the specification words it: "a schedule at fixed times (neither its minute nor its hour field
starts with `*`) fires once for each wall time: one that does not exist at the first moment after the gap, one
that comes twice the first time only. Any other schedule fires at each real minute whose wall time matches,
none for the gap."
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstore.language.cron import check_schedule, fires_at_fixed_times
from jobstore.language.instants import MAX_US, MIN_US, instant_datetime, instant_us
from jobstore.language.schedule import next_cron_us, next_interval_us

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = timedelta(minutes=1)
MINUTE_US = 60_000_000
QUARTER = 15


# --- the oracle: a reader of plain expressions, and a walk over real minutes ------------------------

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {name: 1 + n for n, name in enumerate(MONTHS)} | {name: n for n, name in enumerate(WEEKDAYS)}
ALIASES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


class Plain(NamedTuple):
    fields: tuple[frozenset[int], ...]
    either_day: bool
    fixed: bool

    def matches(self, wall: datetime) -> bool:
        minutes, hours, days, months, weekdays = self.fields
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return day or weekday if self.either_day else day and weekday


def number(word: str) -> int:
    return NAMES[word.lower()] if word.lower() in NAMES else int(word)


def part_values(part: str, low: int, high: int) -> set[int]:
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        ends = (low, high)
    elif dash:
        ends = (number(first), number(last))
    else:
        ends = (number(first), high if step else number(first))
    return set(range(ends[0], ends[1] + 1, int(step or 1)))


@lru_cache
def plain(expression: str) -> Plain:
    words = ALIASES.get(expression, expression).split()
    fields = [
        frozenset(value for part in word.split(",") for value in part_values(part, *bounds))
        for word, bounds in zip(words, RANGES, strict=True)
    ]
    fields[4] = frozenset(value % 7 for value in fields[4])
    return Plain(
        tuple(fields),
        either_day=words[2][0] != "*" and words[4][0] != "*",
        fixed=words[0][0] != "*" and words[1][0] != "*",
    )


class Shown(NamedTuple):
    """A real minute: what the wall shows in it, whether it has shown that before, and what it skipped to get there."""

    at_us: int
    wall: datetime
    again: bool
    skipped: tuple[datetime, ...]


@lru_cache
def walls(zone: str, start: datetime, minutes: int) -> tuple[Shown, ...]:
    """Each real minute from start on, with what the wall shows in it."""
    found: list[Shown] = []
    seen: set[datetime] = set()
    at_us = instant_us(start)
    before: datetime | None = None
    for wall in shown(ZoneInfo(zone), start, minutes):
        skipped: list[datetime] = []
        while before is not None and (before := before + MINUTE) < wall:
            skipped.append(before)
        found.append(Shown(at_us, wall, wall in seen, tuple(skipped)))
        seen.add(wall)
        at_us, before = at_us + MINUTE_US, wall
    return tuple(found)


def shown(tz: ZoneInfo, start: datetime, minutes: int) -> Iterator[datetime]:
    """The walls of real minutes: a clock that is as far from UTC at both ends of a quarter is so all through it."""
    for first in range(0, minutes, QUARTER):
        moments = [start + n * MINUTE for n in range(first, min(first + QUARTER, minutes) + 1)]
        ends = [moment.astimezone(tz).replace(tzinfo=None, fold=0) for moment in (moments[0], moments[-1])]
        if ends[1] - ends[0] == moments[-1] - moments[0]:
            yield from (ends[0] + n * MINUTE for n in range(len(moments) - 1))
        else:
            yield from (moment.astimezone(tz).replace(tzinfo=None, fold=0) for moment in moments[:-1])


def fires(expression: str, zone: str, start: datetime, minutes: int) -> list[int]:
    """The instants at which the schedule fires, in a window that starts away from a change of clocks."""
    cron = plain(expression)
    if not cron.fixed:
        return [at_us for at_us, wall, _, _ in walls(zone, start, minutes) if cron.matches(wall)]
    return [
        at_us
        for at_us, wall, again, skipped in walls(zone, start, minutes)
        if (not again and cron.matches(wall)) or (skipped and any(map(cron.matches, skipped)))
    ]


# --- the changes of clocks ---------------------------------------------------------------------------

CHANGES = {
    "Berlin spring": ("Europe/Berlin", "2026-03-29T01:00Z"),
    "Berlin autumn": ("Europe/Berlin", "2026-10-25T01:00Z"),
    "New York spring": ("America/New_York", "2026-03-08T07:00Z"),
    "New York autumn": ("America/New_York", "2026-11-01T06:00Z"),
    "Lord Howe spring, half an hour": ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    "Lord Howe autumn, half an hour": ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    "Sao Paulo, midnight is skipped": ("America/Sao_Paulo", "2018-11-04T03:00Z"),
    "Sao Paulo, the hour before midnight comes twice": ("America/Sao_Paulo", "2018-02-18T02:00Z"),
    "Cairo, midnight is skipped": ("Africa/Cairo", "2026-04-23T22:00Z"),
    "Cairo, the hour before midnight comes twice": ("Africa/Cairo", "2026-10-29T21:00Z"),
    "Apia, a day is skipped": ("Pacific/Apia", "2011-12-30T10:00Z"),
    "Kwajalein, a day is skipped": ("Pacific/Kwajalein", "1993-08-21T12:00Z"),
    "Casey, three hours come twice": ("Antarctica/Casey", "2010-03-04T15:00Z"),
    "UTC, none": ("UTC", "2026-03-29T01:00Z"),
}

EXPRESSIONS = (
    """
* * * * *           | */5 * * * *          | */10 * * * *         | 7-59/15 * * * *    | 0 * * * *
30 * * * *          | 59 * * * *           | 0 */2 * * *          | 30 */3 * * *       | 15 1-3 * * *
0 2 * * *           | 30 2 * * *           | 0 3 * * *            | 0 1 * * *          | 30 1 * * *
59 1 * * *          | 0 0 * * *            | 30 0 * * *           | 30 23 * * *        | 15,45 2 * * *
0-59 2 * * *        | 0-59/7 1-3 * * *     | 5,35 0-23/2 * * *    | */20 2 * * *       | * 2 * * *
* 1 * * *           | *,30 2 * * *         | 30,* 2 * * *         | 30 2 * * sun       | 30 2 29 3 *
30 1 25 10 *        | 30 2 8 3,11 0        | 0 2 1 * 0            | 0 12 * * 1-5       | 45 1,2,3 * * 7
0 0 1 1 *           | 0-59 0-23 * * *      | 0 0-23 * * *         | @hourly            | @daily
@weekly             | @monthly
""".replace("|", "\n")
    .strip()
    .splitlines()
)
TABLE = [expression.strip() for expression in EXPRESSIONS]

LEAD = timedelta(hours=30)
WINDOW_MINUTES = 61 * 60
assert len(TABLE) >= 40


def expected(found: list[int], now_us: int) -> int | None:
    """The first of the ascending instants after now."""
    at = bisect_right(found, now_us)
    return found[at] if at < len(found) else None


def agrees(expression: str, zone: str, start: datetime, found: list[int], now_us: int) -> bool:
    next_us = next_cron_us(expression, zone, now_us)
    wanted = expected(found, now_us)
    if wanted is None:
        return next_us is None or next_us >= instant_us(start) + WINDOW_MINUTES * MINUTE_US
    return next_us == wanted


def moments(change_us: int, found: list[int], first: int) -> list[int]:
    """When to ask: where the answer changes, at half hours, a minute before each, and at each fifth minute from `first` on."""
    minutes = range(change_us - 70 * MINUTE_US, change_us + 130 * MINUTE_US, MINUTE_US)
    edges = {*found, *range(change_us - 60 * MINUTE_US, minutes.stop, 30 * MINUTE_US)}
    edges |= {edge - MINUTE_US for edge in edges}
    return sorted({*minutes[first % 5 :: 5], *edges.intersection(minutes)})


@pytest.mark.parametrize("change", CHANGES)
def test_minute_by_minute_through_a_change_of_clocks(change):
    """Each minute is asked of a fifth of the expressions at least."""
    zone, at = CHANGES[change]
    start = datetime.fromisoformat(at) - LEAD
    wrong = []
    for place, expression in enumerate(TABLE):
        found = fires(expression, zone, start, WINDOW_MINUTES)
        for now_us in moments(instant_us(datetime.fromisoformat(at)), found, place):
            if not agrees(expression, zone, start, found, now_us):
                wrong.append(f"{expression}: {instant_datetime(now_us).isoformat()}")
    assert wrong == []


def test_the_oracle_itself_sees_the_changes():
    """Else agreement would prove nothing: the days of the change are 23, 25 and 24 hours long."""
    for change, hours in (("Berlin spring", 23), ("Berlin autumn", 25), ("UTC, none", 24)):
        zone, at = CHANGES[change]
        day = datetime.fromisoformat(at).replace(hour=0, tzinfo=None)
        start = day.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        of_the_day = [each.wall for each in walls(zone, start, 26 * 60) if each.wall.date() == day.date()]
        assert len(of_the_day) == hours * 60
        assert len(fires("30 2 * * *", zone, start, 23 * 60)) == 1


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "UTC, none"])
def test_each_change_in_the_table_is_one(change):
    zone, at = CHANGES[change]
    moment = datetime.fromisoformat(at).astimezone(ZoneInfo(zone))
    before = (datetime.fromisoformat(at) - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
    assert moment.utcoffset() != before.utcoffset()


# --- random expressions ------------------------------------------------------------------------------


def parts(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    spans = st.tuples(numbers, numbers).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: f"{ends[0]}-{ends[1]}")
    steps = st.integers(1, high).map(lambda step: f"/{step}")
    return st.one_of(
        st.just("*"), numbers.map(str), spans, st.builds("{}{}".format, st.one_of(st.just("*"), spans, numbers), steps)
    )


def field(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(parts(low, high), min_size=1, max_size=3).map(",".join)


def is_taken(expression: str) -> bool:
    try:
        check_schedule(expression)
    except ValueError:
        return False
    return True


any_day = st.one_of(st.just("*"), field(1, 31))
times = st.tuples(field(0, 59), st.one_of(st.just("*"), st.sampled_from(["2", "1-3", "0,1,2,3,23"]), field(0, 23)))
plain_expressions = st.builds(
    "{0[0]} {0[1]} {1} {2} {3}".format,
    times,
    st.one_of(st.just("*"), parts(1, 31)),
    st.one_of(st.just("*"), parts(1, 12)),
    st.one_of(st.just("*"), parts(0, 6)),
).filter(is_taken)


@settings(max_examples=400, deadline=None)
@given(expression=plain_expressions, change=st.sampled_from(sorted(CHANGES)), late_us=st.integers(-3 * 3600, 5 * 3600))
def test_any_plain_expression_agrees_with_the_walk_around_a_change(expression, change, late_us):
    zone, at = CHANGES[change]
    start = datetime.fromisoformat(at) - LEAD
    found = fires(expression, zone, start, WINDOW_MINUTES)
    second_us = instant_us(datetime.fromisoformat(at)) + late_us * 1_000_000
    for now_us in (second_us - 1, second_us, second_us + 1):
        assert agrees(expression, zone, start, found, now_us), instant_datetime(now_us).isoformat()


@settings(max_examples=150, deadline=None)
@given(
    expression=plain_expressions,
    zone=st.sampled_from(sorted(available_timezones() - {"localtime"})),
    start=st.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_any_zone_at_any_time_agrees_with_the_walk(expression, zone, start):
    start = start.replace(second=0, microsecond=0)
    # The walk begins earlier: in an hour that comes twice, it has to know what was shown before.
    found = fires(expression, zone, start - LEAD, WINDOW_MINUTES + LEAD // timedelta(minutes=1))
    now_us = instant_us(start) + 1
    assert agrees(expression, zone, start, found, now_us)


# --- croniter's own extensions, and what holds for every expression ----------------------------------

special_days = st.one_of(any_day, st.sampled_from(["L", "15W", "1w", "L,15", "31", "29", "?"]))
special_weekdays = st.one_of(
    st.just("*"), field(0, 7), st.sampled_from(["fri#2", "5#5", "L5", "sun-sat", "1#1,3#3", "?"])
)
every_expression = st.builds(
    "{} {} {} {} {}".format, field(0, 59), field(0, 23), special_days, field(1, 12), special_weekdays
).filter(is_taken)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe", "Pacific/Kiritimati"])
instants = st.integers(MIN_US, MAX_US)
our_time = st.integers(instant_us(datetime(1970, 1, 1, tzinfo=UTC)), instant_us(datetime(2200, 1, 1, tzinfo=UTC)))


@settings(max_examples=200, deadline=None)
@given(day=special_days, weekday=special_weekdays, now_us=our_time)
def test_in_utc_days_are_what_croniter_reads_in_each_field(day, weekday, now_us):
    wall = instant_datetime(now_us).replace(tzinfo=None)
    for expression in (f"5 4 {day} * *", f"5 4 * * {weekday}"):
        if "-" in expression or "/" in expression:
            continue  # croniter reads some ranges differently, see docs/decisions.md
        wanted = croniter(expression, wall).get_next(datetime).replace(tzinfo=UTC)
        assert next_cron_us(expression, "UTC", now_us) == instant_us(wanted)


@settings(max_examples=400, deadline=None)
@given(expression=every_expression, zone=zones, now_us=instants)
def test_the_answer_is_the_first_after_now_in_every_year(expression, zone, now_us):
    next_us = next_cron_us(expression, zone, now_us)
    assert next_cron_us(expression, zone, now_us) == next_us
    if next_us is None:
        assert now_us > instant_us(datetime(9900, 1, 1, tzinfo=UTC))
        return
    assert now_us < next_us <= MAX_US
    assert next_cron_us(expression, zone, next_us - 1) == next_us
    assert next_cron_us(expression, zone, (now_us + next_us) // 2) == next_us
    following = next_cron_us(expression, zone, next_us)
    assert following is None or following > next_us


@settings(max_examples=300)
@given(text=st.text(st.one_of(st.sampled_from("0123456789*,-/#LWHR?@ \t"), st.characters()), max_size=60))
def test_no_text_raises_anything_but_a_refusal(text):
    if is_taken(text):
        assert check_schedule(check_schedule(text)) == check_schedule(text)
        assert fires_at_fixed_times(text) in (True, False)


@given(seconds=st.integers(1, 3_155_760_000), anchor_us=instants, now_us=instants)
def test_an_interval_comes_at_the_smallest_multiple_after_now(seconds, anchor_us, now_us):
    step_us = seconds * 1_000_000
    next_us = next_interval_us(seconds, anchor_us, now_us)
    if next_us is None:
        assert max(now_us, anchor_us) + step_us > MAX_US
        return
    n, rest = divmod(next_us - anchor_us, step_us)
    assert rest == 0
    assert n >= 1
    assert now_us < next_us <= MAX_US
    assert n == 1 or next_us - step_us <= now_us

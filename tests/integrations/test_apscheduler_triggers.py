"""APScheduler's triggers in a store: the same fire times, or an external schedule."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstore
from jobstore.integrations.apscheduler_triggers import Translation, translate, trigger_words
from jobstore.language.instants import instant_text, instant_us
from jobstore.language.schedule import next_cron_us
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

BERLIN, NEW_YORK, SHANGHAI = "Europe/Berlin", "America/New_York", "Asia/Shanghai"
MOMENTS = [
    datetime(2026, 2, 20, 10, 17, 23, 700_000, tzinfo=UTC),
    datetime(2026, 3, 27, 22, 10, 5, 250_000, tzinfo=UTC),  # two days before clocks go forward in Europe
    datetime(2026, 10, 24, 12, 0, 30, 1, tzinfo=UTC),  # the day before they go back
]
BEGINNING = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)


def cron(zone: str = "UTC", **fields: Any) -> Any:
    return CronTrigger(timezone=zone, **fields)


def interval(**options: Any) -> Any:
    return IntervalTrigger(start_date=options.pop("start_date", BEGINNING), timezone="UTC", **options)


def in_pairs(below: int) -> str:
    """0,1,3,4,6,7,...: nothing that a range could shorten."""
    return ",".join(str(value) for value in range(below) if value % 3 < 2 and (value or below != 31))


CRON_FORMS = [
    (cron(minute="*"), "UTC", "* * * * *"),
    (cron(minute="*/5"), "UTC", "*/5 * * * *"),
    (cron(minute="*/7"), "UTC", "*/7 * * * *"),
    (cron(minute=30), "UTC", "30 * * * *"),
    (cron(minute="0,30"), "UTC", "0,30 * * * *"),
    (cron(minute="10-20"), "UTC", "10-20 * * * *"),
    (cron(minute="10-40/10"), "UTC", "10-40/10 * * * *"),
    (cron(minute="5/20"), "UTC", "5-45/20 * * * *"),
    (cron(minute="1,2,3,10,20-22,59"), "UTC", "1-3,10,20-22,59 * * * *"),
    (cron(minute="*/10,*/15"), "UTC", "0,10,15,20,30,40,45,50 * * * *"),
    (cron(hour="*"), "UTC", "0 * * * *"),
    (cron(hour="*/2"), "UTC", "0 */2 * * *"),
    (cron(hour=3), "UTC", "0 3 * * *"),
    (cron(hour="8-18", minute="*/15"), "UTC", "*/15 8-18 * * *"),
    (cron(hour="0,12"), "UTC", "0 0,12 * * *"),
    (cron(day_of_week=0, hour=3), "UTC", "0 3 * * mon"),
    (cron(day_of_week=6, hour=3), "UTC", "0 3 * * sun"),
    (cron(day_of_week="mon-fri", hour=9), "UTC", "0 9 * * mon-fri"),
    (cron(day_of_week="sat,sun", hour=9), "UTC", "0 9 * * sun,sat"),
    (cron(day_of_week="fri-sun", hour=9), "UTC", "0 9 * * sun,fri,sat"),
    (cron(day_of_week="*/2"), "UTC", "0 0 * * sun,mon,wed,fri"),
    (cron(day_of_week="0-6", hour=4), "UTC", "0 4 * * *"),
    (cron(day=1), "UTC", "0 0 1 * *"),
    (cron(day=31), "UTC", "0 0 31 * *"),
    (cron(day="1,15", hour=6, minute=30), "UTC", "30 6 1,15 * *"),
    (cron(day="*/10"), "UTC", "0 0 */10 * *"),
    (cron(day="*/2", day_of_week="mon"), "UTC", "0 0 */2 * mon"),  # cron joins by AND, too, where a field begins with *
    (cron(day="last"), "UTC", "0 0 L * *"),
    (cron(day="15,last", hour=5), "UTC", "0 5 15,L * *"),
    (cron(day="1st mon"), "UTC", "0 0 * * mon#1"),
    (cron(day="3rd fri", hour=18), "UTC", "0 18 * * fri#3"),
    (cron(day="last sun", hour=1), "UTC", "0 1 * * L0"),
    (cron(day="5th wed"), "UTC", "0 0 * * wed#5"),
    (cron(day="1st mon,3rd mon"), "UTC", "0 0 * * mon#1,mon#3"),
    (cron(month=6), "UTC", "0 0 1 6 *"),
    (cron(month="jan-mar", day="*", hour=2), "UTC", "0 2 * 1-3 *"),
    (cron(month="*/3", day=1), "UTC", "0 0 1 */3 *"),
    (cron(month=2, day=29), "UTC", "0 0 29 2 *"),
    (cron(week="*", day_of_week="tue", hour=7), "UTC", "0 7 * * tue"),
    (cron(minute=15, jitter=0), "UTC", "15 * * * *"),
    (cron(minute=15, start_date=BEGINNING), "UTC", "15 * * * *"),
    (CronTrigger.from_crontab("0 9 * * mon", timezone="UTC"), "UTC", "0 9 * * mon"),
    (CronTrigger.from_crontab("0 9 * * 1", timezone="UTC"), "UTC", "0 9 * * tue"),  # as APScheduler reads it
    (cron(hour=3, zone="Etc/UTC"), "UTC", "0 3 * * *"),
    (CronTrigger(hour=3, timezone=UTC), "Etc/UTC", "0 3 * * *"),
    (cron(BERLIN, hour=4, minute=30), BERLIN, "30 4 * * *"),
    (cron(BERLIN, minute="*/20"), BERLIN, "*/20 * * * *"),
    (cron(BERLIN, hour="*"), BERLIN, "0 * * * *"),
    (cron(BERLIN, hour="6-22/4"), BERLIN, "0 6-22/4 * * *"),
    (cron(NEW_YORK, day_of_week="mon-fri", hour="9-16", minute="*/5"), NEW_YORK, "*/5 9-16 * * mon-fri"),
    (cron(SHANGHAI, hour=0), SHANGHAI, "0 0 * * *"),
]
INTERVAL_FORMS = [
    (interval(seconds=1), 1),
    (interval(seconds=45), 45),
    (interval(minutes=7), 420),
    (interval(hours=1), 3600),
    (interval(days=1), 86_400),
    (interval(weeks=2), 1_209_600),
    (interval(hours=1, minutes=30, seconds=15), 5415),
    (interval(seconds=90, start_date=datetime(2025, 12, 31, 23, 59, 59, 123_456, tzinfo=UTC)), 90),
    (interval(minutes=10, start_date=datetime(2027, 5, 1, 12, 0, 3, tzinfo=UTC)), 600),  # not begun yet
    (interval(minutes=10, jitter=0), 600),
    (IntervalTrigger(hours=24, start_date="2026-01-01 02:30:00", timezone=BERLIN), 86_400),  # real hours
    (IntervalTrigger(timezone="UTC"), 1),  # APScheduler's smallest
]
EXTERNAL_FORMS = [
    (cron(year=2027), "UTC", "year"),
    (cron(year="2026-2028", month=3), "UTC", "year"),
    (cron(week="*/2", day_of_week="mon"), "UTC", "week"),
    (cron(week=53), "UTC", "week"),
    (cron(second="*/10"), "UTC", "seconds"),
    (cron(minute="*", second=30), "UTC", "seconds"),
    (CronTrigger(timezone="UTC"), "UTC", "seconds"),
    (cron(minute=5, jitter=120), "UTC", "at random"),
    (cron(hour=5, end_date=datetime(2030, 1, 1, tzinfo=UTC)), "UTC", "it ends"),
    (cron(hour=5, start_date=datetime(2029, 1, 1, tzinfo=UTC)), "UTC", "start date is in the future"),
    (cron(day="1-7", day_of_week="mon"), "UTC", "AND"),
    (cron(day="last", day_of_week="fri"), "UTC", "AND"),
    (cron(day="1st mon", day_of_week="mon"), "UTC", "AND"),
    (cron(day="1,2nd tue"), "UTC", "2nd tue"),
    (cron(BERLIN, hour=3), "UTC", "time zone Europe/Berlin"),
    (cron(hour=3), BERLIN, "time zone UTC"),
    (CronTrigger(hour=3, timezone=timezone(timedelta(hours=8))), SHANGHAI, "time zone"),
    (cron(BERLIN, hour=2, minute=30), BERLIN, "clock change"),
    (cron(BERLIN, hour="*/2"), BERLIN, "clock change"),
    (cron(BERLIN, hour=0), BERLIN, "clock change"),  # it misses a Monday in spring
    (cron(BERLIN, hour="*", day_of_week="mon"), BERLIN, "clock change"),
    (cron("Pacific/Chatham", minute=50), "Pacific/Chatham", "clock change"),
    (cron(minute=in_pairs(60), hour=in_pairs(24), day=in_pairs(31)), "UTC", "at most 200 characters"),
    (interval(seconds=0.5), "UTC", "whole number of seconds"),
    (interval(seconds=1, minutes=0.001), "UTC", "whole number of seconds"),
    (interval(seconds=10, jitter=3), "UTC", "at random"),
    (interval(hours=1, end_date=datetime(2030, 1, 1, tzinfo=UTC)), "UTC", "it ends"),
    (interval(weeks=52 * 200), "UTC", "3155760000"),
    (interval(days=400, start_date=datetime(1, 6, 1, tzinfo=UTC)), "UTC", "before the year 1"),
    (DateTrigger(datetime(2028, 1, 1, tzinfo=UTC)), "UTC", "no cron expression"),
    (AndTrigger([cron(hour=3), cron(day_of_week="mon")]), "UTC", "no cron expression"),
    (OrTrigger([cron(hour=3), cron(hour=5, minute=10)]), "UTC", "no cron expression"),
    (CalendarIntervalTrigger(months=1, hour=4, start_date=date(2026, 1, 31), timezone="UTC"), "UTC", "no cron expression"),
]  # fmt: skip


def fire_times(trigger: Any, now: datetime, count: int = 10) -> list[str | None]:
    """What APScheduler would do, punctual to the microsecond."""
    found: list[str | None] = []
    previous = None
    while len(found) < count:
        previous = trigger.get_next_fire_time(previous, now if previous is None else previous)
        if previous is None:
            break
        found.append(instant_text(instant_us(previous)))
    return found


def next_run_times(path: Path, now: datetime, count: int = 10) -> list[str]:
    """What a reader of the store is told, each time at the moment of the run before."""
    found, moment = [], now
    with jobstore.open(path, clock=lambda: moment) as store:
        for _ in range(count):
            text = store.get_job("job")["next_run_at"] or "never"
            found.append(text)
            moment = datetime.fromisoformat(text)
    return found


def write(path: Path, zone: str, translation: Translation) -> None:
    with jobstore.Recorder(path, timezone=zone) as recorder:
        recorder.save_job(
            "job",
            job_type="apscheduler",
            job_category="scheduled",
            schedule=translation.schedule,
            interval_seconds=translation.interval_seconds,
            anchor_at=translation.anchor_at,
        )


def test_the_table_has_more_than_forty_forms():
    assert len(CRON_FORMS) + len(INTERVAL_FORMS) + len(EXTERNAL_FORMS) >= 90


@pytest.mark.parametrize(("trigger", "zone", "expression"), CRON_FORMS, ids=str)
def test_a_cron_trigger_has_an_expression_with_the_same_fire_times(tmp_path, trigger, zone, expression):
    translation = translate(trigger, zone, now=MOMENTS[0])
    assert translation == Translation(schedule=expression)
    write(tmp_path / "jobs.db", zone, translation)
    for now in MOMENTS:
        expected = fire_times(trigger, now.astimezone(ZoneInfo(zone)))
        assert len(expected) == 10
        assert next_run_times(tmp_path / "jobs.db", now) == expected


@pytest.mark.parametrize(("trigger", "seconds"), INTERVAL_FORMS, ids=str)
def test_an_interval_trigger_keeps_its_grid(tmp_path, trigger, seconds):
    for position, now in enumerate(MOMENTS):
        translation = translate(trigger, "UTC", now=now)
        assert (translation.interval_seconds, translation.reason) == (seconds, None)
        path = tmp_path / f"{position}.db"
        write(path, "UTC", translation)
        assert next_run_times(path, now) == fire_times(trigger, now)


@pytest.mark.parametrize(("trigger", "zone", "reason"), EXTERNAL_FORMS, ids=str)
def test_what_cron_cannot_say_is_external_with_its_reason(trigger, zone, reason):
    translation = translate(trigger, zone, now=MOMENTS[0])
    assert translation.external
    assert (translation.schedule, translation.interval_seconds, translation.anchor_at) == (None, None, None)
    assert reason in (translation.reason or "")


class Weekly(CronTrigger):  # type: ignore[misc]
    """A trigger of somebody's own, which may do as it likes."""


def test_a_trigger_class_that_is_not_known_is_external():
    assert translate(Weekly(day_of_week="mon", timezone="UTC"), "UTC", now=MOMENTS[0]).external


def test_a_cron_trigger_that_begins_later_is_external_until_then():
    begins = datetime(2026, 6, 1, tzinfo=UTC)
    trigger = cron(hour=3, start_date=begins)
    assert translate(trigger, "UTC", now=begins - timedelta(seconds=1)).external
    assert translate(trigger, "UTC", now=begins).schedule == "0 3 * * *"


def test_a_next_run_that_was_set_by_hand_moves_the_grid_of_an_interval():
    by_hand = datetime(2026, 2, 20, 11, 0, 1, tzinfo=UTC)
    translation = translate(interval(minutes=10), "UTC", now=MOMENTS[0], next_run_time=by_hand)
    assert translation.anchor_at == by_hand - timedelta(minutes=10)


def test_a_next_run_that_was_set_by_hand_makes_a_cron_job_external_until_it_is_over():
    trigger = cron(hour=3)
    by_hand = MOMENTS[0] + timedelta(days=3)
    assert "set independently" in (translate(trigger, "UTC", now=MOMENTS[0], next_run_time=by_hand).reason or "")
    assert translate(trigger, "UTC", now=by_hand, next_run_time=by_hand).schedule == "0 3 * * *"


def test_the_words_of_a_trigger_name_all_its_options_and_are_bounded():
    words = trigger_words(cron(BERLIN, day="last", hour=3, jitter=5, end_date=datetime(2030, 1, 1, tzinfo=UTC)))
    assert all(word in words for word in ("day='last'", "hour='3'", "jitter=5", "2030-01-01", BERLIN))
    assert len(trigger_words(OrTrigger([cron(hour=3)] * 50))) == 500


ZONES = ["UTC", BERLIN, NEW_YORK, SHANGHAI, "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Asia/Beirut",
         "Africa/Casablanca", "America/Santiago", "Antarctica/Troll", "Pacific/Chatham", "Europe/Dublin"]  # fmt: skip


def field(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.integers(2, (high - low) // 2).map("*/{}".format),
        st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}"),
        st.lists(one, min_size=2, max_size=5).map(lambda values: ",".join(map(str, values))),
    )


days: st.SearchStrategy[dict[str, str]] = st.one_of(
    field(1, 31).map(lambda text: {"day": text}),
    st.sampled_from(["last", "1st mon", "last fri", "5th sun", "last,15"]).map(lambda text: {"day": text}),
    field(0, 6).map(lambda text: {"day_of_week": text}),
    st.just({}),
)


changes = st.sampled_from(
    ["2026-02-13", "2026-03-08", "2026-03-22", "2026-03-29", "2026-04-05", "2026-04-24", "2026-09-06", "2026-09-27",
     "2026-10-04", "2026-10-25", "2026-10-29", "2026-11-01", "2027-03-14", "2027-10-31"]
).map(lambda day: datetime.fromisoformat(f"{day}T12:00:00+00:00"))  # fmt: skip
moments = st.builds(
    lambda moment, seconds: moment + timedelta(seconds=seconds, microseconds=500),
    st.one_of(changes, st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))),
    st.integers(-60 * 3600, 6 * 3600),
)


@settings(max_examples=scaled(150), deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    times=st.fixed_dictionaries({"minute": field(0, 59), "hour": field(0, 23)}),
    days=days,
    months=st.one_of(st.just({}), field(1, 12).map(lambda text: {"month": text})),
    now=moments,
)
def test_an_expression_fires_when_apscheduler_does_around_every_clock_change(zone, times, days, months, now):
    trigger = CronTrigger(timezone=zone, **times, **days, **months)
    now = now.replace(microsecond=500)
    translation = translate(trigger, zone, now=now)
    if translation.external:
        return
    expected = fire_times(trigger, now.astimezone(ZoneInfo(zone)), 40)
    found, at_us = [], instant_us(now)
    for _ in expected:
        at_us = next_cron_us(translation.schedule or "", zone, at_us) or 0
        found.append(instant_text(at_us))
    assert found == expected

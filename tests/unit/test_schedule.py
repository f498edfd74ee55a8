"""What a schedule may be, and when it comes next: tables of hand-computed answers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from jobstore.language.cron import ALIASES, check_schedule, fires_at_fixed_times
from jobstore.language.errors import InvalidRecord, InvalidSchedule, shown
from jobstore.language.fields import checked_interval
from jobstore.language.instants import MAX_US, MIN_US, instant_text, instant_us
from jobstore.language.schedule import next_cron_us, next_interval_us
from jobstore.language.zones import check_timezone

SECOND = 1_000_000


def us(text: str) -> int:
    return instant_us(datetime.fromisoformat(text))


def next_text(expression: str, zone: str, now: str) -> str | None:
    return instant_text(next_cron_us(expression, zone, us(now)))


# --- what may be written -----------------------------------------------------------------------------

TAKEN = [
    "* * * * *",
    "0 * * * *",
    "*/5 9-17 * * mon-fri",
    "0 0 * * SUN",
    "0 0 * * 7",
    "0 0 1 JAN,jul *",
    "0 0 L * *",
    "0 0 * * fri#2",
    "0 0 * * L5",
    "0 0 15W * *",
    "0 0 ? * 1",
    "0 0 29 2 *",
    "0 0 30 2 1",
    "50-10 * * * *",
    "0\t0  * *\t*",
    "@hourly",
    "@DAILY",
    "0 0 * mar thu",  # an h and an r inside names are no H and R
    "0 " + ",".join(["0"] * 95) + " * * *",
]


@pytest.mark.parametrize("expression", TAKEN)
def test_a_good_expression_is_stored_as_it_came(expression):
    assert check_schedule(expression) == expression
    assert next_cron_us(expression, "UTC", 0) is not None


@pytest.mark.parametrize("blanks", [" ", "\t", "\n", "\r\n", "  \f\v"])
def test_blanks_around_an_expression_are_not_stored(blanks):
    assert check_schedule(f"{blanks}0 0 * * *{blanks}") == "0 0 * * *"
    assert check_schedule(f"{blanks}@daily{blanks}") == "@daily"


def test_the_longest_expression_has_200_characters():
    longest = "0," * 96 + "0 * * * "
    assert check_schedule(longest[2:] + "* ") == longest[2:] + "*"
    assert len("0" * 192 + " * * * *") == 200
    assert check_schedule("0" * 192 + " * * * *")
    with pytest.raises(InvalidSchedule, match="at most 200 characters; received 201"):
        check_schedule("0" * 193 + " * * * *")


REFUSED = [
    (None, "must be text.* received None"),
    (5, "must be text.* received 5"),
    (b"* * * * *", "must be text.* type bytes"),
    (["* * * * *"], "must be text.* type list"),
    ("", "has 0 fields; write five"),
    (" \t\n", "has 0 fields; write five"),
    ("* * * *", "has 4 fields; write five"),
    ("* * * * * *", "has 6 fields; write five.*no seconds"),
    ("0 0 1 1 * 0 2030", "has 7 fields; write five.*no years"),
    ("0 0 * * * root /bin/true", "has 7 fields"),
    ("@reboot", "not a known alias; use @hourly"),
    ("@every 5m", "not a known alias"),
    ("@", "not a known alias"),
    ("@daily 5", "not a known alias"),
    ("H * * * *", "uses H or R"),
    ("h * * * *", "uses H or R"),
    ("0 H(0-7) * * *", "uses H or R"),
    ("H/15 * * * *", "uses H or R"),
    ("1,H * * * *", "uses H or R"),
    ("1-H * * * *", "uses H or R"),
    ("0 0 R * *", "uses H or R"),
    ("0 0 * * R/2", "uses H or R"),
    ("60 * * * *", "bad minute field '60'; use 0-59"),
    ("-1 * * * *", "bad minute field '-1'"),
    ("+5 * * * *", r"bad minute field '\+5'"),
    ("1_0 * * * *", "bad minute field '1_0'"),
    ("*/0 * * * *", r"bad minute field '\*/0'"),
    ("*/ * * * *", "bad minute field"),
    ("5,,6 * * * *", "bad minute field"),
    ("? * * * *", "bad minute field"),
    ("0 24 * * *", "bad hour field '24'; use 0-23"),
    ("0 1.5 * * *", "bad hour field '1.5'"),
    ("0 0 0 * *", "bad day field '0'"),
    ("0 0 32 * *", "bad day field '32'; use 1-31 or L"),
    ("0 0 15W,3 * *", "bad day field '15W,3'"),
    ("0 0 * 0 *", "bad month field '0'"),
    ("0 0 * 13 *", "bad month field '13'"),
    ("0 0 * mai *", "bad month field 'mai'; use 1-12 or jan-dec"),
    ("0 0 * * 8", "bad weekday field '8'; use 0-7 or sun-sat"),
    ("0 0 * * mon#6", "bad weekday field 'mon#6'"),
    ("0 0 * * 1,2#1", "bad weekday field '1,2#1'"),
    ("* * * * *\0", "bad weekday field"),
    ("\0* * * * *", "bad minute field"),
    ("% * * * *", "bad minute field"),
    ("１ * * * *", "non-ASCII"),
    ("٣ * * * *", "non-ASCII"),
    ("0\u00a00\u00a0* * *", "non-ASCII"),
    ("0\u30000 * * *", "non-ASCII"),
    ("\ud800 * * * *", "non-ASCII"),
    ("每小时", "non-ASCII"),
    ("0 0 30 2 *", "never fires"),
    ("0 0 31 4,6,9,11 *", "never fires"),
    ("0 0 31 2 *", "never fires"),
    ("0 0 30-31 feb ?", "never fires"),
    ("0 0 30 2 */2", "never fires"),
    ("0 0 */31 2 8", "bad weekday field '8'"),
    ("0 0 * 2 1#5,2#5", None),  # in leap years it does
    ("9" * 201 + " * * * *", "at most 200 characters"),
    ("0-59/1," * 30_000 + "0 * * * *", "at most 200 characters; received 210009"),
]


@pytest.mark.parametrize(("expression", "reason"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_a_refusal_says_why(expression, reason):
    if reason is None:
        assert check_schedule(expression)
        return
    for _ in range(2):  # the second answer is remembered
        with pytest.raises(InvalidSchedule, match=f"^schedule .*{reason}") as refusal:
            check_schedule(expression)
        assert len(refusal.value.message) < 300
        refusal.value.message.encode()
    with pytest.raises(InvalidSchedule):
        next_cron_us(expression, "UTC", 0)


def test_a_refused_expression_costs_its_price_once():
    dear = "0 0 31 2,4,6,9,11 *"
    with pytest.raises(InvalidSchedule):
        check_schedule(dear)
    began = time.process_time()
    for _ in range(1000):
        with pytest.raises(InvalidSchedule):
            next_cron_us(dear, "UTC", 0)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("alias", ALIASES)
def test_each_alias_is_what_croniter_takes_it_for(alias):
    assert check_schedule(alias) == alias
    fields = " ".join(croniter(alias).expressions)
    for now in ("2026-01-15T08:30:00Z", "2026-12-31T23:59:59Z"):
        assert next_text(alias, "Europe/Berlin", now) == next_text(fields, "Europe/Berlin", now)


FIXED = {
    "30 2 * * *": True,
    "0-59 0-23 * * *": True,
    "5,* 0 * * *": True,  # the first character decides, as in Debian's cron
    "@daily": True,
    "@midnight": True,
    "@weekly": True,
    " 0 0 1 1 * ": True,
    "0 * * * *": False,
    "* 2 * * *": False,
    "*/10 2 * * *": False,
    "*,5 0 * * *": False,
    "0 */2 * * *": False,
    "@hourly": False,
}


@pytest.mark.parametrize("expression", FIXED)
def test_fixed_times_are_told_from_wildcards_by_the_first_two_fields(expression):
    assert fires_at_fixed_times(expression) is FIXED[expression]


def test_fixed_times_of_a_bad_expression_are_refused():
    with pytest.raises(InvalidSchedule):
        fires_at_fixed_times("@reboot")


@pytest.mark.parametrize("seconds", [1, 60, 86_400, 3_155_760_000])
def test_an_interval_in_range_is_kept(seconds):
    assert checked_interval(seconds) == seconds


NO_INTERVALS = [0, -1, 3_155_760_001, 2**63, 10**5000, True, False, 1.0, "60", "６０", None, [], b"1"]


@pytest.mark.parametrize("seconds", NO_INTERVALS, ids=shown)
def test_any_other_interval_is_refused(seconds):
    rule = r"interval_seconds must be an integer from 1 to 3155760000; received "
    with pytest.raises(InvalidSchedule, match=rule):
        checked_interval(seconds)
    with pytest.raises(InvalidSchedule, match=rule):
        next_interval_us(seconds, 0, 0)


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Shanghai"]
)
def test_an_iana_zone_is_kept(name):
    assert check_timezone(name) == name


NO_ZONES = [
    *("", "Berlin", "America", "../UTC", "/etc/localtime", ".", "zone.tab", "+08:00", "UTC ", "UTC\0", "\ud800"),
    *("localtime", "posixrules", "Factory", "right/UTC", "posix/UTC", "x" * 5000, None, 8, b"UTC", ["UTC"]),
]


@pytest.mark.parametrize("name", NO_ZONES, ids=lambda value: ascii(value)[:20])
def test_any_other_zone_is_refused(name):
    with pytest.raises(InvalidRecord, match="timezone must be an IANA name such as 'Europe/Berlin'") as refusal:
        check_timezone(name)
    assert len(refusal.value.message) < 250
    refusal.value.message.encode()


@pytest.mark.parametrize("name", ["europe/berlin", "Berlin", "Europe/Berln"])
def test_a_zone_nearly_right_is_named(name):
    with pytest.raises(InvalidRecord, match=f"received '{name}'; did you mean 'Europe/Berlin'"):
        check_timezone(name)


def test_a_store_whose_zone_this_host_lacks_is_told_so():
    with pytest.raises(InvalidSchedule, match=r"time zone 'Mars/Olympus' .* not known on this host"):
        next_cron_us("0 * * * *", "Mars/Olympus", 0)


# --- when it comes next ------------------------------------------------------------------------------

NEXT = [
    # the seed's two jobs
    ("0 * * * *", "UTC", "2026-01-15T08:00:00Z", "2026-01-15T09:00:00Z"),
    ("0 0 * * *", "UTC", "2026-01-15T08:00:00Z", "2026-01-16T00:00:00Z"),
    # strictly after now, to the microsecond
    ("0 * * * *", "UTC", "2026-01-15T08:59:59.999999Z", "2026-01-15T09:00:00Z"),
    ("0 * * * *", "UTC", "2026-01-15T09:00:00Z", "2026-01-15T10:00:00Z"),
    ("0 * * * *", "UTC", "2026-01-15T09:00:00.000001Z", "2026-01-15T10:00:00Z"),
    ("* * * * *", "UTC", "2026-01-15T09:00:59.999999Z", "2026-01-15T09:01:00Z"),
    # a range of one; steps; ranges that run backwards
    ("*/10 9-9 * * *", "UTC", "2026-01-01T00:00:30Z", "2026-01-01T09:00:00Z"),
    ("9-9 9-9 9-9 9-9 *", "UTC", "2026-01-01T00:00:30Z", "2026-09-09T09:09:00Z"),
    ("0 9-9/2 * * *", "UTC", "2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z"),
    ("0 0 * * sun-sun", "UTC", "2026-01-01T00:00:30Z", "2026-01-04T00:00:00Z"),
    ("0 0 * * 7-7", "UTC", "2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"),
    ("0 0 1 jan-jan *", "UTC", "2026-01-01T00:00:30Z", "2027-01-01T00:00:00Z"),
    ("0 0 * * 2-7/3", "UTC", "2026-01-03T00:00:00Z", "2026-01-06T00:00:00Z"),  # Tuesday and Friday, no Sunday
    ("0 0 * * sat-tue/2", "UTC", "2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"),  # Saturday and Monday
    ("0 23-6/2 * * *", "UTC", "2026-01-03T23:00:00Z", "2026-01-04T01:00:00Z"),
    ("59/15 * * * *", "UTC", "2026-01-01T00:00:30Z", "2026-01-01T00:59:00Z"),
    ("*/100 * * * *", "UTC", "2026-01-01T00:00:30Z", "2026-01-01T01:00:00Z"),
    # a day or weekday field that begins with * does not restrict the other
    ("0 0 */2 * 1", "UTC", "2026-01-01T00:00:30Z", "2026-01-05T00:00:00Z"),
    ("0 0 */2 * 1", "UTC", "2026-01-05T00:00:00Z", "2026-01-19T00:00:00Z"),
    ("0 0 1 * */2", "UTC", "2026-01-01T00:00:30Z", "2026-02-01T00:00:00Z"),
    ("0 0 *,5 * 1", "UTC", "2026-01-01T00:00:30Z", "2026-01-05T00:00:00Z"),
    ("0 0 15 * 1-5,*", "UTC", "2026-01-01T00:00:30Z", "2026-01-02T00:00:00Z"),
    ("0 0 1-31 * 1", "UTC", "2026-01-01T00:00:30Z", "2026-01-02T00:00:00Z"),
    ("0 0 ? * 1", "UTC", "2026-01-01T00:00:30Z", "2026-01-05T00:00:00Z"),
    ("0 0 13 * fri#2", "UTC", "2026-01-01T00:00:30Z", "2026-01-09T00:00:00Z"),
    ("0 0 13 * fri#2", "UTC", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"),
    ("0 0 15W * 1", "UTC", "2026-01-12T00:00:00Z", "2026-01-15T00:00:00Z"),
    # days: either
    ("0 0 13 * 5", "UTC", "2026-01-10T00:00:00Z", "2026-01-13T00:00:00Z"),
    ("0 0 13 * 5", "UTC", "2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"),
    ("0 0 30 2 1", "UTC", "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"),
    ("0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"),
    ("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
    ("0 0 * * 5#2", "UTC", "2026-01-15T00:00:00Z", "2026-02-13T00:00:00Z"),
    ("0 0 * * L5", "UTC", "2026-01-15T00:00:00Z", "2026-01-30T00:00:00Z"),
    ("0 0 15W * *", "UTC", "2026-02-01T00:00:00Z", "2026-02-16T00:00:00Z"),
    ("0 0 * * 7", "UTC", "2026-01-15T00:00:00Z", "2026-01-18T00:00:00Z"),
    ("0 0 29 2 *", "UTC", "2026-01-15T00:00:00Z", "2028-02-29T00:00:00Z"),
    ("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
    ("0 0 * 2 1#5", "UTC", "2072-03-01T00:00:00Z", "2112-02-29T00:00:00Z"),  # 40 years, the longest wait there is
    # before 1970, far years
    ("0 0 * * 1", "UTC", "1969-12-31T23:59:59.999999Z", "1970-01-05T00:00:00Z"),
    ("30 * * * *", "UTC", "1969-12-31T23:30:00Z", "1970-01-01T00:30:00Z"),
    ("*/7 * * * *", "UTC", "1904-02-29T23:59:00Z", "1904-03-01T00:00:00Z"),
    ("0 0 29 2 *", "UTC", "1896-03-01T00:00:00Z", "1904-02-29T00:00:00Z"),
    ("0 0 1 1 *", "UTC", "0001-06-01T00:00:00Z", "0002-01-01T00:00:00Z"),
    ("0 0 1 1 *", "Europe/Berlin", "5000-06-01T00:00:00Z", "5000-12-31T23:00:00Z"),
    ("0 3 1 7 *", "Europe/Berlin", "9998-12-01T00:00:00Z", "9999-07-01T01:00:00Z"),
    ("0 0 30 2 1", "UTC", "9997-01-01T00:00:00Z", "9997-02-03T00:00:00Z"),  # croniter alone runs past its calendar
    ("59 23 31 12 *", "UTC", "9999-12-31T23:58:59.999999Z", "9999-12-31T23:59:00Z"),
    ("* * * * *", "UTC", "9999-12-31T23:59:00Z", None),
    ("0 0 1 1 *", "UTC", "9999-01-01T00:00:00Z", None),
    ("0 0 29 2 *", "UTC", "9996-03-01T00:00:00Z", None),
    ("0 23 31 12 *", "America/New_York", "9999-12-31T00:00:00Z", None),  # an instant in the year 10000
    ("0 0 * * *", "Pacific/Kiritimati", "9999-12-31T12:00:00Z", None),  # its wall is in the year 10000 already
    ("0 0 * * *", "America/New_York", "0001-01-01T00:00:00Z", "0001-01-02T04:56:02Z"),  # its wall is in no year yet
    # far from UTC, odd offsets
    ("0 0 * * *", "Pacific/Kiritimati", "2026-01-15T09:59:59Z", "2026-01-15T10:00:00Z"),
    ("0 0 * * *", "Etc/GMT+12", "2026-01-15T11:59:59Z", "2026-01-15T12:00:00Z"),
    ("0 * * * *", "Asia/Kathmandu", "2026-01-15T08:00:00Z", "2026-01-15T08:15:00Z"),
    ("0 9 * * *", "Asia/Shanghai", "2026-01-15T08:00:00Z", "2026-01-16T01:00:00Z"),
    ("0 * * * *", "Europe/Berlin", "1890-01-01T00:00:00Z", "1890-01-01T00:06:32Z"),  # local mean time, 53:28 ahead
    # fixed times: the gap, at its end; several in one gap, once; the doubled hour, once
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
    ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
    ("0,15,30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:59.999999Z", "2026-03-29T01:00:00Z"),
    ("0,15,30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
    ("0-59 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T01:00:00Z"),
    ("0 3 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T02:00:00Z"),
    ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z"),
    ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z"),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z"),
    ("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", "2011-12-30T10:00:00Z"),
    ("0 12 * * *", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"),
    ("5 0 * * *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-03-31T23:06:32Z"),  # a gap of 6:32 at midnight
    # any other schedule: nothing for the gap, each real minute of the doubled hour
    ("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z"),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
    ("*/20 2 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-30T00:00:00Z"),
    ("*/20 2 * * *", "Europe/Berlin", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"),
    ("*/20 2 * * *", "Europe/Berlin", "2026-10-25T01:40:00Z", "2026-10-26T01:00:00Z"),
    ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
    ("@hourly", "America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T06:00:00Z"),
    ("* * * * *", "Pacific/Apia", "2011-12-30T09:59:00Z", "2011-12-30T10:00:00Z"),
    ("45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"),
    # every time it names is a gap: the last Sunday of March, 02:00 to 02:59
    ("* 2 * 3 L0", "Europe/Berlin", "2026-01-15T00:00:00Z", None),
    ("30 2 * 3 L0", "Europe/Berlin", "2026-01-15T00:00:00Z", "2026-03-29T01:00:00Z"),
]


@pytest.mark.parametrize(("expression", "zone", "now", "wanted"), NEXT)
def test_the_next_time_is(expression, zone, now, wanted):
    assert next_text(expression, zone, now) == wanted


@pytest.mark.parametrize("now_us", [MIN_US, MIN_US + 1, MAX_US - 1, MAX_US])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York", "Etc/GMT+12", "Etc/GMT-14"])
@pytest.mark.parametrize("expression", ["* * * * *", "0 0 * * *", "30 2 29 2 *"])
def test_the_ends_of_the_calendar_are_no_error(expression, zone, now_us):
    next_us = next_cron_us(expression, zone, now_us)
    assert (next_us is None) == (now_us > 0)
    assert next_us is None or next_us > now_us


def test_the_same_question_has_the_same_answer_from_many_threads():
    """A croniter holds its position; sharing one would mix the walks of several threads."""
    questions = [("*/7 * * * *", us("2026-01-15T08:00:00Z") + n * 86_400 * SECOND) for n in range(200)]
    wanted = [next_cron_us(expression, "Europe/Berlin", now) for expression, now in questions]
    answers: list[list[int | None]] = []

    def ask() -> None:
        answers.append([next_cron_us(expression, "Europe/Berlin", now) for expression, now in questions])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert answers == [wanted] * 4


INTERVALS = [
    (60, 0, -1, 60),
    (60, 0, 0, 60),
    (60, 0, 59.999999, 60),
    (60, 0, 60, 120),
    (60, 0, 60.000001, 120),
    (60, 0.5, 60, 60.5),
    (3600, 1000, 0, 4600),  # an anchor in the future: n is at least 1
    (7, -100, -50, -44),
    (1, 0, 1e9 + 0.25, 1e9 + 1),
]


@pytest.mark.parametrize(("seconds", "anchor", "now", "wanted"), INTERVALS)
def test_an_interval_comes_next(seconds, anchor, now, wanted):
    assert next_interval_us(seconds, int(anchor * SECOND), int(now * SECOND)) == int(wanted * SECOND)


def test_an_interval_ends_with_the_year_9999():
    assert next_interval_us(1, 0, MAX_US - SECOND) == MAX_US - SECOND + 1
    assert next_interval_us(1, 0, MAX_US) is None
    assert next_interval_us(3_155_760_000, MAX_US, 0) is None


# --- why croniter is not asked about instants ---------------------------------------------------------


def test_croniter_alone_fires_a_fixed_time_twice_in_autumn_and_goes_wrong_in_spring():
    """When this fails, croniter has become right and this package's own step from wall time to instant can go."""
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    again = croniter("30 2 * * *", first).get_next(datetime)
    assert again.date() == first.date()
    spring = croniter("0 */2 * * *", datetime(2026, 3, 29, 0, 30, tzinfo=berlin)).get_next(datetime)
    assert spring.hour == 3


def test_importing_the_module_does_not_import_croniter():
    script = "import sys, jobstore.language.schedule; sys.exit('croniter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0


def test_a_city_of_several_names_gives_the_same_suggestion_in_every_process():
    # The set of known zones has another order in each process.
    for city, zone in (("Indianapolis", "America/Indianapolis"), ("Buenos_Aires", "America/Buenos_Aires")):
        with pytest.raises(InvalidRecord, match=f"did you mean '{zone}'"):
            check_timezone(city)
    with pytest.raises(InvalidRecord, match="did you mean 'US/Eastern'"):
        check_timezone("Eastern")

"""The rule of each kind of value, through text, JSON and Python."""

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import IntEnum, StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobstore.language.errors import InvalidParameter
from jobstore.language.models import EXECUTION_ORDERS, JOB_ORDERS, Status
from jobstore.language.parameters import (
    GET_JOB,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOBS,
    JobRef,
    executions_query,
    from_json,
    from_text,
    job_ref,
    jobs_query,
    stats_query,
)

LARGEST = 2**63 - 1
VAST = pytest.param(10**5000, id="vast")  # more digits than Python prints


def instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


# Integers

BAD_INTEGER_TEXTS = [
    *("", " ", "-1", "+5", "1_000", "1 000", " 5", "5 ", "5\n", "0x10", "1e2", "5.0", "1,000", "ten", "null", "true"),
    *("２０", "٢٠", "²", "①", "9223372036854775808", "18446744073709551616", "1" * 5000, "NaN", "inf", "5\x00"),
]


@pytest.mark.parametrize("text", [*BAD_INTEGER_TEXTS, "0", "000", "1001"])
def test_a_limit_in_text_is_ascii_digits_from_1_to_1000(text):
    with pytest.raises(InvalidParameter, match=r"^limit must be an integer from 1 to 1000; received '"):
        from_text(LIST_JOBS, [("limit", text)])


@pytest.mark.parametrize("text", BAD_INTEGER_TEXTS)
def test_an_offset_in_text_is_ascii_digits_of_63_bits(text):
    with pytest.raises(InvalidParameter, match=r"^offset must be an integer from 0 to 9223372036854775807; received '"):
        from_text(LIST_JOBS, [("offset", text)])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("limit", "1", 1),
        ("limit", "1000", 1000),
        ("limit", "0020", 20),
        ("offset", "0", 0),
        ("offset", "000", 0),
        ("offset", "0" * 300 + "7", 7),
        ("offset", "9223372036854775807", LARGEST),
    ],
)
def test_an_integer_in_text_is_read(name, text, value):
    assert from_text(LIST_JOBS, [(name, text)]) == {name: value}
    assert getattr(jobs_query({name: value}), name) == value


@pytest.mark.parametrize(
    "value", [0, -1, 1001, 2**63, 2**64, -(2**63) - 1, VAST, True, False, 5.0, "5", None, b"5", [5]]
)
def test_a_limit_is_an_int_and_nothing_like_one(value):
    for refuse in (lambda: jobs_query({"limit": value}), lambda: from_json(LIST_JOBS, {"limit": value})):
        with pytest.raises(InvalidParameter, match=r"^limit must be an integer from 1 to 1000; received "):
            refuse()


@pytest.mark.parametrize("value", [-1, 2**63, 2**200, VAST, True, 0.0, "0", None])
def test_an_offset_is_an_int_of_63_bits(value):
    with pytest.raises(InvalidParameter, match=r"^offset must be an integer from 0 to 9223372036854775807; received "):
        executions_query({"offset": value})


def test_an_int_of_a_kind_of_its_own_becomes_a_plain_one():
    class Size(IntEnum):
        SMALL = 10

    assert type(jobs_query({"limit": Size.SMALL}).limit) is int


# Flags


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_flag_in_text_is_one_of_four_words(text, value):
    assert from_text(LIST_JOBS, [("enabled", text)]) == {"enabled": value}


@pytest.mark.parametrize(
    "text", ["", " ", "True", "TRUE", "yes", "no", "on", "off", "2", "01", "１", "t", "true ", "null", "None"]
)
@pytest.mark.parametrize("name", ["order_desc", "enabled"])
def test_any_other_word_is_no_flag(name, text):
    with pytest.raises(InvalidParameter, match=rf"^{name} must be true or false; received '.*'$"):
        from_text(LIST_JOBS, [(name, text)])


@pytest.mark.parametrize("value", [0, 1, "true", "", 1.0, [], object()])
def test_a_flag_is_a_bool_and_nothing_like_one(value):
    for refuse in (lambda: jobs_query({"enabled": value}), lambda: from_json(LIST_JOBS, {"enabled": value})):
        with pytest.raises(InvalidParameter, match=r"^enabled must be true or false; received "):
            refuse()


@pytest.mark.parametrize("value", [True, False, None])
def test_enabled_filters_both_ways_or_not_at_all(value):
    assert jobs_query({"enabled": value}).enabled is value


# Orders


@pytest.mark.parametrize("field", JOB_ORDERS)
def test_jobs_are_ordered_by_every_field_but_parameters(field):
    assert jobs_query(from_text(LIST_JOBS, [("order_by", field)])).order_by == field


@pytest.mark.parametrize("field", EXECUTION_ORDERS)
def test_executions_are_ordered_by_every_field_that_is_no_object(field):
    assert executions_query(from_text(LIST_JOB_EXECUTIONS, [("order_by", field)])).order_by == field


@pytest.mark.parametrize(
    "value", ["", "parameters", "Name", "name ", "-name", "name desc", "name; --", "rowid", "started_at", "x" * 9999]
)
def test_nothing_else_orders_jobs(value):
    for refuse in (lambda: jobs_query({"order_by": value}), lambda: from_text(LIST_JOBS, [("order_by", value)])):
        with pytest.raises(
            InvalidParameter, match=r"^order_by must be one of id, job_type, .*, updated_at; received '"
        ):
            refuse()


@pytest.mark.parametrize("value", [None, 1, ["name"], ("name",), b"name"])
def test_an_order_is_one_word(value):
    with pytest.raises(InvalidParameter, match=r"^order_by must be one of "):
        jobs_query({"order_by": value})


def test_an_order_that_is_nearly_right_is_suggested():
    with pytest.raises(InvalidParameter, match=r"; received 'startedAt'; did you mean 'started_at'\?$"):
        executions_query({"order_by": "startedAt"})


def test_a_word_of_an_enumeration_becomes_plain_text():
    class Order(StrEnum):
        NAME = "id"

    assert type(jobs_query({"order_by": Order.NAME}).order_by) is str
    assert type(jobs_query({"job_type": Order.NAME}).job_type) is str
    assert type(jobs_query({"search": Order.NAME}).needle) is str
    assert type(job_ref(Order.NAME).name) is str


# Search


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        (None, ""),
        ("", ""),
        (" \t\u3000", ""),
        (" ＫLine ", "kline"),
        ("%_\"*'", "%_\"*'"),
        ("x" * 200, "x" * 200),
        (" " * 500 + "x" * 200 + " " * 500, "x" * 200),
        ("ﷺ" * 200, "صلى الله عليه وسلم" * 200),
    ],
)
def test_a_term_is_trimmed_counted_and_folded_in_this_order(given, needle):
    assert jobs_query({"search": given}).needle == executions_query({"search": given}).needle == needle


@pytest.mark.parametrize(
    "given", ["x" * 201, "任" * 201, "a\0b", "\0", "\ud800", "a\udfffb", 5, True, b"kline", ["kline"]]
)
def test_a_term_is_text_of_at_most_200_characters_that_the_file_could_hold(given):
    for refuse in (lambda: jobs_query({"search": given}), lambda: from_json(LIST_JOBS, {"search": given})):
        with pytest.raises(InvalidParameter, match=r"^search must be text of at most 200 characters, .*; received "):
            refuse()


def test_a_term_carries_the_statuses_it_means():
    assert executions_query({"search": "Failed "}).meant == {Status.FAILURE}


def test_an_empty_search_is_no_search_in_text_too():
    assert jobs_query(from_text(LIST_JOBS, [("search", "")])) == jobs_query({})


# Exact filters

EXACT = [(LIST_JOBS, "job_type", 200), (LIST_JOBS, "job_category", 200), (LIST_JOB_EXECUTIONS, "trace_id", 512)]


@pytest.mark.parametrize(("operation", "name", "longest"), EXACT)
def test_an_exact_filter_keeps_every_character(operation, name, longest):
    query = {"list_jobs": jobs_query, "list_job_executions": executions_query}[operation.name]
    for value in ("K", " Kline ", "%", "Ｋ", "任务", "x" * longest):
        assert getattr(query(from_text(operation, [(name, value)])), name) == value
        assert getattr(query(from_json(operation, {name: value})), name) == value


@pytest.mark.parametrize(("operation", "name", "longest"), EXACT)
def test_an_exact_filter_is_bounded_text(operation, name, longest):
    for value in ("", "x" * (longest + 1), "a\0", "\ud800", 5, False, ["kline"]):
        with pytest.raises(
            InvalidParameter, match=rf"^{name} must be text of 1 to {longest} characters, .*; received "
        ):
            from_json(operation, {name: value})


# Statuses


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("FAILURE", {"FAILURE"}),
        (Status.TIMEOUT, {"TIMEOUT"}),
        (["FAILURE"], {"FAILURE"}),
        (("FAILURE", "TIMEOUT"), {"FAILURE", "TIMEOUT"}),
        (["FAILURE", "FAILURE"], {"FAILURE"}),
        ({"PENDING", Status.RUNNING}, {"PENDING", "RUNNING"}),
        (frozenset(Status), set(Status)),
    ],
)
def test_a_status_is_one_name_or_several(given, names):
    statuses = executions_query({"status": given}).statuses
    assert statuses is not None
    assert statuses == names
    assert all(type(status) is Status for status in statuses)


@pytest.mark.parametrize(
    ("text", "names"),
    [("FAILURE", {"FAILURE"}), ("FAILURE,TIMEOUT", {"FAILURE", "TIMEOUT"}), ("RUNNING,RUNNING", {"RUNNING"})],
)
def test_statuses_in_text_are_separated_by_commas(text, names):
    assert executions_query(from_text(LIST_JOB_EXECUTIONS, [("status", text)])).statuses == names


@pytest.mark.parametrize(
    "text", ["", ",", "FAILURE,", ",FAILURE", "FAILURE, TIMEOUT", "FAILURE;TIMEOUT", "failure", "*"]
)
def test_a_bad_list_in_text_is_shown_whole(text):
    with pytest.raises(InvalidParameter, match=r"^status must be one or several of PENDING, .*; received '") as refused:
        from_text(LIST_JOB_EXECUTIONS, [("status", text)])
    assert f"received {text!r}" in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "FAILURE,TIMEOUT",
        "Failure",
        [],
        (),
        set(),
        [None],
        [["FAILURE"]],
        ["FAILURE", 3],
        {"FAILURE": 1},
        3,
        True,
        iter(["FAILURE"]),
    ],
)
def test_nothing_else_is_a_status(value):
    with pytest.raises(InvalidParameter, match=r"^status must be one or several of PENDING, "):
        executions_query({"status": value})


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("failure", "did you mean 'FAILURE'?"),
        ("failed", "did you mean 'FAILURE'?"),
        ("失败", "did you mean 'FAILURE'?"),
        ("ok", "did you mean 'SUCCESS'?"),
        ("SUCCES", "did you mean 'SUCCESS'?"),
        (["RUNNING", "TIMED_OUT"], "received 'TIMED_OUT'; did you mean 'TIMEOUT'?"),
        ("SUCCESS,FAILURE", "give several as a list"),
        ("CANCELLED", "received 'CANCELLED'"),
        ("x" * 300, "xxx…"),
        ([4], "received 4"),
    ],
)
def test_a_status_that_is_nearly_right_is_suggested(given, remedy):
    with pytest.raises(InvalidParameter) as refused:
        executions_query({"status": given})
    assert str(refused.value).endswith(remedy)


# Times

EIGHT = instant("2026-01-15T08:00:00+00:00")


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-15", instant("2026-01-15T00:00:00+00:00")),
        ("2026-01-15T08:00", EIGHT),
        ("2026-01-15 08:00", EIGHT),
        ("2026-01-15T08:00Z", EIGHT),
        ("2026-01-15T08:00:00", EIGHT),
        ("2026-01-15T08:00:00Z", EIGHT),
        ("2026-01-15 08:00:00Z", EIGHT),
        ("2026-01-15T16:00:00+08:00", EIGHT),
        ("2026-01-15T16:00:00 08:00", EIGHT),
        ("2026-01-15 16:00 08:00", EIGHT),
        ("2026-01-15T02:30:00-05:30", EIGHT),
        ("2026-01-15T08:00:00-00:00", EIGHT),
        ("2026-01-16T07:59:00+23:59", EIGHT),
        ("2026-01-15T08:00:00.0Z", EIGHT),
        ("2026-01-15T08:00:00.5", EIGHT + 500_000),
        ("2026-01-15T08:00:00.000001Z", EIGHT + 1),
        ("2026-01-15T08:00:00.123456789Z", EIGHT + 123_456),
        ("2024-02-29", instant("2024-02-29T00:00:00+00:00")),
        ("0001-01-01", instant("0001-01-01T00:00:00+00:00")),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999),
    ],
)
def test_a_time_in_text_is_read_the_same_through_every_door(text, us):
    for name in ("after", "before"):
        for values in ({name: text}, from_text(JOB_STATS, [(name, text)]), from_json(JOB_STATS, {name: text})):
            assert getattr(stats_query(values), f"{name}_us") == us


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "now", "today", "-1d", "0", "1768464000", "1768464000.5", "20260115", "2026", "2026-01", "2026-015"),
        *("2026-W03", "2026-W03-4", "26-01-15", "2026-1-5", "2026/01/15", "15.01.2026", "+2026-01-15", "12026-01-15"),
        *("20260115T080000Z", "2026-01-15T", "2026-01-15T08", "2026-01-15T0800", "2026-01-15T08Z", "2026-01-15Z"),
        *("2026-01-15T08:00:00z", "2026-01-15t08:00:00Z", "2026-01-15  08:00", "2026-01-15_08:00", "2026-01-15+08:00"),
        *("2026-01-15T08:00:00.", "2026-01-15T08:00:00.Z", "2026-01-15T08:00:00,5Z", "2026-01-15T08:00:00.1234567890Z"),
        *("2026-01-15T08:00.5Z", "2026-01-15T08:00:00+8", "2026-01-15T08:00:00+08", "2026-01-15T08:00:00+0800"),
        *("2026-01-15T08:00:00+08:00:00", "2026-01-15T08:00:00 Z", "2026-01-15T08:00:00UTC", "2026-01-15T08:00:00 UTC"),
        *(
            " 2026-01-15",
            "2026-01-15 ",
            "2026-01-15\n",
            "2026-01-15T08:00:00Z\n",
            "2026-01-15\x00",
            "2026-01-15T08:00:00Z;",
        ),
        *(
            "２０２６-01-15",
            "٢٠٢٦-01-15",
            "2026−01−15",
            "2026-01-15T08:00:00−05:00",
            "2026-01-15T08:00:00[UTC]",
            "1" * 9999,
        ),
    ],
)
def test_what_is_written_otherwise_is_no_time(text):
    with pytest.raises(InvalidParameter, match=r"^after must be a time: YYYY-MM-DD, or with THH:MM"):
        from_text(LIST_JOB_EXECUTIONS, [("after", text)])


@pytest.mark.parametrize(
    "text",
    [
        *("2026-02-29", "2026-02-30", "2026-13-01", "2026-00-01", "2026-01-00", "2026-04-31", "0000-01-01"),
        *("2026-01-15T24:00:00Z", "2026-01-15T08:60:00Z", "2026-01-15T08:00:60Z", "2016-12-31T23:59:60Z"),
        *("2026-01-15T08:00:00+24:00", "2026-01-15T08:00:00+08:60", "2026-01-15T08:00:00-99:99"),
        *(
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+00:01",
            "0001-01-01T00:00 23:59",
        ),
    ],
)
def test_a_moment_that_does_not_exist_is_no_time(text):
    with pytest.raises(
        InvalidParameter, match=r"^before must be a moment that exists, in the years 1 to 9999; received '"
    ):
        from_text(LIST_JOB_EXECUTIONS, [("before", text)])


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 15, 8, tzinfo=UTC),
        datetime(2026, 1, 15, 16, tzinfo=timezone(timedelta(hours=8))),
        datetime(2026, 1, 15, 9, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
)
def test_an_aware_datetime_is_a_time(moment):
    assert stats_query({"after": moment}).after_us == EIGHT


def test_the_hour_that_comes_twice_is_told_apart():
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    query = stats_query({"after": first, "before": first.replace(fold=1)})
    assert query.before_us is not None
    assert query.after_us is not None
    assert query.before_us - query.after_us == 3_600_000_000


def test_a_naive_datetime_is_refused_with_its_remedy():
    with pytest.raises(InvalidParameter) as refused:
        stats_query({"after": datetime(2026, 1, 15)})
    assert str(refused.value) == (
        "after must be a datetime with a time zone; received '2026-01-15 00:00:00'; add tzinfo=UTC, say"
    )


class Broken(tzinfo):
    """A zone that answers nonsense."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def utcoffset(self, _moment: datetime | None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def tzname(self, _moment: datetime | None) -> str:
        return "broken"

    def dst(self, _moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        datetime(2026, 1, 1, tzinfo=Broken(NotImplementedError())),
        datetime(2026, 1, 1, tzinfo=Broken(8)),
        datetime(2026, 1, 1, tzinfo=Broken(timedelta(days=2))),
        datetime(2026, 1, 1, tzinfo=Broken(OverflowError())),
    ],
)
def test_a_datetime_that_names_no_instant_is_refused(moment):
    with pytest.raises(
        InvalidParameter, match=r"^after must be a datetime with a time zone, in the years 1 to 9999 of UTC"
    ):
        stats_query({"after": moment})


@pytest.mark.parametrize(
    "value", [0, 1768464000, 1768464000.0, True, b"2026-01-15", date(2026, 1, 15), timedelta(1), ["2026"]]
)
def test_nothing_else_is_a_time(value):
    with pytest.raises(
        InvalidParameter, match=r"^before must be a time: .*; give text or a datetime with a time zone$"
    ):
        stats_query({"before": value})


@pytest.mark.parametrize("query", [executions_query, stats_query])
def test_bounds_that_cross_are_refused_and_both_named(query):
    with pytest.raises(InvalidParameter) as refused:
        query({"after": "2026-02-01", "before": datetime(2026, 1, 31, tzinfo=UTC)})
    assert str(refused.value) == (
        "after must not be later than before; received after=2026-02-01T00:00:00Z "
        "and before=2026-01-31T00:00:00Z; swap them"
    )


@pytest.mark.parametrize("query", [executions_query, stats_query])
def test_a_window_may_be_one_instant(query):
    window = query({"after": "2026-01-15T08:00:00Z", "before": "2026-01-15T16:00:00+08:00"})
    assert window.after_us == window.before_us == EIGHT


@pytest.mark.parametrize("query", [executions_query, stats_query])
def test_the_epoch_is_a_bound_like_any_other(query):
    assert query({"before": "1970-01-01"}).before_us == 0
    with pytest.raises(InvalidParameter, match=r"^after must not be later than before"):
        query({"after": "1970-01-01T00:00:01Z", "before": "1970-01-01"})


# Jobs by name or number


@pytest.mark.parametrize(
    ("given", "name", "number"),
    [
        ("sync_klines_1h", "sync_klines_1h", None),
        ("1", "1", 1),
        (1, "1", 1),
        (0, "0", 0),
        ("007", "007", 7),
        (LARGEST, str(LARGEST), LARGEST),
        (str(LARGEST), str(LARGEST), LARGEST),
        (2**63, str(2**63), None),
        (str(2**63), str(2**63), None),
        (10**199, "1" + "0" * 199, None),
        (-1, "-1", None),
        ("１", "１", None),
        ("²", "²", None),
        ("1.0", "1.0", None),
        (" 1", " 1", None),
        ("a/b", "a/b", None),
        ("任" * 200, "任" * 200, None),
    ],
)
def test_a_job_is_named_by_text_or_number(given, name, number):
    assert job_ref(given) == JobRef(name, number)


@pytest.mark.parametrize(
    "given", ["", "x" * 201, "1" * 201, 10**200, VAST, "a\0b", "\udc80", None, True, False, 1.0, b"1", ["1"], {}]
)
def test_what_could_be_no_name_is_refused(given):
    for refuse in (lambda: job_ref(given), lambda: from_json(GET_JOB, {"job_id": given})):
        with pytest.raises(InvalidParameter, match=r"^job_id must be a job's name .* or its number; received "):
            refuse()


def test_all_jobs_are_meant_by_no_job_in_stats():
    assert from_json(JOB_STATS, {"job_id": None}) == {"job_id": None}
    with pytest.raises(InvalidParameter, match=r"^job_id must be"):
        from_text(JOB_STATS, [("job_id", "")])

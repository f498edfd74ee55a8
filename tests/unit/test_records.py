"""What may be written: each rule on a value, and the row that comes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstore.language import fields as values
from jobstore.language import instants, records
from jobstore.language.errors import InvalidRecord, InvalidSchedule
from jobstore.language.models import STATUS_CODES
from jobstore.storage import documents
from tests.instants import NO_MOMENTS, NO_TIMES, TIMES

NOON = instants.instant_us(datetime(2026, 1, 15, 12, tzinfo=UTC))
JOB = {"name": "a", "job_type": "kline", "job_category": "sync"}
RUN = {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-15T08:00:00Z"}


class UnusableZone(tzinfo):
    """A zone of somebody else's, with a defect."""

    def utcoffset(self, _moment):
        raise TypeError("no")

    dst = tzname = utcoffset


# --- names and texts


@pytest.mark.parametrize("name", ["a", "x" * 200, "同步", "a b", "ａ", "1a", "Executions", "...", "a\u200bb", "😀"])
def test_a_name_that_every_door_can_ask_for_is_kept_as_it_is(name):
    assert values.checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 201, "a/b", " a", "a ", "\u3000a", ".", "..", "executions", "1", "0012", "a\nb", "a\0", "a\x7f", "a\x85",
     "\ud800", None, 1, b"a", ["a"]],
)  # fmt: skip
def test_a_name_that_some_door_could_not_ask_for_is_refused(name):
    with pytest.raises(InvalidRecord, match="name must be"):
        values.checked_name(name)


@pytest.mark.parametrize("label", ["", "x" * 513, "a\0", "\ud800", 1, b"a"])
def test_a_label_is_text_of_1_to_512_characters(label):
    with pytest.raises(InvalidRecord, match="trace_id must be"):
        values.checked_label(label, "trace_id")


@pytest.mark.parametrize("label", ["x", "x" * 512, "a\nb", "轨迹"])
def test_a_good_label_is_kept_as_it_is(label):
    assert values.checked_label(label, "trace_id") == label


def test_a_text_is_bounded_in_bytes():
    assert values.checked_text("x" * 65536, "description") == "x" * 65536
    for text in ["x" * 65537, "界" * 21846]:
        with pytest.raises(InvalidRecord, match="64 KiB"):
            values.checked_text(text, "description")


def test_an_error_is_never_refused_for_its_length_or_letters():
    long = values.bounded_error("界" * 30_000)
    assert long is not None
    assert len(long.encode()) <= 65536
    assert long.endswith(values.CUT_MARK)
    assert values.bounded_error("a\udcffb") == "a\\udcffb"
    assert values.bounded_error("short") == "short"
    with pytest.raises(InvalidRecord, match="error must be a text"):
        values.bounded_error(ValueError("x"))


# --- numbers, flags, statuses


@pytest.mark.parametrize("value", [True, 0, -1, 1.0, "1", 2**63])
def test_a_bound_is_an_int_in_range(value):
    with pytest.raises(InvalidRecord):
        values.checked_timeout(value)
    with pytest.raises(InvalidRecord):
        values.checked_instances(value)


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_flag_is_a_bool(value):
    with pytest.raises(InvalidRecord, match="true or false"):
        values.checked_flag(value, "enabled")


@pytest.mark.parametrize(
    "value", [0, -1, "0", "01", "+5", "１２", "1_0", " 1", 2**62 + 1, str(2**62 + 1), 1.0, True, None, ""]
)
def test_an_id_is_a_whole_number_from_1(value):
    with pytest.raises(InvalidRecord, match="id must be"):
        values.checked_number(value, "id")


@pytest.mark.parametrize("value", [1, "1", 2**62, str(2**62)])
def test_an_id_may_be_an_int_or_its_digits(value):
    assert values.checked_number(value, "id") == int(value)


@pytest.mark.parametrize("value", ["success", "DONE", "", None, 1, ["SUCCESS"]])
def test_a_status_is_one_of_the_five_words(value):
    with pytest.raises(InvalidRecord, match="status must be one of"):
        values.checked_status(value)


@pytest.mark.parametrize("value", ["PENDING", "RUNNING", "DONE", None])
def test_an_end_is_one_of_three_words(value):
    with pytest.raises(InvalidRecord, match="one of FAILURE, SUCCESS, TIMEOUT"):
        values.checked_end(value)


# --- instants


@pytest.mark.parametrize(
    ("given", "us"),
    [*TIMES.items(), (datetime(2026, 1, 15, 12, tzinfo=UTC), NOON),
     (datetime(2026, 1, 15, 20, tzinfo=timezone(timedelta(hours=8))), NOON)],
)  # fmt: skip
def test_an_instant_is_what_queries_take(given, us):
    assert values.checked_instant(given, "at") == us


@pytest.mark.parametrize(
    "value",
    [*NO_TIMES, *NO_MOMENTS, 1768464000, 1.5, None, True, b"x", ["x"], datetime(2026, 1, 15, 12),
     datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 15, tzinfo=UnusableZone())],
)  # fmt: skip
def test_what_names_no_instant_is_refused(value):
    with pytest.raises(InvalidRecord, match="at must be"):
        values.checked_instant(value, "at")


@given(st.integers(instants.MIN_US, instants.MAX_US))
def test_the_quick_reading_of_an_instant_undoes_its_text(us):
    text = instants.instant_text(us)
    assert values.checked_instant(text, "at") == us
    assert instants.read_instant(text) == us


@given(
    st.integers(instants.MIN_US, instants.MAX_US).map(instants.instant_text), st.integers(0, 27),
    st.sampled_from("09:.-TtZz +１_")  | st.just(""), st.booleans(),
)  # fmt: skip
def test_the_quick_reading_refuses_what_the_other_refuses(text, place, letter, is_added):
    text = text[:place] + letter + text[place if is_added else place + 1 :]
    try:
        us = instants.read_instant(text)
    except instants.BadInstant:
        with pytest.raises(InvalidRecord):
            values.checked_instant(text, "at")
    else:
        assert values.checked_instant(text, "at") == us


# --- JSON


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [{}, [], "", 0, False, 1.5, {"界": [None, {"a": 2**63}]}, -(2**63), 2**64 - 1, "\0", nested(64), (1, 2), [None] * 100],
)  # fmt: skip
def test_a_json_value_comes_back_from_the_file_as_it_was(value):
    text = values.json_text(value, "result")
    assert text is not None
    assert documents.json_value(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"a": {"b": -float("inf")}}, {1: 2}, {"a": {1}}, object(), b"x", 2**64, -(2**63) - 1,
     "\ud800", {"\ud800": 1}, nested(65), nested(3000), "x" * 65535, ["x" * 40000, "y" * 40000],
     datetime(2026, 1, 1, tzinfo=UTC)],
)  # fmt: skip
def test_what_json_cannot_say_or_is_too_much_is_refused(value):
    with pytest.raises(InvalidRecord, match="result must"):
        values.json_text(value, "result")


def test_a_value_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidRecord):
        values.json_text(loop, "result")


def test_no_value_has_no_text():
    assert values.json_text(None, "result") is None


# --- jobs


def job(**given: object) -> records.Job:
    return records.new_job("a", {"job_type": "kline", "job_category": "sync", **given}, NOON)


def test_a_new_job_has_the_defaults_of_the_api():
    made = job()
    assert (made.max_instances, made.enabled, made.schedule, made.interval_seconds) == (1, 1, None, None)
    assert (made.created_us, made.updated_us, made.last_run_us) == (NOON, NOON, None)


def test_folded_text_has_name_type_and_category_each_on_a_line():
    made = records.new_job("Ｓync STRASSE", {"job_type": "Kline", "job_category": "straße"}, NOON)
    assert made.folded == "sync strasse\nkline\nstrasse"


def test_an_update_that_changes_nothing_is_the_same_row():
    old = job(schedule="0 * * * *", parameters={"a": 1}, timeout_seconds=5)
    assert records.changed_job(old, {"job_type": "kline", "parameters": {"a": 1}}, NOON + 1) is old


def test_an_update_keeps_what_is_not_given_and_clears_what_is_none():
    old = job(description="d", timeout_seconds=5, schedule="0 * * * *", enabled=False, max_instances=3)
    new = records.changed_job(old, {"description": None, "timeout_seconds": 6}, NOON + 1)
    assert new == old._replace(description=None, timeout_seconds=6, updated_us=NOON + 1)


@pytest.mark.parametrize(
    ("old", "given", "then"),
    [
        ({"schedule": "0 * * * *"}, {"interval_seconds": 60}, (None, 60)),
        ({"interval_seconds": 60}, {"schedule": "0 * * * *"}, ("0 * * * *", None)),
        ({"schedule": "0 * * * *"}, {"schedule": None}, (None, None)),
        ({"schedule": "0 * * * *"}, {"schedule": None, "interval_seconds": 60}, (None, 60)),
        ({"interval_seconds": 60}, {"schedule": None}, (None, 60)),
        ({"interval_seconds": 60}, {"interval_seconds": None}, (None, None)),
        ({}, {"schedule": " @daily "}, ("@daily", None)),
    ],
)
def test_a_schedule_and_an_interval_take_each_others_place(old, given, then):
    new = records.changed_job(job(**old), given, NOON)
    assert (new.schedule, new.interval_seconds) == then


def test_another_kind_of_schedule_clears_what_belonged_to_the_old_one():
    interval = job(interval_seconds=60, anchor_at="2026-01-01T00:00:00Z")
    assert records.changed_job(interval, {"interval_seconds": 90}, NOON).anchor_us is not None
    assert records.changed_job(interval, {"schedule": "@daily"}, NOON).anchor_us is None
    external = job(next_run_at="2026-01-01T00:00:00Z")
    assert records.changed_job(external, {"description": "x"}, NOON).next_run_us is not None
    assert records.changed_job(external, {"interval_seconds": 5}, NOON).next_run_us is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"schedule": "* * * * *", "interval_seconds": 5}, InvalidSchedule),
        ({"schedule": "0 0 30 2 *"}, InvalidSchedule),
        ({"schedule": 5}, InvalidSchedule),
        ({"interval_seconds": 0}, InvalidSchedule),
        ({"interval_seconds": True}, InvalidSchedule),
        ({"schedule": "@daily", "anchor_at": "2026-01-01T00:00:00Z"}, InvalidRecord),
        ({"anchor_at": "2026-01-01T00:00:00Z"}, InvalidRecord),
        ({"schedule": "@daily", "next_run_at": "2026-01-01T00:00:00Z"}, InvalidRecord),
        ({"interval_seconds": 5, "next_run_at": "2026-01-01T00:00:00Z"}, InvalidRecord),
        ({"enabled": 1}, InvalidRecord),
        ({"max_instances": None}, InvalidRecord),
        ({"job_type": ""}, InvalidRecord),
        ({"job_category": "a\nb"}, InvalidRecord),
        ({"parameters": {1: 1}}, InvalidRecord),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused(given, error):
    with pytest.raises(error):
        job(**given)


# --- documents


def test_a_job_document_may_leave_out_what_has_a_default():
    made = records.job_from_document(JOB, NOON)
    assert made == records.new_job("a", {"job_type": "kline", "job_category": "sync"}, NOON)


def test_a_job_document_keeps_its_history_as_it_is():
    given = {**JOB, "number": 7, "last_run_at": "2027-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z",
             "created_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    made = records.job_from_document(given, NOON)
    assert made.number == 7
    assert instants.instant_text(made.last_run_us) == "2027-01-01T00:00:00Z"
    assert instants.instant_text(made.updated_us) == "2025-01-01T00:00:00Z"
    assert instants.instant_text(made.created_us) == "2026-01-01T00:00:00Z"


def test_next_run_at_is_ignored_but_for_an_external_schedule():
    when = {"next_run_at": "2026-01-01T00:00:00Z"}
    assert records.job_from_document({**JOB, **when, "schedule": "@daily"}, NOON).next_run_us is None
    assert records.job_from_document({**JOB, **when, "interval_seconds": 5}, NOON).next_run_us is None
    assert records.job_from_document({**JOB, **when}, NOON).next_run_us is not None


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"nam": "a"}, InvalidRecord, "did you mean 'name'"),
        ({**JOB, "id": "b"}, InvalidRecord, "id must be equal to name"),
        ({"name": "a", "job_category": "x"}, InvalidRecord, "job_type must be"),
        ({"name": "a", "job_type": "x"}, InvalidRecord, "job_category must be"),
        ({"job_type": "x"}, InvalidRecord, "name must be"),
        ({**JOB, "schedule_type": "cron"}, InvalidSchedule, "make it external"),
        ({**JOB, "schedule_type": "weekly"}, InvalidRecord, "schedule_type must be"),
        ({**JOB, "schedule_type": ["cron"]}, InvalidRecord, "schedule_type must be"),
        ({**JOB, "number": 0}, InvalidRecord, "number must be"),
        ({**JOB, "created_at": "yesterday"}, InvalidRecord, "created_at must be"),
        ([], InvalidRecord, "must be a JSON object"),
        (None, InvalidRecord, "must be a JSON object"),
    ],
)
def test_a_job_document_that_breaks_a_rule_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        records.job_from_document(given, NOON)


def test_an_execution_document_becomes_a_row():
    row = records.execution_from_document({**RUN, "id": "12", "job_id": "3", "duration_ms": 0, "result": {"a": 1}})
    start = instants.instant_us(datetime(2026, 1, 15, 8, tzinfo=UTC))
    assert row == records.Execution(
        12, 3, "a", STATUS_CODES["SUCCESS"], start, 1, start, None, 0, None, None, None, '{"a":1}', None
    )  # fmt: skip


def test_the_effective_start_of_what_has_not_started_is_its_creation():
    row = records.execution_from_document({"job_name": "a", "status": "PENDING", "created_at": "2026-01-15T08:00:00Z"})
    assert (row.is_started, row.effective_us) == (0, row.created_us)


def test_history_is_not_judged():
    row = records.execution_from_document(
        {**RUN, "created_at": "2030-01-01T00:00:00Z", "completed_at": "2020-01-01T00:00:00Z", "duration_ms": -5}
    )
    assert row.duration_ms == -5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"job_name": "a", "status": "SUCCESS", "completed_at": "2026-01-15T08:00:00Z"},
            "needs started_at, or created_at",
        ),
        ({**RUN, "status": "ok"}, "status must be"),
        ({**RUN, "status": None}, "status must be"),
        ({**RUN, "id": "x"}, "id must be"),
        ({**RUN, "job_id": "a"}, "job_id must be"),
        ({**RUN, "job_name": 1}, "job_name must be"),
        ({**RUN, "duration_ms": 1.5}, "duration_ms must be"),
        ({**RUN, "duration_ms": True}, "duration_ms must be"),
        ({**RUN, "duration_ms": 2**42}, "duration_ms must be"),
        ({**RUN, "worker_id": ""}, "worker_id must be"),
        ({**RUN, "trace_id": "\ud800"}, "trace_id must be"),
        ({**RUN, "error": 5}, "error must be"),
        ({**RUN, "error": "x" * 65537}, "error must be"),
        ({**RUN, "result": float("nan")}, "result must be"),
        ({**RUN, "parameters_snapshot": {"a": object()}}, "parameters_snapshot must be"),
        ({**RUN, "started_at": "2026-01"}, "started_at must be"),
        ({**RUN, "completed_at": 5}, "completed_at must be"),
        ({**RUN, "jobname": 5}, "did you mean 'job_name'"),
        ("x", "must be a JSON object"),
    ],
)
def test_an_execution_document_that_breaks_a_rule_is_refused(given, words):
    with pytest.raises(InvalidRecord, match=words):
        records.execution_from_document(given)


def test_the_json_of_a_document_is_what_orjson_reads_again():
    row = records.execution_from_document({**RUN, "result": {"b": 1, "a": [1.0, "界"]}})
    assert row.result is not None
    assert orjson.loads(row.result) == {"b": 1, "a": [1.0, "界"]}
    assert row.result.startswith('{"b"')

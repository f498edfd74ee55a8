"""Stores for tests: what is filled in, the clock, the snapshots; the plugin in a real pytest."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobstore.language.errors import InvalidRecord
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS, Status
from jobstore.testing import document

pytest_plugins = ["pytester"]


# --- the fixtures, used ---------------------------------------------------------------------------


def test_a_store_needs_nothing(jobstore_factory):
    store = jobstore_factory()
    assert store.list_jobs()["data"] == []
    assert store.list_job_executions()["pagination"]["total"] == 0


def test_an_execution_needs_only_a_name_and_a_status(jobstore_factory):
    store = jobstore_factory(executions=[{"job_name": "sync", "status": "FAILURE"}])
    (execution,) = store.list_job_executions(search="failed")["data"]
    assert execution == {
        **dict.fromkeys(EXECUTION_FIELDS),
        "id": "1",
        "job_id": "1",
        "job_name": "sync",
        "status": "FAILURE",
        "started_at": "2026-01-15T08:59:00Z",
        "completed_at": "2026-01-15T08:59:01.500000Z",
        "duration_ms": 1500,
        "error": "failed",
        "created_at": "2026-01-15T08:59:00Z",
    }
    assert store.get_job("sync")["last_run_at"] == execution["started_at"]
    assert store.get_job("sync")["updated_at"] == execution["started_at"]


def test_a_job_needs_only_a_name_or_nothing(jobstore_factory):
    store = jobstore_factory(jobs=["named", {}, {"name": "given", "enabled": False, "interval_seconds": 60}])
    found = {job["name"]: job for job in store.list_jobs()["data"]}
    assert list(found) == ["given", "job_2", "named"]
    assert found["named"] == {
        **dict.fromkeys(JOB_FIELDS),
        "id": "named",
        "name": "named",
        "job_type": "kline",
        "job_category": "sync",
        "schedule_type": "cron",
        "schedule": "0 * * * *",
        "max_instances": 1,
        "enabled": True,
        "next_run_at": "2026-01-15T10:00:00Z",
        "created_at": "2026-01-01T09:00:00Z",
        "updated_at": "2026-01-01T09:00:00Z",
    }
    assert (found["given"]["schedule"], found["given"]["interval_seconds"], found["given"]["enabled"]) == (
        None,
        60,
        False,
    )


def test_an_external_job_gets_no_schedule_of_ours(jobstore_factory):
    store = jobstore_factory(jobs=[{"schedule_type": "external", "next_run_at": "2026-01-15T12:00:00Z"}])
    job = store.get_job("job_1")
    assert (job["schedule_type"], job["next_run_at"]) == ("external", "2026-01-15T12:00:00Z")


def test_where_there_is_one_job_its_executions_need_no_name(jobstore_factory):
    store = jobstore_factory(jobs=["only"], executions=[{"status": "SUCCESS"}, {}])
    assert store.get_job_executions("only")["pagination"]["total"] == 2
    with pytest.raises(InvalidRecord, match="needs job_name"):
        jobstore_factory(jobs=["one", "two"], executions=[{"status": "SUCCESS"}])


@pytest.mark.parametrize("status", Status)
def test_each_status_has_the_times_it_calls_for(jobstore_factory, status):
    (found,) = jobstore_factory(executions=[{"job_name": "job", "status": status}]).list_job_executions()["data"]
    is_ended = status in ("SUCCESS", "FAILURE", "TIMEOUT")
    assert (found["started_at"] is not None) == (status != "PENDING")
    assert (found["completed_at"] is not None) == (found["duration_ms"] is not None) == is_ended
    assert (found["error"] is not None) == (status in ("FAILURE", "TIMEOUT"))


def test_executions_come_a_minute_apart_the_last_one_newest(jobstore_factory):
    store = jobstore_factory(executions=[{"job_name": name, "status": "SUCCESS"} for name in ("a", "b", "c")])
    found = store.list_job_executions()["data"]
    assert [(each["job_name"], each["started_at"][11:16]) for each in found] == [
        ("c", "08:59"),
        ("b", "08:58"),
        ("a", "08:57"),
    ]


def test_what_is_given_is_kept_and_the_rest_follows_from_it(jobstore_factory):
    store = jobstore_factory(
        executions=[
            {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-10T00:00:00Z", "completed_at": "2026-01-10T00:00:09Z"},
            {"job_name": "b", "status": "SUCCESS", "duration_ms": 2500, "started_at": datetime(2026, 1, 9, tzinfo=UTC)},
            {"job_name": "c", "status": "FAILURE", "created_at": "2026-01-08T00:00:00Z", "started_at": None, "error": "missed"},
            {"job_name": "d", "status": "FAILURE", "error": None, "id": 77},
        ]
    )  # fmt: skip
    found = {each["job_name"]: each for each in store.list_job_executions()["data"]}
    assert (found["a"]["created_at"], found["a"]["duration_ms"]) == ("2026-01-10T00:00:00Z", 9000)
    assert found["b"]["completed_at"] == "2026-01-09T00:00:02.500000Z"
    assert (found["c"]["started_at"], found["c"]["duration_ms"], found["c"]["error"]) == (None, None, "missed")
    assert (found["d"]["id"], found["d"]["error"]) == ("77", None)


def test_the_history_of_a_job_that_is_gone_makes_no_job(jobstore_factory):
    store = jobstore_factory(executions=[{"job_name": "gone", "job_id": "9", "status": "SUCCESS"}])
    assert store.list_jobs()["data"] == []
    assert store.list_job_executions()["data"][0]["job_id"] == "9"


def test_the_clock_of_all_stores_is_set_and_moved_by_the_test(jobstore_factory, jobstore_clock):
    store = jobstore_factory(jobs=["job"], now="2026-03-01T10:30:00Z")
    other = jobstore_factory(jobs=["job"])
    assert store.get_job("job")["next_run_at"] == other.get_job("job")["next_run_at"] == "2026-03-01T11:00:00Z"
    jobstore_clock.advance(hours=2, minutes=1)
    assert store.get_job("job")["next_run_at"] == other.get_job("job")["next_run_at"] == "2026-03-01T13:00:00Z"
    jobstore_clock.advance(timedelta(days=-1))
    assert jobstore_clock.now == jobstore_clock() == datetime(2026, 2, 28, 12, 31, tzinfo=UTC)
    jobstore_clock.set(datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert repr(jobstore_clock) == "FrozenClock('2026-05-01T12:00:00Z')"


def test_a_store_has_the_zone_that_was_asked_for(jobstore_factory):
    store = jobstore_factory(jobs=[{"schedule": "0 12 * * *"}], timezone="Asia/Shanghai")
    assert store.timezone == "Asia/Shanghai"
    assert store.get_job("job_1")["next_run_at"] == "2026-01-16T04:00:00Z"


@pytest.mark.parametrize("wrong", [{"jobs": [3]}, {"executions": ["x"]}, {"jobs": [{"nmae": "x"}]}, {"now": "today"}])
def test_what_is_no_document_is_refused(jobstore_factory, wrong):
    with pytest.raises(InvalidRecord):
        jobstore_factory(**wrong)


# --- the plugin in a pytest of its own ------------------------------------------------------------

INNER = """
    def test_page(jobstore_factory, jobstore_snapshot):
        store = jobstore_factory(executions=[{"job_name": "线", "status": "TIMEOUT", "trace_id": TRACE}])
        jobstore_snapshot(store.list_job_executions())
        jobstore_snapshot(store.get_job("线"), name="the job")
        jobstore_snapshot({"second": True})

    TRACE = "abc"
"""


def test_snapshots_are_written_when_asked_and_compared_ever_after(pytester):
    file = pytester.makepyfile(INNER)
    missing = pytester.runpytest_inprocess()
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*There is no snapshot *test_page.json yet*--jobstore-snapshot-update*"])
    pytester.runpytest_inprocess("--jobstore-snapshot-update").assert_outcomes(passed=1)
    folder = file.parent / "__snapshots__" / file.stem
    names = sorted(path.name for path in folder.iterdir())
    assert [name.partition("-")[0] for name in names] == ["test_page+2.json", "test_page.json", "test_page@the_job"]
    page = json.loads((folder / "test_page.json").read_text(encoding="utf-8"))
    assert page["data"][0]["job_name"] == "线"
    pytester.runpytest_inprocess().assert_outcomes(passed=1)

    file.write_text(file.read_text(encoding="utf-8").replace('"abc"', '"xyz"'), encoding="utf-8")
    changed = pytester.runpytest_inprocess()
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(['*-*"trace_id": "abc",', '*+*"trace_id": "xyz",'])


def test_a_snapshot_knows_the_order_of_the_fields(pytester):
    file = pytester.makepyfile("def test_order(jobstore_snapshot): jobstore_snapshot({'a': 1, 'b': 2})")
    pytester.runpytest_inprocess("--jobstore-snapshot-update").assert_outcomes(passed=1)
    file.write_text("def test_order(jobstore_snapshot): jobstore_snapshot({'b': 2, 'a': 1})", encoding="utf-8")
    pytester.runpytest_inprocess().assert_outcomes(failed=1)


def test_no_two_snapshots_share_a_file(pytester):
    """One name in two classes, a name that looks like a number or like parameters, long and odd names."""
    file = pytester.makepyfile(
        """
        import pytest

        class TestA:
            def test_one(self, jobstore_snapshot): jobstore_snapshot("A")
        class TestB:
            def test_one(self, jobstore_snapshot): jobstore_snapshot("B")
        def test_one(jobstore_snapshot): jobstore_snapshot("none")
        def test_calls(jobstore_snapshot):
            for number in range(3): jobstore_snapshot(number)
            for name in ("2", "+2", "x", "X ", "线" * 300, "线" * 301, "", "a/b", "a_b"): jobstore_snapshot(name, name=name)
            jobstore_snapshot("x again", name="x")
        @pytest.mark.parametrize("value", ["2", "a", "a-", "a]", "[a", "@2", "a::b", "线" * 300])
        def test_calls_(jobstore_snapshot, value): jobstore_snapshot(value)
        def test_with(jobstore_snapshot): jobstore_snapshot("named", name="a")
        @pytest.mark.parametrize("value", ["a"])
        def test_with_(jobstore_snapshot, value): jobstore_snapshot("parametrized")
        """
    )
    pytester.runpytest_inprocess("--jobstore-snapshot-update").assert_outcomes(passed=14)
    assert len(list((file.parent / "__snapshots__" / file.stem).iterdir())) == 3 + 3 + 9 + 1 + 8 + 2
    pytester.runpytest_inprocess().assert_outcomes(passed=14)


def test_snapshots_of_parametrized_tests_do_not_share_a_file(pytester):
    file = pytester.makepyfile("""
        import pytest
        @pytest.mark.parametrize("value", ["a b", "a/b", "a_b", "x" * 300, "x" * 301])
        def test_value(jobstore_snapshot, value): jobstore_snapshot({"value": value})
    """)
    pytester.runpytest_inprocess("--jobstore-snapshot-update").assert_outcomes(passed=5)
    pytester.runpytest_inprocess().assert_outcomes(passed=5)
    assert len(list((file.parent / "__snapshots__" / file.stem).iterdir())) == 5


def test_a_pytest_of_somebody_else_finds_the_fixtures_and_imports_no_door(pytester):
    pytester.makepyfile("""
        import sys
        def test_before(): assert not {"jobstore.testing", "jobstore.transfer.dump", "pydantic", "croniter", "falcon",
                                       "click", "sqlite_utils"} & set(sys.modules)
        def test_store(jobstore_factory): assert jobstore_factory(jobs=["a"]).get_job("a")["name"] == "a"
    """)
    pytester.runpytest_subprocess(
        "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:schemathesis"
    ).assert_outcomes(passed=2)
    fixtures = pytester.runpytest_subprocess("--fixtures")
    fixtures.stdout.fnmatch_lines(["jobstore_clock *", "jobstore_factory *", "jobstore_snapshot *"])


PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


def test_the_tests_of_the_page_run_as_printed(pytester):
    blocks = re.findall(
        r"^```python\n# (\S+)\.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in blocks] == ["test_overdue"]
    pytester.makepyfile(**dict(blocks))
    pytester.runpytest_inprocess("--jobstore-snapshot-update").assert_outcomes(passed=3)
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


def test_a_given_end_comes_after_a_start_that_is_filled_in():
    (made,) = document(executions=[{"job_name": "a", "completed_at": "2026-01-01T00:00:09Z"}])["executions"]
    assert (made["started_at"], made["duration_ms"]) == ("2026-01-01T00:00:07.500000Z", 1500)


@pytest.mark.parametrize("jobs", ["sync", {"name": "sync"}])
def test_one_job_that_is_no_list_is_refused(jobs):
    with pytest.raises(InvalidRecord, match="jobs must be a list"):
        document(jobs=jobs)

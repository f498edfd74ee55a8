"""The demo's data: believable, the same each time, and what its own schedules say."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from jobstore.cli import demo
from jobstore.language.instants import instant_us
from jobstore.language.models import KNOWN_JOB_CATEGORIES, KNOWN_JOB_TYPES
from jobstore.language.schedule import next_cron_us, next_interval_us

NOW_US = instant_us(datetime(2026, 3, 11, 9, 26, 53, 589793, tzinfo=UTC))
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    return demo.document(NOW_US)


@pytest.fixture
def _eight_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that is long enough for every job, and is made in a quarter of the time."""
    monkeypatch.setattr(demo, "HISTORY_DAYS", 8)


def us(text: str) -> int:
    return instant_us(datetime.fromisoformat(text))


def test_the_same_moment_and_seed_give_the_same_documents(world):
    assert demo.document(NOW_US) == world
    assert demo.document(NOW_US, seed=8)["executions"] != world["executions"]


def test_the_first_two_jobs_are_the_seed_s(world):
    first, second = world["jobs"][:2]
    assert (first["name"], first["schedule"]) == ("sync_klines_1h", "0 * * * *")
    assert first["description"] == "Sync 1-hour klines from all exchanges"
    assert first["parameters"] == {"intervals": ["1h"], "exchanges": ["BNC", "OKX", "GIO"]}
    assert (second["name"], second["schedule"], second["timeout_seconds"]) == ("sync_symbols_all", "0 0 * * *", 600)


def test_all_types_categories_and_kinds_of_schedule_of_the_seed_are_there(world):
    assert {job["job_type"] for job in world["jobs"]} == set(KNOWN_JOB_TYPES)
    assert {job["job_category"] for job in world["jobs"]} == set(KNOWN_JOB_CATEGORIES)
    assert {job["schedule_type"] for job in world["jobs"]} == {"cron", "interval", "external"}


def test_there_are_about_20_000_executions_in_four_weeks_up_to_now(world):
    created = [us(each["created_at"]) for each in world["executions"]]
    assert 18_000 < len(created) < 22_000
    assert created == sorted(created)
    assert created[0] >= NOW_US - 28 * DAY_US
    assert NOW_US - created[-1] < DAY_US // 24
    assert [each["id"] for each in world["executions"]] == [str(number) for number in range(1, len(created) + 1)]


@pytest.mark.usefixtures("_eight_days")
@pytest.mark.parametrize("seconds", [0, 187, 188, 190, 200, 1_988])
def test_nothing_happens_after_now(seconds):
    """187 s later it is half past nine, and most jobs have just started."""
    now_us = NOW_US + seconds * 1_000_000
    executions = demo.document(now_us)["executions"]
    stamps = [each[name] for each in executions for name in ("started_at", "completed_at") if each[name]]
    assert max(map(us, stamps)) <= now_us
    assert min(each["duration_ms"] for each in executions if each["duration_ms"] is not None) > 0


def test_an_end_comes_its_duration_after_the_start(world):
    for each in world["executions"]:
        if each["completed_at"]:
            assert us(each["completed_at"]) - us(each["started_at"]) == each["duration_ms"] * 1_000


@pytest.mark.parametrize("plan", demo.PLANS, ids=lambda plan: plan.name)
def test_a_job_is_due_exactly_when_its_schedule_says(plan):
    due = list(demo.starts(plan, NOW_US))
    for earlier, later in pairwise(due):
        if plan.schedule:
            assert next_cron_us(plan.schedule, "UTC", earlier * 1_000_000) == later * 1_000_000
        elif plan.interval_seconds:
            assert next_interval_us(plan.interval_seconds, due[-1] * 1_000_000, earlier * 1_000_000) in {
                later * 1_000_000,
                (due[-1] + plan.interval_seconds) * 1_000_000,  # the smallest n is 1: no grid before the anchor
            }
            assert later - earlier == plan.interval_seconds


def runs(world: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [each for each in world["executions"] if each["job_name"] == name]


def test_every_story_is_told(world):
    jobs = {job["name"]: job for job in world["jobs"]}
    running = [each["job_name"] for each in world["executions"] if each["status"] == "RUNNING"]
    assert running == ["sync_fills", "backfill_fills"]  # the first is lost: far over its timeout
    assert us(runs(world, "sync_fills")[-1]["started_at"]) < NOW_US - 360_000_000
    assert [each["job_name"] for each in world["executions"] if each["status"] == "PENDING"] == ["sync_transfers"]
    assert runs(world, "monitor_tickers") == []
    assert jobs["monitor_tickers"]["last_run_at"] is None
    assert not jobs["backfill_archive"]["enabled"]
    assert us(jobs["monitor_balances"]["last_run_at"]) < NOW_US - 3 * DAY_US
    assert {each["status"] for each in runs(world, "sync_balances")[-50:]} == {"FAILURE"}
    assert runs(world, "sync_balances")[0]["status"] == "SUCCESS"
    flaky = [each["status"] for each in runs(world, "monitor_depth")]
    assert 0.03 < flaky.count("FAILURE") / len(flaky) < 0.1
    assert any(each["status"] == "TIMEOUT" for each in runs(world, "sync_orders_open"))
    assert any(ord(char) > 0x4E00 for job in world["jobs"] for char in job["description"])


def test_a_job_s_last_run_is_the_start_of_its_latest_execution(world):
    for number, job in enumerate(world["jobs"], 1):
        starts = [
            each["started_at"]
            for each in world["executions"]
            if each["job_id"] == str(number) and each["status"] != "PENDING"
        ]
        assert job["last_run_at"] == (starts[-1] if starts else None)


def test_failures_say_why_and_successes_what_they_did(world):
    for each in world["executions"]:
        assert (each["error"] is not None) == (each["status"] in {"FAILURE", "TIMEOUT"})
        assert (each["result"] is None) == (each["status"] in {"PENDING", "RUNNING", "TIMEOUT"})
        if each["status"] == "FAILURE":
            assert each["result"] == {"error_message": each["error"]}


@pytest.mark.usefixtures("_eight_days")
@pytest.mark.parametrize("hours", range(0, 24 * 7, 17))
def test_it_is_believable_at_every_hour_of_the_week(hours):
    world = demo.document(NOW_US + hours * 3_600_000_000)
    assert [each["status"] for each in world["executions"]].count("RUNNING") == 2
    assert [each["status"] for each in world["executions"]].count("PENDING") == 1
    assert 18_000 / 28 * 8 < len(world["executions"]) < 22_000 / 28 * 8

"""Numbers for Prometheus: the text format, what is counted, and how many series there can be."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import jobstore
from jobstore import metrics

NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of the text format, read strictly: HELP, TYPE, then samples, each family once."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    family = ""
    seen: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in seen
            seen.add(family)
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {family} {'counter' if family.endswith('_total') else 'gauge'}"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == family
            unescaped = {
                name: value.replace(r"\"", '"').replace("\\\\", "\\") for name, value in LABEL.findall(match[2] or "")
            }
            key = (family, tuple(unescaped.items()))
            assert key not in found
            found[key] = float(match[3])
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[jobstore.JobStore]:
    with jobstore.Recorder(tmp_path / "jobs.db", clock=lambda: NOW) as recorder:
        for name, minutes in (('odd "name" \\ 任务', 5), ("plain", 60)):
            recorder.save_job(name, job_type="kline", job_category="sync", interval_seconds=minutes * 60)
        recorder.save_job("off", job_type="kline", job_category="sync", schedule="0 * * * *", enabled=False)
        for minute, status, duration in ((0, "SUCCESS", 1_000), (10, "FAILURE", 3_000), (20, "SUCCESS", 2_000)):
            at = NOW.replace(minute=minute)
            run = recorder.enqueue("plain", at=at)
            recorder.start(run, at=at)
            recorder.finish(run, status, at=at, duration_ms=duration)
        recorder.start(recorder.enqueue("plain", at=NOW), at=NOW)
    with jobstore.open(tmp_path / "jobs.db", clock=lambda: NOW) as opened:
        yield opened


def test_a_job_is_counted_timed_and_dated(store):
    said = parsed(metrics.metrics(store))
    plain = (("job_name", "plain"),)
    by_status = {status: said["jobstore_job_executions", (*plain, ("status", status))] for status in jobstore.Status}
    assert by_status == {"PENDING": 0, "RUNNING": 1, "SUCCESS": 2, "FAILURE": 1, "TIMEOUT": 0}
    spent = {
        name: said["jobstore_job_duration_seconds", (*plain, ("statistic", name))]
        for name in ("average", "p50", "p95", "max")
    }
    assert spent == {"average": 2, "p50": 2, "p95": 3, "max": 3}
    at = {
        name: said[f"jobstore_job_{name}_timestamp_seconds", plain]
        for name in ("last_run", "last_success", "last_failure", "next_run")
    }
    assert at == {
        "last_run": NOW.timestamp(),
        "last_success": NOW.replace(minute=20).timestamp(),
        "last_failure": NOW.replace(minute=10).timestamp(),
        "next_run": NOW.replace(hour=9).timestamp(),
    }
    assert said["jobstore_job_enabled", plain] == 1
    assert said["jobstore_job_enabled", (("job_name", "off"),)] == 0


def test_the_totals_are_over_all(store):
    said = parsed(metrics.metrics(store, max_jobs=0))
    states = {state: said["jobstore_jobs", (("state", state),)] for state in ("running", "new", "disabled", "ok")}
    assert states == {"running": 1, "new": 1, "disabled": 1, "ok": 0}
    assert said["jobstore_executions", (("status", "SUCCESS"),)] == 2
    assert said["jobstore_jobs_left_out", ()] == 3


def test_a_job_that_never_ran_has_no_dates(store):
    names = {name for name, labels in parsed(metrics.metrics(store)) if ("job_name", "off") in labels}
    assert names == {"jobstore_job_enabled", "jobstore_job_executions", "jobstore_job_failures_in_a_row",
                     "jobstore_job_runs_total", "jobstore_job_failures_total", "jobstore_job_state", "jobstore_job_info"}  # fmt: skip
    said = parsed(metrics.metrics(store))
    about = (("job_name", "off"), ("job_type", "kline"), ("job_category", "sync"))
    assert said["jobstore_job_info", about] == 1
    assert said["jobstore_job_state", (("job_name", "off"), ("state", "disabled"))] == 1


def test_counters_never_fall_when_history_is_pruned(tmp_path):
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path, clock=lambda: NOW) as recorder, jobstore.open(path, clock=lambda: NOW) as store:

        def counted(name: str) -> tuple[float, float]:
            said = parsed(metrics.metrics(store))
            runs, failures = (
                said[f"jobstore_job_{each}_total", (("job_name", name),)] for each in ("runs", "failures")
            )
            return runs, failures

        for number in range(12):
            name = "ab"[number % 2]
            recorder.save_job(name, job_type="kline", job_category="sync", interval_seconds=60)
            run = recorder.enqueue(name, at=NOW.replace(minute=number))
            recorder.start(run, at=NOW.replace(minute=number))
            recorder.finish(run, "FAILURE" if number % 4 == 0 else "SUCCESS", at=NOW.replace(minute=number))
        recorder.enqueue("a")
        assert (counted("a"), counted("b")) == ((6, 3), (6, 0))
        assert recorder.prune(before=NOW.replace(minute=6)) == 6
        assert (counted("a"), counted("b")) == ((6, 3), (6, 0))
        recorder.rename_job("a", "c")
        assert recorder.prune(before=NOW, keep_last=1, archive=tmp_path / "archive.jsonl") == 5
        assert (counted("c"), counted("b")) == ((6, 3), (6, 0))
        recorder.remove_job("b")
        recorder.prune(before=NOW.replace(hour=9))
        recorder.save_job("b", job_type="kline", job_category="sync", interval_seconds=60)
        assert (counted("c"), counted("b")) == ((6, 3), (0, 0))


def test_quotes_and_backslashes_in_a_name_are_escaped(store):
    text = metrics.metrics(store)
    assert r'jobstore_job_enabled{job_name="odd \"name\" \\ 任务"} 1' in text
    assert ("jobstore_job_enabled", (("job_name", 'odd "name" \\ 任务'),)) in parsed(text)


def test_help_and_labels_escape_line_feeds():
    family = metrics.Family("m", "two\nlines \\ here", [(1, {"a": "x\ny"})])
    assert metrics.text(family) == '# HELP m two\\nlines \\\\ here\n# TYPE m gauge\nm{a="x\\ny"} 1\n'


@pytest.mark.parametrize("most", [0, 1, 2, 3, 500])
def test_only_so_many_jobs_have_series(store, most):
    said = parsed(metrics.metrics(store, max_jobs=most))
    assert len({dict(labels)["job_name"] for _, labels in said if "job_name" in dict(labels)}) == min(most, 3)
    assert said["jobstore_jobs_left_out", ()] == 3 - min(most, 3)


def test_a_store_with_more_jobs_than_a_page_is_paged(tmp_path):
    path = tmp_path / "many.db"
    job: dict[str, object] = {
        "job_type": "kline", "job_category": "sync", "description": None, "schedule_type": "interval", "schedule": None,
        "interval_seconds": 60, "parameters": {}, "timeout_seconds": None, "max_instances": 1, "enabled": True,
        "last_run_at": None, "next_run_at": None, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    names = [f"job-{number:04d}" for number in range(1_203)]
    jobstore.load(path, {"jobs": [{**job, "id": name, "name": name} for name in names], "executions": []})
    with jobstore.open(path) as store:
        said = parsed(metrics.metrics(store, max_jobs=1_100))
    seen = [dict(labels)["job_name"] for name, labels in said if name == "jobstore_job_enabled"]
    assert seen == names[:1_100]
    assert said["jobstore_jobs_left_out", ()] == 103


@pytest.mark.parametrize("value", [0, 1, -1, 0.001, 0.0000001, 1e15, 1768464000.123456, 2.5, 10_000_000.25])
def test_a_number_reads_back_and_has_no_exponent(value):
    said = metrics.number(value)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]*[1-9])?", said)
    assert math.isclose(float(said), value, abs_tol=1e-6)

"""The document's three usage scenarios, run as written, and its notes."""

from __future__ import annotations

import inspect
import io
import json
import sqlite3
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from tests.seed import api
from tests.wsgi import ask

if TYPE_CHECKING:
    from pathlib import Path


def printed(scenario: str, datahub: jobstore.JobStore) -> list[str]:
    """The lines that a scenario prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(scenario, "<scenario>", "exec"), {"datahub": datahub})
    return out.getvalue().splitlines()


def test_scenario_1_prints_the_latest_failures(datahub: jobstore.JobStore) -> None:
    assert printed(api.FAILED_RUNS, datahub) == [
        "任务 sync_symbols_all 失败: Connection timeout",
        "  Trace ID: xyz789abc012",
        "  时间: 2026-01-15T00:00:00Z",
    ]


def test_scenario_2_prints_the_average_and_the_success_rate(datahub: jobstore.JobStore) -> None:
    assert printed(api.EFFICIENCY, datahub) == ["平均执行时间: 150.00 秒", "成功率: 100.0%"]


def test_scenario_3_prints_the_jobs_of_category_sync(datahub: jobstore.JobStore) -> None:
    assert printed(api.CONFIGURATION, datahub) == [
        "任务: sync_klines_1h",
        "  类型: kline",
        "  调度: 0 * * * *",
        "  下次执行: 2026-01-15T09:00:00Z",
        "任务: sync_symbols_all",
        "  类型: symbol",
        "  调度: 0 0 * * *",
        "  下次执行: 2026-01-16T00:00:00Z",
    ]


@pytest.mark.parametrize(
    "scenario", [api.FAILED_RUNS, api.EFFICIENCY, api.CONFIGURATION], ids=["failed runs", "efficiency", "configuration"]
)
def test_a_scenario_runs_against_a_store_of_many(whole: jobstore.JobStore, scenario: str) -> None:
    assert printed(scenario, whole)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_note_1_the_api_is_read_only(app: Any, method: str) -> None:
    for endpoint in api.ENDPOINTS:
        answer = ask(app, endpoint.path.format(job_id="1"), method=method, token="YOUR_TOKEN")
        assert (answer.status, answer.json["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_note_1_what_answers_cannot_write_the_file(datahub: jobstore.JobStore) -> None:
    assert datahub.connection is not None
    with pytest.raises(sqlite3.Error):
        datahub.connection.execute("DELETE FROM job")


def test_note_2_job_id_takes_a_number_and_a_name(datahub: jobstore.JobStore) -> None:
    assert datahub.get_job("1") == datahub.get_job(1) == datahub.get_job("sync_klines_1h") == api.JOBS[0]
    by_number, by_name = (datahub.get_job_executions(job) for job in ("1", "sync_klines_1h"))
    assert by_number == by_name


def test_note_3_executions_can_be_exported_before_they_are_pruned(shown_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "jobs.db"
    jobstore.load(copy, jobstore.dump(shown_path))
    out = io.StringIO()
    with jobstore.open(copy) as store, jobstore.Recorder(copy) as recorder:
        assert jobstore.export(store, out) == 2
        assert recorder.prune(before="2026-01-15T01:00:00Z") == 1
        assert store.list_job_executions()["data"] == api.EXECUTIONS[:1]
    assert [json.loads(line) for line in out.getvalue().splitlines()] == list(reversed(api.EXECUTIONS))


def test_note_4_a_trace_id_finds_its_executions(datahub: jobstore.JobStore) -> None:
    assert datahub.list_job_executions(trace_id="xyz789abc012")["data"] == api.EXECUTIONS[1:]


def test_note_5_before_and_after_limit_a_query_together(datahub: jobstore.JobStore) -> None:
    window = {"after": "2026-01-15T00:00:00Z", "before": "2026-01-15T07:59:59Z"}
    assert datahub.list_job_executions(**window)["data"] == api.EXECUTIONS[1:]  # type: ignore[arg-type]


def test_the_plain_functions_take_the_store_first(datahub: jobstore.JobStore) -> None:
    assert jobstore.list_jobs(datahub, search="kline") == datahub.list_jobs(search="kline")
    assert list(inspect.signature(jobstore.get_job).parameters)[1:] == ["job_id"]

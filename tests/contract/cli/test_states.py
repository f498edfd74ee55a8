"""States, one execution and counts over time on the command line."""

from __future__ import annotations

import json
from typing import Any

import jobstore
from tests.contract.cli.conftest import execution, job


def rows(answer: Any) -> list[list[str]]:
    return [line.split() for line in answer.lines]


def test_jobs_by_state_say_since_when_and_why(cli, store):
    answer = cli("jobs", store, "--state", "late,lost", "--utc")
    assert rows(answer)[0][:4] == ["JOB", "STATE", "SINCE", "IN_A_ROW"]
    assert [line[:3] for line in rows(answer)[1:]] == [
        ["poll", "lost", "2026-01-15T09:01:00Z"],
        ["同步交易对", "late", "2026-01-04T18:30:00Z"],
        ["sync_klines_1h", "late", "2026-01-15T10:00:00Z"],
    ]
    assert rows(answer)[3][3] == "1"
    assert answer.lines[3].endswith("Connection timeout")


def test_jobs_by_state_as_json_are_the_document(cli, store):
    with jobstore.open(store) as datahub:
        expected = datahub.list_job_states(state="disabled")
    assert cli("jobs", store, "--state", "disabled", "--json").json == expected
    lines = cli("jobs", store, "--state", "disabled", "--jsonl").out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["switched_off"]


def test_an_order_of_states_needs_no_state(cli, store):
    names = [line[0] for line in rows(cli("jobs", store, "--order-by", "attention"))[1:]]
    assert names == ["poll", "同步交易对", "sync_klines_1h", "switched_off"]


def test_enabled_and_state_exclude_each_other(cli, store):
    answer = cli("jobs", store, "--state", "ok", "--enabled")
    assert answer.code == 2
    assert "--enabled and --state exclude each other" in answer.err


def test_an_execution_is_shown_whole(cli, tmp_path):
    error = "first line\n" + "\t  wide   apart " + "x" * 5_000 + "\nlast \x1b[31mline"
    run = execution(7, 1, "a", "FAILURE", 0, error=error, result={"deep": {"list": list(range(50))}})
    jobstore.load(tmp_path / "one.db", {"jobs": [job("a")], "executions": [run]})
    said = cli("execution", tmp_path / "one.db", "7").out
    assert "  first line\n" in said
    assert "          wide   apart " + "x" * 5_000 + "\n" in said
    assert r"last \x1b[31mline" in said
    assert all(f" {number}" in said for number in range(50))
    assert cli("execution", tmp_path / "one.db", "7", "--json").json == run
    missing = cli("execution", tmp_path / "one.db", "8")
    assert (missing.code, missing.err) == (1, "jobstore: Execution not found: 8 [NOT_FOUND]\n")


def test_a_histogram_counts_by_day(cli, store):
    answer = cli("histogram", store, "--bucket", "1d", "--timezone", "Asia/Shanghai")
    assert rows(answer) == [
        ["START", "RUNS", "PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT"],
        ["2026-01-14T16:00:00Z", "65", "1", "1", "61", "1", "1"],
    ]
    assert cli("histogram", store, "poll", "--json").json["buckets"][0]["runs"] == 60


def test_health_is_quiet_and_zero_where_all_is_well(cli, store):
    answer = cli("health", store, "switched_off")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_health_has_a_line_for_each_job_in_trouble(cli, store):
    answer = cli("health", store)
    assert answer.code == 1
    assert [line[:2] for line in rows(answer)[1:]] == [
        ["poll", "lost"], ["同步交易对", "late"], ["sync_klines_1h", "late"],
    ]  # fmt: skip
    assert [line[0] for line in rows(cli("health", store, "poll", "2"))[1:]] == ["poll", "同步交易对"]
    assert cli("health", store, "--state", "failing").code == 0
    assert [each["state"] for each in cli("health", store, "--state=disabled", "--json").json["data"]] == ["disabled"]


def test_health_of_a_job_that_is_not_there_is_an_error(cli, store):
    answer = cli("health", store, "nobody")
    assert answer.code == 1
    assert "Job not found: nobody" in answer.err


def test_health_takes_jobs_alone_where_the_variable_names_the_file(cli, store, monkeypatch):
    monkeypatch.setenv("JOBSTORE_DB", str(store))
    assert cli("health", "switched_off").code == 0
    assert cli("health", "switched_off", "poll").code == 1
    assert cli("health").code == 1

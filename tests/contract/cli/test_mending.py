"""``timezone``, ``close-interrupted`` and ``compact`` on the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jobstore
from jobstore.language.errors import Conflict

LEAVE_A_RUN = """
import os, sys, jobstore
recorder = jobstore.Recorder(sys.argv[1])
recorder.save_job("a", job_type="t", job_category="c", timeout_seconds=1)
block = recorder.run("a", worker_id="w")
block.__enter__()
os._exit(0)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def test_the_zone_is_shown_and_changed_and_the_next_runs_with_it(cli, path):
    with jobstore.Recorder(path, timezone="Asia/Tokyo") as recorder:
        recorder.save_job("a", job_type="t", job_category="c", schedule="0 2 * * *")
    with jobstore.open(path) as store:
        before = store.get_job("a")["next_run_at"]
    assert cli("timezone", str(path)).out == "Asia/Tokyo\n"
    changed = cli("timezone", str(path), "Europe/Berlin")
    assert (changed.code, changed.out) == (0, "")
    assert "now read in Europe/Berlin; before, in Asia/Tokyo" in changed.err
    assert cli("timezone", str(path)).out == "Europe/Berlin\n"
    with jobstore.open(path) as store:
        assert store.get_job("a")["schedule"] == "0 2 * * *"
        assert store.get_job("a")["next_run_at"] != before
    with pytest.raises(Conflict, match="has the time zone Europe/Berlin, not UTC"):
        jobstore.Recorder(path, timezone="UTC")


def test_a_reader_that_is_open_notices_another_zone(path):
    with jobstore.Recorder(path) as recorder, jobstore.open(path) as store:
        recorder.save_job("a", job_type="t", job_category="c", schedule="30 4 * * *")
        first = store.list_job_states()["data"][0]["next_run_at"]
        recorder.set_timezone("Asia/Tokyo")
        later = store.list_job_states()["data"][0]["next_run_at"]
        assert str(first).endswith("T04:30:00Z")
        assert str(later).endswith("T19:30:00Z")
        assert {store.get_job("a")["next_run_at"], store.list_jobs()["data"][0]["next_run_at"]} == {later}
        assert store.timezone == "Asia/Tokyo"


@pytest.mark.parametrize("zone", ["Europe/Berlim", "", "localtime", "+01:00"])
def test_a_zone_that_is_none_is_refused_and_changes_nothing(cli, path, zone):
    jobstore.Recorder(path, timezone="Asia/Tokyo").close()
    refused = cli("timezone", str(path), zone)
    assert refused.code == 2
    assert "timezone must be an IANA name" in refused.err
    assert cli("timezone", str(path)).out == "Asia/Tokyo\n"


@pytest.mark.parametrize("command", ["timezone", "close-interrupted", "compact"])
def test_none_creates_a_store(cli, path, command):
    assert cli(command, str(path)).code == 3
    assert cli(command, str(path), *(["UTC"] if command == "timezone" else [])).code == 3
    assert not path.exists()


def test_runs_whose_process_is_gone_are_closed(cli, path):
    subprocess.run([sys.executable, "-c", LEAVE_A_RUN, path], check=True)
    answer = cli("close-interrupted", str(path))
    assert (answer.code, answer.out, answer.err) == (0, "", "jobstore: closed 1 execution\n")
    with jobstore.open(path) as store:
        assert store.list_job_executions()["data"][0]["status"] == "FAILURE"
    assert cli("close-interrupted", str(path)).err == "jobstore: closed 0 executions\n"


@pytest.mark.parametrize(
    "words", [("--worker-id", "w"), ("--host", "elsewhere"), ("--worker-id", "x", "--worker-id", "w")]
)
def test_those_of_a_host_or_worker_that_is_named_are_closed(cli, path, words):
    elsewhere = f"import socket; socket.gethostname = lambda: 'elsewhere'\n{LEAVE_A_RUN}".replace(
        "timeout_seconds=1", ""
    )
    subprocess.run([sys.executable, "-c", elsewhere, path], check=True)
    assert cli("close-interrupted", str(path)).err == "jobstore: closed 0 executions\n"
    assert cli("close-interrupted", str(path), *words).err == "jobstore: closed 1 execution\n"


def test_a_grace_that_is_no_number_is_refused(cli, path):
    jobstore.Recorder(path).close()
    assert cli("close-interrupted", str(path), "--grace", "soon").code == 2


def test_a_store_is_smaller_after_a_prune_and_compact(cli, path):
    runs = [
        {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-01T00:00:00Z", "result": "x" * 3000}
        for _ in range(500)
    ]
    jobstore.load(path, {"executions": runs})
    size = path.stat().st_size
    assert cli("prune", str(path), "--before", "2026-02-01").code == 0
    answer = cli("compact", str(path))
    assert answer.code == 0
    assert answer.err.endswith("bytes smaller\n")
    assert path.stat().st_size < size / 2
    assert jobstore.check(path) == []

"""The README's code, run as printed: its scheduler, its queries, its server and curl lines, its commands.

Two things are put in the place of what is printed: a free port for 8000, and for `jobstore`, `python`
and `pytest` on the PATH those that run these tests.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from tests.desk import Desk, programs_in, wait_for_line, wait_for_runs
from tests.documents import ROOT, Block, blocks

if TYPE_CHECKING:
    from pathlib import Path

README = ROOT / "README.md"
INTERRUPTED = "KeyboardInterrupt"  # the scheduler is ended by one, perhaps in the middle of a run

DEMO, TESTS = "the demo", "the tests"
RUN = {
    "mirrored": "^# mirrored.py$",
    "exec": "^jobstore exec ",
    "scheduler": "^# scheduler.py$",
    DEMO: "^python3 .* demo$",
    TESTS: "^python3 .* -n 4 -q$",
    "ask": "^# ask.py$",
    "reading": "^jobstore jobs ",
    "serve": "^.umask",
    "curl": "^export TOKEN",
    "mcp": "^{",
    "test_report": "^# test_report.py$",
    "keeping": "^jobstore prune ",
}
"""Every block of the README, by its first line; each has its test below."""

OTHER_PLUGINS = (
    "schemathesis", "hypothesispytest", "anyio", "xdist", "xdist.looponfail", "pytest_cov", "randomly", "timeout",
)  # fmt: skip
"""What happens to be installed here beside the fixture; it takes pytest a second to import."""


def block(name: str) -> Block:
    (found,) = [each for each in blocks(README) if re.search(RUN[name], each.title)]
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs_in(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """A store after the README's scheduler ran for some seconds and its `exec` line once; to be copied."""
    desk = Desk(tmp_path_factory.mktemp("recorded"), programs)
    with desk.running(f"exec python {desk.write(block('scheduler'))}"):
        wait_for_runs(desk.folder / "jobs.db", SUCCESS=2, FAILURE=1)
    desk.run(block("exec"))
    jobstore.backup(desk.folder / "jobs.db", desk.folder / "copy.db")
    return desk.folder / "copy.db"


@pytest.fixture
def desk(tmp_path: Path, programs: Path, recorded: Path) -> Desk:
    """A desk with a store of its own in which the README's jobs have run."""
    shutil.copyfile(recorded, tmp_path / "jobs.db")
    return Desk(tmp_path, programs)


def test_every_block_of_the_readme_has_its_test_here() -> None:
    patterns = list(RUN.values())
    assert [[p for p in patterns if re.search(p, each.title)] for each in blocks(README)] == [[p] for p in patterns]


def test_the_two_commands_stand_alone_and_are_one_line_each() -> None:
    assert [block(name).text.count("\n") for name in (DEMO, TESTS)] == [1, 1]
    assert block(DEMO).text.endswith("jobstore demo\n")


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_the_demo_of_the_first_command_shows_the_jobs(desk: Desk) -> None:
    said = desk.shell(block(DEMO).text.rpartition("&& ")[2].replace(".venv/bin/", ""))
    assert "sync_klines_1h" in said


def test_the_scheduler_and_exec_record_what_ran(recorded: Path) -> None:
    with jobstore.open(recorded) as store:
        assert [job["name"] for job in store.list_jobs()["data"]] == ["check_feed", "nightly", "sync_klines"]
        failed = store.get_job_executions("check_feed")["data"]
        done = store.get_job_executions("sync_klines", status="SUCCESS")["data"]
        (nightly,) = store.get_job_executions("nightly")["data"]
    errors = {run["error"] for run in failed if run["status"] != "RUNNING"} - {INTERRUPTED}
    assert errors == {"ConnectionError: the feed is silent"}
    assert {json.dumps(run["result"]) for run in done} == {'{"processed": 500}'}
    assert nightly["result"] == {"exit_code": 0, "output": "done\n"}


def test_exec_passes_the_output_through(desk: Desk) -> None:
    assert desk.run(block("exec")) == "done\n"


def test_the_mirror_records_what_apscheduler_runs(tmp_path: Path, programs: Path) -> None:
    desk = Desk(tmp_path, programs)
    with desk.running(f"exec python {desk.write(block('mirrored'))}"):
        wait_for_runs(tmp_path / "mirrored.db", SUCCESS=2)
    with jobstore.open(tmp_path / "mirrored.db") as store:
        assert store.get_job("say_hello")["interval_seconds"] == 1


def test_the_queries_answer(desk: Desk) -> None:
    *failed, next_run_at, total, rate = desk.run(block("ask")).splitlines()
    failed = [line for line in failed if not line.endswith(INTERRUPTED)]
    assert failed
    assert all(line.startswith("check_feed 20") and line.endswith("the feed is silent") for line in failed)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT02:00:00Z", next_run_at)
    assert (total, rate) == ("1 runs", "1.0")


def test_the_fixture_makes_the_store_of_a_test(desk: Desk) -> None:
    desk.environment["PYTEST_ADDOPTS"] = " ".join(f"-p no:{plugin}" for plugin in OTHER_PLUGINS)
    assert "1 passed" in desk.shell(f"pytest -q {desk.write(block('test_report'))}")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_curl_as_printed_sees_runs_arrive_while_a_scheduler_records(desk: Desk) -> None:
    scheduler, server = f"exec python {desk.write(block('scheduler'))}", desk.text(block("serve"))
    with desk.running(scheduler), desk.running(server) as serving:
        wait_for_line(serving, "serving")
        first = documents(desk.run(block("curl")))
        wait_for_runs(desk.folder / "jobs.db", SUCCESS=first[2]["pagination"]["total"] + 5, FAILURE=3)
        jobs, nightly, failed, runs, stats = documents(desk.run(block("curl")))
        with jobstore.connect(
            f"http://127.0.0.1:{desk.port}", token=(desk.folder / "token").read_text().strip()
        ) as far:
            assert far.get_job("nightly")["name"] == "nightly"
    assert [job["name"] for job in jobs["data"]] == ["sync_klines"]
    assert jobs["data"][0]["next_run_at"] >= jobs["data"][0]["last_run_at"]
    assert (nightly["name"], nightly["schedule"], nightly["timeout_seconds"]) == ("nightly", "0 2 * * *", 3600)
    assert {run["job_name"] for run in failed["data"] if run["error"] != INTERRUPTED} == {"check_feed"}
    assert failed["pagination"]["total"] >= first[2]["pagination"]["total"]
    assert [run["status"] for run in runs["data"]] == ["SUCCESS"]
    assert stats["by_status"]["SUCCESS"] == stats["runs"] == 1


def documents(said: str) -> list[Any]:
    """The JSON documents that several curls printed one after the other."""
    found, decoder = [], json.JSONDecoder()
    while said:
        document, end = decoder.raw_decode(said)
        found.append(document)
        said = said[end:].lstrip()
    return found


def test_the_configuration_for_ai_programs_names_the_command() -> None:
    (server,) = json.loads(block("mcp").text)["mcpServers"].values()
    assert (server["command"], server["args"][0]) == ("jobstore", "mcp")


def test_the_reading_commands_show_what_ran(desk: Desk) -> None:
    said = desk.run(block("reading"))
    wanted = ("check_feed", "ConnectionError: the feed is silent", '"job_name": "nightly"')
    assert [words for words in wanted if words not in said] == []


def test_the_keeping_commands_work(desk: Desk) -> None:
    desk.run(block("keeping"))
    with jobstore.open(desk.folder / "backup.db") as store, jobstore.open(desk.folder / "jobs.db") as source:
        assert store.list_job_executions() == source.list_job_executions()

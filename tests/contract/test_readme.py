"""The README's code, run as printed: its scheduler, its queries, its server and curl lines, its commands.

Two things are put in the place of what is printed: a free port for 8000, and for `jobstore`, `python`
and `pytest` on the PATH those that run these tests.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from tests.documents import ROOT, Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = ROOT / "README.md"
SECONDS = 60
PRINTED_PORT = "8000"

DEMO, TESTS = "the demo", "the tests"
RUN = {
    DEMO: "^python3 .* demo$",
    TESTS: "^python3 .* -n 2 -q$",
    "scheduler": "^# scheduler.py$",
    "mirrored": "^# mirrored.py$",
    "exec": "^jobstore exec ",
    "ask": "^# ask.py$",
    "test_report": "^# test_report.py$",
    "pytest": "^pytest ",
    "serve": "^.umask",
    "curl": "^export TOKEN",
    "remote": "^# remote.py$",
    "mcp": "^{",
    "tool": "^# tool.py$",
    "reading": "^jobstore jobs ",
    "errors": "^# errors.py$",
    "keeping": "^jobstore export ",
}
"""Every block of the README, by its first line; each has its test below."""


def block(name: str) -> Block:
    (found,) = [each for each in blocks(README) if re.search(RUN[name], each.title)]
    return found


class Desk:
    """A folder with a shell that finds `jobstore`, `python` and `pytest`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "JOBSTORE"))}
        self.environment = {
            **inherited,
            "PATH": f"{programs}:{inherited['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def write(self, name: str) -> str:
        """Puts a block that begins with the name of a file into that file, and returns the name."""
        text = block(name).text
        file = block(name).title.removeprefix("# ")
        (self.folder / file).write_text(text)
        return file

    def shell(self, script: str, *, code: int = 0) -> str:
        """What a script prints; it must end with this exit code, and the first command that fails ends it."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, name: str) -> str:
        """What a block of Python prints when it is run as a file."""
        return self.shell(f"python {self.write(name)}")

    @contextmanager
    def running(self, script: str) -> Iterator[subprocess.Popen[str]]:
        """A script that does not end by itself, with all it starts; Ctrl-C ends it."""
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    said, deadline = "", time.monotonic() + SECONDS
    while wanted not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more after {said!r}"
        line = os.read(process.stdout.fileno(), 65_536).decode()
        assert line, f"it ended: {said}"
        said += line


def wait_for_runs(path: Path, **wanted: int) -> None:
    """Waits until the store has so many executions of each status."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            with jobstore.open(path) as store:
                by_status = store.job_stats()["by_status"]
        except jobstore.StoreNotFound:
            by_status = {}
        if all(by_status.get(status, 0) >= runs for status, runs in wanted.items()):
            return
        time.sleep(0.05)
    pytest.fail(f"not {wanted} in {SECONDS} s, but {by_status}")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of this environment, whatever else is on the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    python = shlex.quote(sys.executable)
    for name, command in {
        "python": python,
        "jobstore": f"{python} -m jobstore",
        "pytest": f"{python} -m pytest",
    }.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """A store after the README's scheduler ran for some seconds and its `exec` line once; to be copied."""
    desk = Desk(tmp_path_factory.mktemp("recorded"), programs)
    with desk.running(f"exec python {desk.write('scheduler')}"):
        wait_for_runs(desk.folder / "jobs.db", SUCCESS=2, FAILURE=1)
    desk.shell(block("exec").text)
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


def test_the_first_command_is_the_demo_and_the_second_passes_the_tests() -> None:
    commands = [each.text for each in blocks(README) if each.language == "bash"][:2]
    assert commands == [block(DEMO).text, block(TESTS).text]
    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].endswith("jobstore demo\n")


def test_the_demo_of_the_first_command_shows_the_jobs(desk: Desk) -> None:
    said = desk.shell(block(DEMO).text.rpartition("&& ")[2].replace(".venv/bin/", ""))
    assert "sync_klines_1h" in said


def test_the_scheduler_and_exec_record_what_ran(recorded: Path) -> None:
    with jobstore.open(recorded) as store:
        assert [job["name"] for job in store.list_jobs()["data"]] == ["check_feed", "nightly", "sync_klines"]
        failed = store.get_job_executions("check_feed")["data"]
        done = store.get_job_executions("sync_klines", status="SUCCESS")["data"]
        (nightly,) = store.get_job_executions("nightly")["data"]
    assert {run["error"] for run in failed if run["status"] != "RUNNING"} == {"ConnectionError: the feed is silent"}
    assert {json.dumps(run["result"]) for run in done} == {'{"processed": 500}'}
    assert nightly["result"] == {"exit_code": 0, "output": "done\n"}


def test_exec_passes_the_output_through(desk: Desk) -> None:
    assert desk.shell(block("exec").text) == "done\n"


def test_the_mirror_records_what_apscheduler_runs(tmp_path: Path, programs: Path) -> None:
    desk = Desk(tmp_path, programs)
    with desk.running(f"exec python {desk.write('mirrored')}"):
        wait_for_runs(tmp_path / "mirrored.db", SUCCESS=2)
    with jobstore.open(tmp_path / "mirrored.db") as store:
        assert store.get_job("say_hello")["interval_seconds"] == 1


def test_the_queries_answer(desk: Desk) -> None:
    *failed, next_run_at, total, rate = desk.python("ask").splitlines()
    assert failed
    assert all(line.startswith("check_feed 20") and line.endswith("the feed is silent") for line in failed)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT02:00:00Z", next_run_at)
    assert (total, rate) == ("1 runs", "1.0")


def test_the_fixture_makes_the_store_of_a_test(desk: Desk) -> None:
    desk.write("test_report")
    assert "1 passed" in desk.shell(block("pytest").text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_curl_as_printed_sees_runs_arrive_while_a_scheduler_records(desk: Desk) -> None:
    port = free_port()

    def ported(name: str) -> str:
        return block(name).text.replace(PRINTED_PORT, port)

    with (
        desk.running(f"exec python {desk.write('scheduler')}"),
        desk.running(ported("serve")) as server,
    ):
        wait_for_line(server, "serving")
        first = answers(desk.shell(ported("curl")))
        wait_for_runs(desk.folder / "jobs.db", SUCCESS=first[2]["pagination"]["total"] + 5, FAILURE=3)
        jobs, nightly, failed, runs, stats = answers(desk.shell(ported("curl")))
        (desk.folder / "remote.py").write_text(ported("remote"))
        assert desk.shell("export TOKEN=$(cat token); python remote.py") == "nightly\n"
    assert [job["name"] for job in jobs["data"]] == ["sync_klines"]
    assert jobs["data"][0]["next_run_at"] >= jobs["data"][0]["last_run_at"]
    assert (nightly["name"], nightly["schedule"], nightly["timeout_seconds"]) == ("nightly", "0 2 * * *", 3600)
    assert {run["job_name"] for run in failed["data"]} == {"check_feed"}
    assert failed["pagination"]["total"] > first[2]["pagination"]["total"]
    assert [run["status"] for run in runs["data"]] == ["SUCCESS"]
    assert stats["by_status"]["SUCCESS"] == stats["runs"] == 1


def answers(said: str) -> list[Any]:
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


def test_the_tool_call_answers(desk: Desk) -> None:
    assert "'name': 'sync_klines'" in desk.python("tool")


def test_the_reading_commands_show_what_ran(desk: Desk) -> None:
    said = desk.shell(block("reading").text)
    assert all(
        words in said for words in ("check_feed", "ConnectionError: the feed is silent", '"job_name": "nightly"')
    )


def test_an_error_says_what_the_comment_says(desk: Desk) -> None:
    promised = re.search(r"print\(error.code, error\)  # (.+)", block("errors").text)
    assert promised is not None
    assert desk.python("errors") == f"{promised[1]}\n"


def test_the_keeping_commands_work(desk: Desk) -> None:
    desk.shell(block("keeping").text)
    with jobstore.open(desk.folder / "backup.db") as store, jobstore.open(desk.folder / "jobs.db") as source:
        assert store.list_job_executions() == source.list_job_executions()

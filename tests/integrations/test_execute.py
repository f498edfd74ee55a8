"""``exec``: the command comes first, its run is recorded, and nothing of it is left behind."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

import jobstore
from jobstore.integrations import command as execute
from jobstore.integrations import runrecord
from jobstore.integrations.localzone import local_timezone
from jobstore.integrations.output import TAIL_BYTES
from jobstore.language.errors import InvalidParameter
from tests.waiting import LONG_SECONDS, until

PYTHON = sys.executable


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


class Runner:
    """Runs commands with files for their output; `stdout` and `stderr` are what went through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stdout = self.stderr = b""

    def __call__(self, *command: str, job: str = "job", **options: Any) -> int:
        paths = self.folder / "stdout", self.folder / "stderr"
        path = options.pop("path", self.folder / "jobs.db")
        with paths[0].open("wb") as out, paths[1].open("wb") as err:
            code = execute.run(path, job, command, stdout=out.fileno(), stderr=err.fileno(), **options)
        self.stdout, self.stderr = (each.read_bytes() for each in paths)
        return code


@pytest.fixture
def run(tmp_path):
    return Runner(tmp_path)


def shell(run: Runner, script: str, **options: Any) -> int:
    return run("sh", "-c", script, **options)


def executions(path: Path) -> list[Any]:
    with jobstore.open(path) as store:
        return store.list_job_executions(limit=1000, order_by="id", order_desc=False)["data"]


def the_execution(path: Path) -> Any:
    (found,) = executions(path)
    return found


def the_job(path: Path, name: str = "job") -> Any:
    with jobstore.open(path) as store:
        return store.get_job(name)


def test_a_success_is_recorded_with_its_output_and_exit_code(run, path):
    assert shell(run, "echo out; echo err >&2") == 0
    assert (run.stdout, run.stderr) == (b"out\n", b"err\n")
    found = the_execution(path)
    assert (found["status"], found["error"]) == ("SUCCESS", None)
    assert found["result"]["exit_code"] == 0
    assert sorted(found["result"]["output"].splitlines()) == ["err", "out"]
    assert found["started_at"] <= found["completed_at"]
    assert found["duration_ms"] >= 0
    assert found["worker_id"]
    assert found["parameters_snapshot"] == {"command": ["sh", "-c", "echo out; echo err >&2"]}


def test_a_command_line_is_recorded_without_what_looks_like_a_secret(run, path):
    assert run("true", "--user", "me", "--password", "s3cret", "--token=s3cret", "mysql://u:s3cret@db/x") == 0
    assert the_job(path)["parameters"]["command"] == [
        "true", "--user", "me", "--password", "***", "--token=***", "mysql://u:***@db/x",
    ]  # fmt: skip


def test_a_failure_is_recorded_with_the_end_of_its_output(run, path):
    assert shell(run, "echo before; echo disk full >&2; exit 3") == 3
    found = the_execution(path)
    assert found["status"] == "FAILURE"
    assert found["result"] == {"exit_code": 3}
    assert found["error"].splitlines()[0] == "Exit code 3"
    assert "disk full" in found["error"]


def test_output_goes_through_byte_for_byte(run, path):
    script = "import os\nfor _ in range(64): os.write(1, bytes(range(256)) * 256); os.write(2, b'\\xff\\x00' * 999)"
    assert run(PYTHON, "-c", script) == 0
    assert run.stdout == bytes(range(256)) * 256 * 64
    assert run.stderr == b"\xff\x00" * 999 * 64
    assert len(the_execution(path)["result"]["output"].encode()) < 4 * TAIL_BYTES


def test_only_the_end_of_a_long_output_is_kept_from_the_beginning_of_a_line(run, path):
    assert shell(run, "seq 1 100000; exit 1") == 1
    lines = the_execution(path)["error"].splitlines()
    assert lines[:2] == ["Exit code 1", "…"]
    assert lines[-1] == "100000"
    assert lines[2:] == [str(number) for number in range(int(lines[2]), 100_001)]
    assert TAIL_BYTES - 10 < len("\n".join(lines[2:])) <= TAIL_BYTES


@pytest.mark.parametrize("script", ["seq 1 100000", "printf '\\1%.0s' $(seq 1 70000)", "printf 'x%.0s' $(seq 1 70000)"])
def test_as_much_of_the_output_is_kept_as_a_result_may_have(run, path, script):
    """Whatever it takes in JSON: up to two bytes short for each line or character that is cut in half."""
    assert run("sh", "-c", script, keep_output=10**9) == 0
    kept = orjson.dumps(the_execution(path)["result"]["output"])
    assert 60 * 1024 - 16 < len(kept) <= 60 * 1024


def test_output_comes_while_the_command_runs(path):
    reading, writing = os.pipe()
    command = ["sh", "-c", "echo first; read line; echo $line"]
    stdin_read, stdin_write = os.pipe()
    process = subprocess.Popen(
        [PYTHON, "-c", ENTRY, path, *command], stdin=stdin_read, stdout=writing, stderr=subprocess.DEVNULL
    )
    os.close(writing)
    os.close(stdin_read)
    with os.fdopen(reading, "rb") as output, os.fdopen(stdin_write, "wb") as answers:
        assert output.readline() == b"first\n"
        answers.write(b"second\n")
        answers.flush()
        assert output.readline() == b"second\n"
    assert process.wait(LONG_SECONDS) == 0


ENTRY = """
import os, sys
from jobstore.integrations.command import run
sys.exit(run(sys.argv[1], "job", sys.argv[2:], timeout_seconds=float(os.environ.get("T", 60)), grace_seconds=0.5))
"""


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_126(run, path, tmp_path, capfd):
    assert run("no-such-command-anywhere") == 127
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    assert run(str(plain)) == 126
    plain.chmod(0o755)
    assert run(str(plain)) == 127  # the shell reads it, and finds no command called "no"
    assert run("nul\0character") == 126
    assert [each["status"] for each in executions(path)] == ["FAILURE"] * 4
    assert executions(path)[0]["error"] == "no-such-command-anywhere: command not found"
    assert "jobstore: no-such-command-anywhere: command not found" in capfd.readouterr().err


def test_a_command_that_a_signal_killed_is_128_and_the_number(run, path):
    assert shell(run, "kill -KILL $$") == 137
    assert shell(run, "kill -TERM $$") == 143
    assert [each["error"] for each in executions(path)] == ["Killed by SIGKILL", "Killed by SIGTERM"]


def test_a_time_out_kills_the_whole_group_and_is_124(run, path):
    script = "sleep 1000 & echo $!; trap '' TERM; sleep 1001 & echo $!; wait; sleep 1002"
    assert shell(run, script, timeout_seconds=3, grace_seconds=0.3) == 124
    found = the_execution(path)
    assert (found["status"], found["result"]) == ("TIMEOUT", {"exit_code": 124})
    assert found["error"].startswith("Timed out after 3 s")
    pids = [int(line) for line in run.stdout.split()]
    assert len(pids) == 2
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_time_out_gives_the_command_its_grace(run, path):
    script = "trap 'echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    assert shell(run, script, timeout_seconds=3, grace_seconds=120) == 124
    assert run.stdout == b"ready\ncleaned up\n"
    assert the_execution(path)["status"] == "TIMEOUT"


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hang_it(run, path):
    assert shell(run, "sleep 1000 & echo $!; exit 5") == 5
    assert the_execution(path)["status"] == "FAILURE"
    os.kill(int(run.stdout), signal.SIGKILL)


def test_a_signal_is_passed_on_to_the_command_and_its_answer_counts(path):
    script = "sleep 1000 & trap 'echo got it; kill $!; exit 9' TERM; echo ready; wait"
    process = subprocess.Popen(
        [PYTHON, "-c", ENTRY, path, "bash", "-c", script],
        stdout=subprocess.PIPE,
        # Also where the tests themselves run under nohup.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert output.readline() == b"got it\n"
    assert process.wait(LONG_SECONDS) == 9
    assert the_execution(path)["result"] == {"exit_code": 9}


def test_what_is_ignored_stays_ignored_as_under_nohup(path):
    under_nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", PYTHON, "-c", ENTRY, path]
    process = subprocess.Popen(
        [*under_nohup, "sh", "-c", "echo ready; read line; exit 4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.communicate(b"\n", timeout=LONG_SECONDS)
    assert process.returncode == 4


def test_a_reader_that_goes_away_ends_the_command_as_it_would_without_us(path):
    process = subprocess.Popen([PYTHON, "-c", ENTRY, path, "yes"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(LONG_SECONDS) == 128 + signal.SIGPIPE
    assert the_execution(path)["error"].startswith("Killed by SIGPIPE")


def test_a_run_is_there_as_running_while_the_command_runs(path):
    process = subprocess.Popen([PYTHON, "-c", ENTRY, path, "sh", "-c", "echo ready; read line"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    until(path.exists)  # on a busy machine the command is not kept waiting for the store
    until(lambda: [run["status"] for run in executions(path)] == ["RUNNING"])
    process.communicate(b"\n", timeout=LONG_SECONDS)
    assert the_execution(path)["status"] == "SUCCESS"


def test_the_job_is_made_with_what_is_given_and_keeps_what_is_not_given_again(run, path):
    shell(run, ":", schedule="0 2 * * *", timeout_seconds=0.9, category="cleanup", job_type="kline")
    job = the_job(path)
    assert (job["schedule"], job["timeout_seconds"], job["job_category"], job["job_type"]) == (
        "0 2 * * *", 1, "cleanup", "kline")  # fmt: skip
    shell(run, ":")
    again = the_job(path)
    assert again == {**again, **{key: job[key] for key in ("schedule", "timeout_seconds", "job_category", "job_type")}}
    shell(run, "true", interval_seconds=60)
    assert (the_job(path)["schedule_type"], the_job(path)["interval_seconds"]) == ("interval", 60)
    assert the_job(path)["parameters"] == {"command": ["sh", "-c", "true"]}


def test_a_new_job_has_words_of_its_own(run, path):
    shell(run, ":")
    job = the_job(path)
    assert (job["job_category"], job["job_type"], job["schedule_type"]) == ("scheduled", "command", "external")


def test_a_new_store_has_the_zone_of_the_machine(run, path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    shell(run, ":")
    with jobstore.open(path) as store:
        assert store.timezone == "Asia/Shanghai"
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert shell(run, ":") == 0
    assert len(executions(path)) == 2
    monkeypatch.setenv("TZ", "CET-1CEST")
    assert local_timezone().name not in ("CET-1CEST", "")


def test_an_empty_command_is_refused(path):
    with pytest.raises(InvalidParameter, match="must name a program"):
        execute.run(path, "job", [])
    assert not path.exists()


@pytest.mark.parametrize("case", ["a folder", "no folder", "not a store", "a pipe"])
def test_a_store_that_cannot_be_written_never_stops_the_command(run, tmp_path, case, capfd):
    path = tmp_path / "jobs.db"
    if case == "a folder":
        path.mkdir()
    elif case == "no folder":
        path = tmp_path / "nowhere" / "jobs.db"
    elif case == "not a store":
        path.write_text("hello")
    else:
        os.mkfifo(path)
    assert shell(run, "echo done; exit 7", path=path) == 7
    assert run.stdout == b"done\n"
    assert "jobstore: this run of job is not recorded: " in capfd.readouterr().err


def test_no_lock_is_left_beside_a_file_that_is_no_store(run, tmp_path, capfd):
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0\n" * 1000)
    assert shell(run, "exit 7", path=path) == 7
    assert "is not a SQLite database" in capfd.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["passwd", "stderr", "stdout"]


def test_a_schedule_that_cannot_be_is_said_and_left_out(run, path, capfd):
    assert shell(run, "exit 7", schedule="every day") == 7
    assert the_job(path)["schedule"] is None
    assert the_execution(path)["status"] == "FAILURE"
    assert "is recorded without its schedule" in capfd.readouterr().err


def test_a_store_that_is_busy_at_first_gets_the_whole_run_later(run, path, monkeypatch, capfd):
    shell(run, ":")
    monkeypatch.setattr(runrecord, "PATIENCE_BEFORE_SECONDS", 0.1)
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.0, lock.close)
    timer.start()
    assert shell(run, "sleep 0.3; exit 6") == 6
    timer.join()
    found = executions(path)[1]
    assert (found["status"], found["result"]) == ("FAILURE", {"exit_code": 6})
    assert found["duration_ms"] >= 300
    assert capfd.readouterr().err == ""


def test_it_runs_outside_of_the_main_thread_too(run, path):
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(shell(run, "exit 2")))
    thread.start()
    thread.join(LONG_SECONDS)
    assert codes == [2]
    assert the_execution(path)["status"] == "FAILURE"


def test_a_command_of_odd_bytes_and_of_great_length_is_recorded(run, path):
    assert run("echo", os.fsdecode(b"\xff"), "x" * 10_000) == 0
    command = the_execution(path)["parameters_snapshot"]["command"]
    assert command[:2] == ["echo", "\\xff"]
    assert 3000 < len(command[2]) < 5000


def test_no_descriptor_and_no_handler_is_left_behind(run):
    shell(run, ":")
    gc.collect()  # what another test left is closed now, not between the two looks
    before = len(list(Path("/proc/self/fd").iterdir())), signal.getsignal(signal.SIGTERM)
    for _ in range(5):
        shell(run, "echo x")
        run("no-such-command-anywhere")
    assert (len(list(Path("/proc/self/fd").iterdir())), signal.getsignal(signal.SIGTERM)) == before

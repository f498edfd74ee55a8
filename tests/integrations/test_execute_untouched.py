"""``exec`` beside a bare shell: the command is untouched, whatever its descriptors, its signals and our calls meet."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.cli.app import run
from jobstore.integrations import command as execute
from jobstore.integrations import output, processgroup, runrecord
from tests.integrations.test_execute import executions, is_alive, the_execution
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXEC = [sys.executable, "-m", "jobstore", "exec"]
FULL = Path("/dev/full")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def words(path: Path, script: str, *options: str) -> list[str]:
    return [*EXEC, str(path), "job", *options, "--", "sh", "-c", script]


def shell(
    path: Path, script: str, *options: str, around: str = '"$@"', **more: Any
) -> subprocess.CompletedProcess[Any]:
    """Runs `script` by exec inside of a line of shell, `around`, that redirects as a person would."""
    line = ["sh", "-c", around, "sh", *words(path, script, *options)]
    return subprocess.run(line, timeout=LONG_SECONDS * 2, check=False, cwd=path.parent, **more)


def in_process(path: Path, script: str, *options: str) -> int:
    """The exit code of the same command line in this process, for what does not depend on the process."""
    return run(words(path, script, *options)[len(EXEC) - 1 :])


@contextmanager
def started(path: Path, script: str, *options: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words(path, script, *options), stdout=subprocess.PIPE, cwd=path.parent, **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


# --- descriptors and output ----------------------------------------------------------------------


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("full", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_output_that_cannot_be_written_is_lost_and_nothing_else(path, monkeypatch, full):
    monkeypatch.chdir(path.parent)
    script = "echo 1; sleep .1; echo 2 >&2; sleep .1; echo 3; touch done; exit 7"
    with FULL.open("wb") as nowhere, (path.parent / "out").open("wb") as out:
        stdout, stderr = ((nowhere if name in full else out).fileno() for name in ("stdout", "stderr"))
        assert execute.run(path, "job", ["sh", "-c", script], stdout=stdout, stderr=stderr) == 7
    assert (path.parent / "done").exists()
    assert "3" in the_execution(path)["error"]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_message_of_ours_that_cannot_be_written_changes_no_exit_code(path):
    nowhere = path.parent / "jobs.db"
    nowhere.mkdir()
    assert b"Traceback" not in shell(Path("/"), "exit 7", capture_output=True).stderr
    for where in (">/dev/full 2>/dev/full", "2>&-", "<&- >&- 2>&-"):
        assert shell(nowhere, "exit 7", around=f'"$@" {where}').returncode == 7


@pytest.mark.parametrize("where", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_of_ours_becomes_a_standard_stream(path, where):
    done = shell(path, "echo SECRET; echo SECRET >&2; exit 3", around=f'"$@" {where}', capture_output=True)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    lock = path.with_name("jobs.db.lock")
    assert b"SECRET" not in (lock.read_bytes() if lock.exists() else b"")
    assert "SECRET" in the_execution(path)["error"]
    assert jobstore.check(path) == []


def test_a_closed_standard_input_stays_closed_for_the_command(path):
    shell(path, "if [ -e /proc/self/fd/0 ]; then echo open; else echo closed; fi", around='"$@" <&-')
    assert the_execution(path)["result"]["output"] == "closed\n"


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("check", "2>&-"),
        ("backup", ">&-"),
        ("prune", "<&- >&- 2>&-"),
        ("export", "2>&-"),
        ("dump", ">&-"),
        ("jobs", "<&- >&- 2>&-"),
        ("executions", "2>&-"),
        ("timezone", ">&-"),
    ],
)
def test_the_other_commands_do_not_mind_closed_streams_either(path, name, where):
    run = {"id": 1, "job_name": "job", "status": "SUCCESS", "started_at": "2026-01-01T00:00:00Z"}
    jobstore.load(path, {"executions": [run]})
    more = {"backup": ["copy.db"], "prune": ["--keep-last", "5"], "export": ["-o", "out.jsonl"]}.get(name, [])
    line = ["sh", "-c", f'"$@" {where}', "sh", sys.executable, "-m", "jobstore", name, str(path), *more]
    done = subprocess.run(line, timeout=LONG_SECONDS, check=False, cwd=path.parent, capture_output=True)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert jobstore.check(path) == []
    assert len(executions(path)) == 1


def test_a_load_from_a_closed_stream_is_refused_in_one_line(path):
    line = ["sh", "-c", '"$@" <&-', "sh", sys.executable, "-m", "jobstore", "load", str(path), "-"]
    done = subprocess.run(line, timeout=LONG_SECONDS, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not path.exists()


def test_every_other_descriptor_reaches_the_command(path):
    around = 'exec 5>five; exec 9>nine; "$@"'
    assert shell(path, "echo A >&5; echo B >&9", around=around).returncode == 0
    assert ((path.parent / "five").read_text(), (path.parent / "nine").read_text()) == ("A\n", "B\n")


def test_no_descriptor_of_ours_reaches_the_command(path):
    seen = subprocess.run(["sh", "-c", "ls /proc/self/fd"], capture_output=True, text=True, check=True).stdout
    assert shell(path, "ls /proc/self/fd", capture_output=True, text=True).stdout == seen


def test_lines_keep_their_order_where_both_streams_are_one(path):
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; echo e$i >&2; done"
    wanted = "".join(f"{number}\ne{number}\n" for number in range(1, 9))
    assert shell(path, script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout == wanted
    assert shell(path, script, around='"$@" >both 2>&1').returncode == 0
    assert (path.parent / "both").read_text() == wanted
    assert all(each["result"]["output"] == wanted for each in executions(path))


def test_output_waits_for_a_descriptor_that_does_not_block(path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(words(path, "seq 1 60000"), stdout=writing)
    os.close(writing)
    time.sleep(0.5)  # the pipe is full by then
    with os.fdopen(reading, "rb") as stream:
        assert stream.read().split() == [b"%d" % number for number in range(1, 60_001)]
    assert process.wait(LONG_SECONDS) == 0


def test_what_the_command_leaves_running_keeps_its_output_and_holds_nothing_up(path):
    go = path.parent / "go"
    late = f"(while [ ! -e {go} ]; do sleep .05; done; echo late; echo late2; touch alive) & echo now; exit 5"
    with (path.parent / "out").open("wb") as out:
        process = subprocess.Popen(words(path, late), stdout=out, stderr=out, cwd=path.parent)
    assert process.wait(LONG_SECONDS) == 5
    assert the_execution(path)["result"] == {"exit_code": 5}
    go.touch()
    until((path.parent / "alive").exists)
    until(lambda: (path.parent / "out").read_text() == "now\nlate\nlate2\n")


def test_what_the_command_leaves_writing_for_ever_holds_nothing_up(path):
    with Path("/dev/null").open("wb") as nowhere:
        process = subprocess.Popen(words(path, "yes & echo $! >pid; exit 4"), stdout=nowhere, cwd=path.parent)
        try:
            assert process.wait(LONG_SECONDS) == 4
            assert is_alive(int((path.parent / "pid").read_text()))
        finally:
            os.kill(int((path.parent / "pid").read_text()), signal.SIGKILL)


def test_with_keep_output_0_the_command_writes_to_the_very_descriptors(path):
    script = "readlink /proc/self/fd/1; readlink /proc/self/fd/2"
    done = shell(path, script, "--keep-output", "0", around='"$@" >one 2>two')
    assert done.returncode == 0
    assert (path.parent / "one").read_text() == f"{path.parent}/one\n{path.parent}/two\n"
    assert the_execution(path)["result"] == {"exit_code": 0}


@pytest.mark.parametrize("code", [0, 6])
def test_keep_output_keeps_the_end_on_success_and_failure(path, code):
    assert in_process(path, f"seq 1 20000; exit {code}", "--keep-output", "20k") == code
    kept = the_execution(path)["result"]["output"]
    assert kept.startswith("…\n")
    assert kept.endswith("\n20000\n")
    assert 20_000 < len(kept) <= 20 * 1024 + 2


def test_output_of_control_characters_fits_whatever_is_asked_for(path):
    script = r"head -c 200000 /dev/zero | tr '\0' '\001'; head -c 100000 /dev/zero"
    assert in_process(path, script, "--keep-output", "1M") == 0
    assert the_execution(path)["status"] == "SUCCESS"
    assert the_execution(path)["result"]["output"]


def test_at_a_terminal_the_command_may_read_and_the_keyboard_reaches_it_once(path):
    leader, follower = pty.openpty()
    script = "trap 'n=$((n+1))' INT; read x </dev/tty; echo got $x; sleep 30; sleep .3; echo interrupts $n; exit 9"
    code = "import fcntl,os,sys,termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words(path, script)], stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    seen = b""

    def read_until(wanted: bytes) -> None:
        nonlocal seen
        while wanted not in seen:
            seen += os.read(leader, 1000)

    try:
        os.write(leader, b"hello\n")
        read_until(b"got hello")
        os.write(leader, b"\x03")
        read_until(b"interrupts 1\r\n")
        assert process.wait(LONG_SECONDS) == 9
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def number_in(file: Path) -> int:
    return int(until(lambda: file.exists() and file.read_text(encoding="ascii").strip()))


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self._leader, follower = pty.openpty()
        code = "import fcntl,os,sys,termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execvp(sys.argv[1], sys.argv[1:])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "bash", "--norc", "--noprofile", "-i"],
            stdin=follower, stdout=follower, stderr=follower, cwd=folder,
        )  # fmt: skip
        os.close(follower)
        self._seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._leader)
        self._process.kill()
        self._process.wait()

    def type(self, line: str) -> None:
        os.write(self._leader, f"{line}\n".encode())

    def read_until(self, wanted: bytes) -> None:
        while wanted not in self._seen:
            assert select.select([self._leader], [], [], LONG_SECONDS)[0], self._seen
            self._seen += os.read(self._leader, 1000)
        self._seen = self._seen.partition(wanted)[2]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no shell with job control here")
def test_in_the_background_of_a_terminal_a_command_takes_nobodys_lines_and_goes_on_in_the_foreground(path):
    with Terminal(path.parent) as terminal:
        terminal.type(f"{shlex.join(words(path, 'read x; echo got $x; exit 5'))} &")
        until(lambda: path.exists() and [each["status"] for each in executions(path)] == ["RUNNING"])
        terminal.type("wait -n; jobs; echo listed")
        terminal.read_until(b"Stopped")
        terminal.read_until(b"\nlisted")
        terminal.type("fg")
        terminal.read_until(b"exit 5")
        terminal.type("hello")
        terminal.read_until(b"got hello")
        terminal.type("echo code $?")
        terminal.read_until(b"code 5")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no shell with job control here")
def test_at_a_terminal_too_a_timeout_ends_all_that_the_command_started(path):
    script = "sleep 1000 & echo $! >one; (sleep 1000 & echo $! >two; wait); :"
    with Terminal(path.parent) as terminal:
        terminal.type(f"{shlex.join(words(path, script, '--timeout', '3'))}; echo code $?")
        terminal.read_until(b"code 124")
        pids = [int((path.parent / name).read_text()) for name in ("one", "two")]
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no shell with job control here")
def test_at_a_terminal_too_a_signal_to_exec_reaches_all_that_the_command_started(path):
    script = "sleep 1000 & echo $! >one; (sleep 1000 & echo $! >two; wait); :"
    with Terminal(path.parent) as terminal:
        terminal.type(f"{shlex.join(words(path, f'echo $PPID >exec; {script}'))}; echo code $?")
        pids = [number_in(path.parent / name) for name in ("exec", "one", "two")]
        os.kill(pids[0], signal.SIGTERM)
        terminal.read_until(b"code 143")
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no shell with job control here")
def test_in_the_background_of_a_terminal_an_interrupt_sent_to_exec_reaches_the_command(path):
    with Terminal(path.parent) as terminal:
        terminal.type(f"{shlex.join(words(path, 'echo $PPID >exec; exec sleep 1000'))} & wait $!; echo code $?")
        os.kill(number_in(path.parent / "exec"), signal.SIGINT)
        terminal.read_until(b"code 130")
    assert the_execution(path)["error"].startswith("Killed by SIGINT")


# --- signals -------------------------------------------------------------------------------------

KNOWN = (
    "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "XCPU", "IO", "PWR", "ABRT", "TRAP", "SYS",
    "STKFLT", "RTMIN", "RTMAX",
)  # fmt: skip
ENDING = [name for name in KNOWN if hasattr(signal, f"SIG{name}")]


def default_signals() -> None:
    for name in ENDING:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)


def test_each_signal_that_would_end_exec_reaches_the_command(path):
    signals = [int(getattr(signal, f"SIG{name}")) for name in ENDING]
    # Written without print: the signal may come while that of "ready" still flushes, and print does not nest.
    program = (
        "import os, signal, time\n"
        f"for each in {signals}: signal.signal(each, lambda number, _: os.write(1, b'got %d\\n' % number))\n"
        "signal.signal(signal.SIGCONT, lambda *_: os._exit(9))\n"
        "os.write(1, b'ready\\n')\nwhile True: time.sleep(.05)"
    )
    line = [*EXEC, str(path), "job", "--", sys.executable, "-c", program]
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=default_signals,  # noqa: PLW1509
    )  # fmt: skip
    try:
        assert line_of(process) == b"ready\n"
        for signum in signals:
            process.send_signal(signum)
            assert line_of(process) == b"got %d\n" % signum
        process.send_signal(signal.SIGCONT)
        assert process.wait(LONG_SECONDS) == 9
    finally:
        process.kill()
        process.communicate()
    assert the_execution(path)["result"] == {"exit_code": 9}


def test_a_signal_that_the_command_does_not_take_ends_it_and_is_recorded(path):
    with started(path, "echo $$; exec sleep 100") as process:
        line_of(process)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(LONG_SECONDS) == 128 + signal.SIGUSR1
    assert the_execution(path)["error"] == f"Killed by SIGUSR1\n{the_execution(path)['error'].splitlines()[1]}"


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]


def test_a_stop_stops_both_and_going_on_lets_both_go_on(path):
    with started(path, "echo $$; read x; exit 3", stdin=subprocess.PIPE) as process:
        pid = int(line_of(process))
        process.send_signal(signal.SIGTSTP)
        until(lambda: state_of(pid) == "T" and state_of(process.pid) == "T")
        process.send_signal(signal.SIGCONT)
        until(lambda: state_of(pid) != "T" and state_of(process.pid) != "T")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(LONG_SECONDS) == 3


def send_to_thread(process: subprocess.Popen[bytes], thread: str, signum: int) -> None:
    """As the system does for a process that it has just let go on, or that got two signals at once."""
    library = ctypes.CDLL(None, use_errno=True)
    tgkill = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
    assert library.syscall(tgkill, process.pid, int(thread), int(signum)) == 0, ctypes.get_errno()


@pytest.mark.skipif(os.uname().machine not in {"x86_64", "aarch64"}, reason="the number of tgkill is not known here")
@pytest.mark.parametrize("limit", [(), ("--timeout", "1000")])
def test_a_signal_that_the_system_gives_to_another_thread_of_exec_reaches_the_command(path, limit):
    with started(path, "trap 'exit 9' TERM; echo ready; while :; do sleep .05; done", *limit) as process:
        line_of(process)
        others = [each.name for each in Path(f"/proc/{process.pid}/task").iterdir() if int(each.name) != process.pid]
        assert others
        send_to_thread(process, others[-1], signal.SIGTERM)
        assert process.wait(LONG_SECONDS) == 9


APART = "sh -c 'echo $$ >apart; exec sleep 1000'"
STUBBORN = """sh -c 'trap "" TERM; echo $$ >apart; while :; do sleep .1; done'"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process started")
@pytest.mark.parametrize("line", [f"timeout 1000 {APART}; :", f"setsid -w {APART}; :", f"setsid {STUBBORN} & wait"])
def test_after_a_timeout_what_made_a_group_of_its_own_ends_too(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    group = processgroup.Group(["sh", "-c", line], keep_bytes=0)
    assert group.start() is None
    pid = number_in(tmp_path / "apart")
    assert group.wait(timeout_seconds=0, grace_seconds=0.5 if STUBBORN in line else LONG_SECONDS).timed_out
    until(lambda: not is_alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process started")
@pytest.mark.parametrize("line", [f"timeout 1000 {APART}; :", f"setsid -w {APART}; :"])
def test_a_signal_to_exec_reaches_what_made_a_group_of_its_own(path, line):
    with started(path, f"exec >/dev/null; {line}") as process:
        pid = number_in(path.parent / "apart")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_SECONDS) == 128 + signal.SIGTERM
    until(lambda: not is_alive(pid))


def test_a_timeout_leaves_a_daemon_that_the_command_started_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    group = processgroup.Group(["sh", "-c", f"(setsid {APART} &); echo $$ >left; exec sleep 1000"], keep_bytes=0)
    assert group.start() is None
    pid, _ = number_in(tmp_path / "apart"), number_in(tmp_path / "left")
    try:
        assert group.wait(timeout_seconds=0).timed_out
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_command_that_is_stopped_ends_when_its_time_is_up(path):
    with started(path, "kill -STOP $$; exit 1", "--timeout", "1") as process:
        assert process.wait(LONG_SECONDS) == 124
    assert the_execution(path)["status"] == "TIMEOUT"


def test_a_parent_that_ignores_its_children_costs_no_exit_code(path):
    """As some daemons do; the system then keeps no exit codes, and the command would seem to succeed."""
    line = words(path, "exit 7")
    code = f"import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execv({line[0]!r}, {line!r})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    assert the_execution(path)["result"] == {"exit_code": 7}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to another process")
@pytest.mark.parametrize("is_at_terminal", [False, True])
def test_after_a_timeout_children_that_were_left_to_exec_hold_it_up_no_longer(path, is_at_terminal):
    """As the first process of a container gets them: ended, they stay until somebody asks."""
    leader, follower = pty.openpty()
    taken = "import fcntl, os, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" if is_at_terminal else ""
    code = taken + (
        "import ctypes, sys\nfrom jobstore.integrations.command import run\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
        "command = ['sh', '-c', 'sleep 1000 & sleep 1000; :']\n"
        f"sys.exit(run({str(path)!r}, 'job', command, timeout_seconds=0.5, grace_seconds=10_000))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdin=follower, check=False, timeout=LONG_SECONDS)
    os.close(leader)
    os.close(follower)
    assert done.returncode == 124


def test_the_command_has_default_signals_and_the_environment_it_was_given(path):
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "ODD": "\udcff=x\n"}
    alone = subprocess.run(["env", "-0"], env=environment, capture_output=True, check=True).stdout
    done = subprocess.run([*EXEC, str(path), "j", "--", "env", "-0"], env=environment, capture_output=True, check=True)
    assert sorted(done.stdout.split(b"\0")) == sorted(alone.split(b"\0"))
    dead = subprocess.run(words(path, "kill -PIPE $$"), check=False)
    assert dead.returncode == 128 + signal.SIGPIPE


# --- what is to be run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first_line", "code", "said"),
    [
        ("touch ran; exit 6", 6, ""),
        ("", 0, ""),
        ("#!/no/such/program", 127, "its interpreter /no/such/program is missing"),
        ("#!/bin/sh\r", 127, "its first line, #!/bin/sh, ends in CR LF"),
        ("#! /usr/bin/env -S no-such-program\r", 127, "CR LF"),
    ],
)
def test_a_script_runs_as_the_system_runs_it_or_the_message_names_the_cause(
    path, monkeypatch, capfd, first_line, code, said
):
    monkeypatch.chdir(path.parent)
    script = path.parent / "s"
    script.write_bytes(f"{first_line}\n".encode())
    script.chmod(0o755)
    ended = run(["exec", str(path), "job", "--", "./s"])
    if said == "CR LF":
        assert ended
        return
    assert ended == code
    assert said in capfd.readouterr().err
    assert said in (the_execution(path)["error"] or "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["cd", "/srv"], "write -- sh -c 'cd ...'"),
        (["A=b", "cmd"], "write -- sh -c '...'"),
        (["cd /srv && ls"], "write -- sh -c '...'"),
        (["export", "A=b"], "write -- sh -c 'export ...'"),
        (["no-such-command-anywhere"], "no-such-command-anywhere: command not found\n"),
        (["/no/such"], "/no/such: command not found\n"),
        ([""], "command is empty"),
    ],
)
def test_what_only_a_shell_understands_is_told_how_to_write_it(path, capfd, command, said):
    assert run(["exec", str(path), "job", "--", *command]) == 127
    told = capfd.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("reports/nightly", "reports%2Fnightly"),
        ("42", "%342"),
        ("", "%"),
        (" x ", "%20x%20"),
        ("a\nb", "a%0Ab"),
        ("..", "%2E."),
    ],
)
def test_a_name_that_no_job_may_have_is_written_as_the_mirrors_write_it(path, capfd, job, name):
    assert run(["exec", str(path), job, "--", "sh", "-c", "exit 7"]) == 7
    assert capfd.readouterr().err == ""
    assert the_execution(path)["job_name"] == name
    if "/" in job:
        for command in ("job", "executions", "stats"):
            assert run([command, str(path), job, "--json"]) == 0
            assert name in capfd.readouterr().out or command == "stats"


# --- the store -----------------------------------------------------------------------------------


def test_a_lock_that_is_held_until_after_the_command_costs_nothing(path):
    assert shell(path, "exit 0").returncode == 0
    holding = f"(flock -x 9; sleep 5) 9>>{path}.lock >/dev/null 2>&1 & sleep .5; exit 7"

    def duration() -> int:
        assert shell(path, holding).returncode == 7
        found = executions(path)[-1]
        assert (found["status"], found["result"]) == ("FAILURE", {"exit_code": 7})
        return int(found["duration_ms"])

    until(lambda: duration() < 4500)  # at once, unless others have the machine


def test_a_store_that_stays_locked_is_told_in_time_and_changes_no_code(path, monkeypatch, capfd):
    shell(path, "exit 0")
    monkeypatch.setattr(runrecord, "PATIENCE_BEFORE_SECONDS", 0.1)
    monkeypatch.setattr(runrecord, "PATIENCE_AFTER_SECONDS", 0.3)
    with subprocess.Popen(
        ["sh", "-c", f"exec 9>>{path}.lock; flock -x 9; echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        assert execute.run(path, "job", ["sh", "-c", "exit 7"]) == 7
        holder.communicate(b"\n")
    assert "this run of job is not recorded: " in capfd.readouterr().err
    until(lambda: threading.active_count() == 1 or not any(t.name == "jobstore-record" for t in threading.enumerate()))


def test_a_server_that_stays_away_is_tried_ever_less_often(monkeypatch):
    pauses: list[float] = []
    away = jobstore.StoreUnreadable("away")
    away.may_repeat = True

    def step(_recorder):
        raise away

    record = runrecord.RunRecord("jobs.db", "job", {})
    monkeypatch.setattr(record, "_opened", lambda: None)
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert record._attempt(step, lambda: len(pauses) == 20) == "away"
    assert pauses == sorted(pauses)
    assert sum(pauses) > 10


def test_what_a_killed_exec_left_is_closed_by_the_next_one_of_its_job(path):
    with started(path, "echo $$; exec sleep 100") as process:
        pid = int(line_of(process))
        until(lambda: path.exists() and [each["status"] for each in executions(path)] == ["RUNNING"])
        process.kill()
        process.wait()
        os.kill(pid, signal.SIGKILL)
    assert shell(path, "exit 0").returncode == 0
    first, second = executions(path)
    assert (first["status"], second["status"]) == ("FAILURE", "SUCCESS")
    assert first["error"].startswith("Interrupted")


def test_a_duration_is_the_commands_own(path):
    """The lock is held until the command has begun: the wait before it is known, however busy the machine is."""
    shell(path, "exit 0")
    mark = path.with_name("begun")
    holding = ["sh", "-c", f"exec 9>>{path}.lock; flock -x 9; echo; while [ ! -e {mark} ]; do sleep .05; done"]
    with subprocess.Popen(holding, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = time.monotonic()
        try:
            assert execute.run(path, "job", ["touch", str(mark)]) == 0
        finally:
            mark.touch()
        within = time.monotonic() - before
    assert executions(path)[-1]["duration_ms"] <= (within - runrecord.PATIENCE_BEFORE_SECONDS) * 1000 + 1


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: a real disk may stall for minutes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


FIFTY = """
import os, sys
from jobstore.cli.app import run

sys.modules["numpy"] = sys.modules["pandas"] = None  # as `main` does
store, told = sys.argv[1:]
run(["exec", f"{store}.other", "job", "--", "true"])
wait, go = os.pipe()
children = []
for number in range(50):
    children.append(os.fork())
    if not children[-1]:
        os.dup2(os.open(f"{told}/{number}", os.O_WRONLY | os.O_CREAT), 2)
        os.close(go)
        os.read(wait, 1)
        os._exit(run(["exec", store, f"job{number % 15}", "--", "sh", "-c", f"exit {number}"]))
os.close(go)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == list(range(50)), codes
"""
"""Forked when one run has imported all that is needed, so that they do begin in the same moment."""


def fifty_at_once(store: Path, **more: str) -> None:
    """Start fifty commands in the same moment; each has its own code, says nothing and is recorded."""
    told = store.with_name("told")
    told.mkdir()
    line = [sys.executable, "-c", FIFTY, str(store), str(told)]
    subprocess.run(line, check=True, env={**os.environ, **more}, timeout=LONG_SECONDS * 2)
    assert [each.read_bytes() for each in told.iterdir()] == [b""] * 50
    found = executions(store)
    assert sorted(each["result"]["exit_code"] for each in found) == list(range(50))
    assert {each["status"] for each in found} == {"SUCCESS", "FAILURE"}


def test_fifty_in_one_minute_are_all_recorded_while_both_cores_are_busy(memory):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        fifty_at_once(memory / "jobs.db")
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.skipif(shutil.which("cc") is None, reason="a slow disk is made by a C library")
def test_fifty_in_one_minute_are_all_recorded_on_a_slow_disk(memory):
    source = Path(__file__).parents[1] / "reliability" / "slow_io.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", memory / "slow_io.so", source, "-ldl"], check=True)
    fifty_at_once(memory / "jobs.db", LD_PRELOAD=str(memory / "slow_io.so"), SLOW_MS="20")


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("category", ("--schedule", "0 2 * * *", "--category", "")),
        ("type", ("--schedule", "0 2 * * *", "--type", "x" * 300)),
        ("timeout", ("--schedule", "0 2 * * *", "--timeout", "99999d")),
        ("schedule", ("--schedule", "x", "--category", "c")),
    ],
)
def test_what_no_job_may_have_is_said_and_left_out_and_the_run_recorded(path, capfd, part, options):
    assert in_process(path, "exit 7", *options) == 7
    told = capfd.readouterr().err
    assert f"the job job is recorded without its {part}: " in told
    assert len(told.splitlines()) == 1
    assert the_execution(path)["result"] == {"exit_code": 7}
    with jobstore.open(path) as store:
        assert part == "schedule" or store.get_job("job")["schedule"] == "0 2 * * *"


# --- the hook ------------------------------------------------------------------------------------


def test_a_failure_runs_the_hook_with_what_is_known(path):
    hook = 'echo "$JOBSTORE_JOB $JOBSTORE_EXECUTION_ID $JOBSTORE_STATUS $JOBSTORE_ERROR" >hook'
    assert shell(path, "echo oh; exit 3", "--on-failure", hook).returncode == 3
    assert (path.parent / "hook").read_text() == "job 1 FAILURE Exit code 3\noh\n"
    assert shell(path, "sleep 9", "--timeout", "1", "--on-failure", hook).returncode == 124
    assert (path.parent / "hook").read_text() == "job 2 TIMEOUT Timed out after 1 s\n"
    (path.parent / "hook").unlink()
    assert shell(path, "exit 0", "--on-failure", hook).returncode == 0
    assert not (path.parent / "hook").exists()


def test_a_hook_that_fails_is_told_and_changes_no_code(path):
    done = shell(path, "exit 3", "--on-failure", "exit 5", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "jobstore: the --on-failure command ended with exit code 5\n")


@pytest.mark.parametrize("line", ["sleep 1000; :", "timeout 1000 sleep 1000; :"])
def test_a_hook_that_does_not_end_is_killed_with_all_it_started(path, monkeypatch, capfd, line):
    monkeypatch.setattr(execute, "HOOK_SECONDS", 0.5)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        assert execute.run(path, "job", ["false"], on_failure=line, stdout=writing) == 1
        os.close(writing)
        assert select.select([stream], [], [], LONG_SECONDS)[0]  # nothing holds the pipe any more
    assert "the --on-failure command did not end within 0.5 s and was killed" in capfd.readouterr().err


# --- our own calls, each failing in turn ---------------------------------------------------------


class Fault(Exception):
    pass


class Faults:
    """Counts the calls that are ours, and lets the one of a number fail, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.failing, self.failed = 0, 0, ""
        self._patch = monkeypatch
        self._lock = threading.Lock()

    def on(self, owner: Any, name: str, error: Callable[[], BaseException] = Fault) -> None:
        real = getattr(owner, name)

        def called(*given: Any, **more: Any) -> Any:
            thread = threading.current_thread()
            if thread is not threading.main_thread() and not thread.name.startswith("jobstore-"):
                return real(*given, **more)  # a server of other tests in this process
            with self._lock:
                self.count += 1
                if self.count == self.failing:
                    self.failed = f"{getattr(owner, '__name__', owner)}.{name}"
                    raise error()
            return real(*given, **more)

        self._patch.setattr(owner, name, called)


def faulty(monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException]) -> Faults:
    from jobstore.recording.recorder import Recorder
    from jobstore.storage.writer import Writer

    faults = Faults(monkeypatch)
    for owner, names in {
        Recorder: ["__init__", "begin", "finish", "close", "close_interrupted"],
        Writer: ["transaction"],
        socket: ["gethostname"],
        runrecord.RunRecord: ["_opened", "_begun"],
        os: ["pipe"],
        output.Pump: ["__init__"],
        output.Tail: ["add"],
        select: ["poll"],
        threading.Thread: ["start"],
    }.items():
        for name in names:
            faults.on(owner, name, error)
    return faults


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize(
    "error",
    [
        Fault,
        lambda: OSError(5, "Input/output error"),
        lambda: RuntimeError("can't start new thread"),
        MemoryError,
        SystemExit,
    ],
)
def test_whichever_call_of_ours_fails_the_command_is_untouched_and_recorded(tmp_path, monkeypatch, error, capfd):
    script = "echo out; echo err >&2; exit 7"
    number, calls = 0, 1
    while number < calls:
        number += 1
        store = tmp_path / f"{number}.db"
        with monkeypatch.context() as patch, (tmp_path / "out").open("wb") as out:
            faults = faulty(patch, error)
            faults.failing = number
            code = execute.run(store, "job", ["sh", "-c", script], stdout=out.fileno(), stderr=out.fileno())
            calls = max(calls, faults.count) if number == 1 else calls
        where = f"call {number} of {calls}, {faults.failed}"
        assert code == 7, where
        assert (tmp_path / "out").read_bytes() == b"out\nerr\n", where
        found = the_execution(store)
        assert (found["status"], found["result"]) == ("FAILURE", {"exit_code": 7}), where
    assert number > 15
    assert "Traceback" not in capfd.readouterr().err
    gc.collect()  # where closing is the call that fails, a connection stays open: Python 3.13 says so, here


def test_an_installation_that_is_broken_still_runs_the_command(tmp_path):
    (tmp_path / "sqlite3.py").write_text("raise ImportError('no sqlite here')")
    (tmp_path / "click.py").write_text("raise ImportError('no click here')")
    for broken, said in (("sqlite3", "no sqlite here"), ("click", "no click here")):
        folder = tmp_path / f"only-{broken}"
        folder.mkdir()
        (tmp_path / f"{broken}.py").rename(folder / f"{broken}.py")
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        line = [*EXEC, str(tmp_path / "j.db"), "job", "--", "sh", "-c", "echo hello; exit 7"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, done.stdout) == (7, "hello\n"), broken
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def with_click(folder: Path, source: str, *line: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line with a module `click` of this text."""
    (folder / "click.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def test_a_module_that_exits_when_it_is_imported_still_lets_the_command_run(tmp_path):
    done = with_click(tmp_path, "raise SystemExit(3)", *words(tmp_path / "j.db", "echo hello; exit 7"))
    assert (done.returncode, done.stdout) == (7, "hello\n")
    assert done.stderr == "jobstore: this run is not recorded: SystemExit: 3\n"


@pytest.mark.parametrize("name", ["exec", "jobs"])
def test_an_interrupt_before_anything_has_begun_ends_quietly(tmp_path, name):
    line = words(tmp_path / "j.db", "echo hello") if name == "exec" else [*EXEC[:-1], name, "j.db"]
    done = with_click(tmp_path, "raise KeyboardInterrupt", *line)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_libraries_that_a_new_store_does_not_need_end_nothing(tmp_path):
    """sqlite-utils imports them where they are; OpenBLAS ends its process where memory is limited."""
    for name in ("numpy", "pandas"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(1)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words(tmp_path / "j.db", "exit 7"), check=False, env=environment)
    assert done.returncode == 7
    assert the_execution(tmp_path / "j.db")["result"] == {"exit_code": 7}


def test_no_store_that_hangs_holds_the_command_up(tmp_path, monkeypatch, capfd):
    released = threading.Event()

    def hanging(*_given: Any, **_more: Any) -> Any:
        released.wait(LONG_SECONDS)
        raise Fault

    monkeypatch.setattr(runrecord.RunRecord, "_open", hanging)
    monkeypatch.setattr(runrecord, "PATIENCE_BEFORE_SECONDS", 0.1)
    monkeypatch.setattr(runrecord, "PATIENCE_AFTER_SECONDS", 0.1)
    assert execute.run(tmp_path / "j.db", "job", ["sh", "-c", "exit 7"]) == 7
    assert "not recorded: the store did not answer in time" in capfd.readouterr().err
    released.set()
    until(lambda: not any(thread.name == "jobstore-record" for thread in threading.enumerate()))


def test_where_descriptors_run_out_the_command_has_those_of_its_pipes(tmp_path, monkeypatch):
    """What it says is not kept then; that it ran is recorded, without the time that was spent on trying."""
    start, out = subprocess.Popen, (tmp_path / "out").open("wb")

    def scarce(command: list[str], **more: Any) -> Any:
        if more["stdout"] != out.fileno():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return start(command, **more)

    monkeypatch.setattr(subprocess, "Popen", scarce)
    with out:
        code = execute.run(tmp_path / "j.db", "job", ["sh", "-c", "echo out; exit 7"], stdout=out.fileno())
    assert code == 7
    assert (tmp_path / "out").read_bytes() == b"out\n"
    found = the_execution(tmp_path / "j.db")
    assert (found["status"], found["result"]) == ("FAILURE", {"exit_code": 7})


def test_a_folder_that_is_gone_takes_neither_the_code_nor_the_hook(tmp_path):
    line = [*EXEC, "rel.db", "job", "--on-failure", "echo hook $JOBSTORE_STATUS", "--", "sh", "-c", "exit 7"]
    there = tmp_path / "there"
    there.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir ../there; exec "$@"', "sh", *line], cwd=there, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "hook FAILURE\n")
    assert "The current folder no longer exists; give the absolute path of rel.db" in done.stderr


def test_where_no_process_can_be_made_the_reason_is_told(tmp_path, monkeypatch, capfd):
    def refused(*_given: Any, **_more: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert execute.run(tmp_path / "j.db", "job", ["sh"]) == 126
    assert "sh: Resource temporarily unavailable" in capfd.readouterr().err

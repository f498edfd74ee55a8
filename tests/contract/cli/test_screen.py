"""On a terminal: what fits, colours, watching, and how a command ends when it is interrupted."""

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import jobstore
from jobstore.cli.screen import say
from jobstore.transfer.dump import dump

from .conftest import DEADLINE_SECONDS, command, environment

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(terminal: Any) -> list[str]:
    assert terminal.end() == 0, terminal.text
    return ANSI.sub("", terminal.text).splitlines()


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("words", [("jobs",), ("executions", "--limit", "100"), ("job", "同步交易对"), ("stats",)])
def test_no_line_is_wider_than_the_terminal(terminal, store, columns, words):
    lines = shown(terminal(words[0], store, *words[1:], columns=columns))
    assert max(map(cell_len, lines)) <= columns
    assert any("同步" in line for line in lines) or words == ("stats",)


def test_columns_stand_under_each_other_with_chinese_names_too(terminal, store):
    lines = shown(terminal("jobs", store, columns=80))
    rows = [line for line in lines[1:] if line and not line.startswith("4 jobs")]
    starts = {cell_len(re.split(r"[!○…▶✓✗·]", row)[0]) for row in rows}
    assert len(starts) == 1


def test_an_error_without_a_column_stands_under_its_row(terminal, store):
    lines = shown(terminal("executions", store, "--status", "FAILURE", columns=70))
    assert lines[2].strip() == "交易所返回错误：\\x1b[31m请求过于频繁 second line"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A store that another program filled with what terminals obey."""
    path, text = tmp_path / "hostile.db", "\x1b]0;title\x07\x9b31m\u202e\r"
    with jobstore.Recorder(path) as recorder:
        recorder.save_job("job", job_type="t", job_category="c", schedule="0 2 * * *", description=text)
        recorder.finish(recorder.enqueue("job", worker_id=text), "FAILURE", error=text, result={"text": text})
    with sqlite3.connect(path) as file:
        file.execute("UPDATE setting SET value = ? WHERE key = 'timezone'", (text,))
    file.close()
    return path


@pytest.mark.parametrize(
    "words",
    [("jobs",), ("jobs", "--csv"), ("job", "job"), ("job", "job", "--json"), ("executions", "--jsonl"),
     ("executions", "--csv"), ("execution", "1"), ("export", "--format", "csv"), ("dump",), ("timezone",)],
)  # fmt: skip
def test_no_text_of_a_store_controls_the_terminal(terminal, hostile, words):
    lines = shown(terminal(words[0], hostile, *words[1:], columns=200))
    assert [line for line in lines if not line.isprintable()] == []


def test_json_on_a_terminal_has_the_same_values(terminal, hostile):
    (line,) = [line for line in shown(terminal("executions", hostile, "--jsonl")) if line.startswith("{")]
    assert json.loads(line)["error"] == "\x1b]0;title\x07\x9b31m\u202e\r"


def test_a_wide_terminal_shows_more_columns(terminal, store):
    narrow, wide = (shown(terminal("jobs", store, columns=columns))[0] for columns in (70, 160))
    assert "DESCRIPTION" not in narrow
    assert wide.split("  ")[-1] == "DESCRIPTION"
    assert "WHEN (Asia/Shanghai)" in wide


def test_a_narrow_terminal_keeps_what_tells_the_rows_apart(terminal, store):
    assert "sync_klines_1h" in "".join(shown(terminal("jobs", store, columns=56)))
    for columns in (44, 60):
        lines = shown(terminal("histogram", store, "--bucket", "1d", columns=columns))
        assert lines[0].startswith("START (UTC) ")
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d ", lines[1])


@pytest.mark.parametrize("words", [("stats",), ("job", "同步交易对")])
def test_a_narrow_terminal_wraps_the_facts_of_a_card(terminal, store, words):
    """The values are under each other, and none is cut; those that count from now may change between the two calls."""
    wide, narrow = (shown(terminal(words[0], store, *words[1:], columns=columns)) for columns in (200, 40))
    assert len(narrow) > len(wide)
    facts = "".join(narrow[narrow.index("") :]).split()
    for line in wide[wide.index("") :]:
        assert set(re.sub(r"[█▏▎▍▌▋▊▉]|\(in .*?\)", "", line).split()) <= set(facts), line


def test_the_zone_is_in_the_heading(terminal, store):
    assert "STARTED (UTC+05:45)" in shown(terminal("executions", store, columns=100))[0]
    assert "STARTED (UTC)" in shown(terminal("executions", store, "--utc", columns=100))[0]


def test_a_page_ends_in_a_line_about_itself(terminal, store):
    assert shown(terminal("executions", store))[-1] == "rows 1-50 of 65; next: --offset 50"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_terminal_has_colours_and_marks_unless_it_is_told_not_to(terminal, store, variables, coloured):
    one = terminal("executions", store, "--limit", "100", **variables)
    assert one.end() == 0
    assert ("\x1b[" in one.text) is coloured
    assert ("✗ FAILURE" in ANSI.sub("", one.text)) is coloured
    assert "FAILURE" in one.text


def test_a_pipe_has_no_colours_unless_forced(process, store):
    assert "\x1b[" not in process("jobs", store).out
    assert "\x1b[" in process("jobs", store, FORCE_COLOR="1").out


def test_json_on_a_terminal_is_json(terminal, store):
    import json

    one = terminal("jobs", store, "--json")
    assert one.end() == 0
    assert len(json.loads(one.text)["data"]) == 4


# Watching.


def test_watch_draws_again_until_ctrl_c_and_gives_the_screen_back(terminal, store):
    one = terminal("jobs", store, "--watch", "0.1", rows=30)
    one.read_until(lambda text: text.count("\x1b[H") >= 3)
    one.send_signal(signal.SIGINT)
    assert one.end() == 130
    assert one.text.startswith("\x1b[?1049h\x1b[?25l")
    assert one.text.endswith("\x1b[?25h\x1b[?1049l")
    assert "every 0.1 s; Ctrl-C to stop" in one.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_watch_gives_the_screen_back_when_it_is_terminated(terminal, store, number):
    one = terminal("jobs", store, "--watch")
    one.read_until(lambda text: "Ctrl-C to stop" in text)
    one.send_signal(number)
    assert one.end() == -number
    assert one.text.endswith("\x1b[?25h\x1b[?1049l")


def test_watch_gives_the_screen_back_while_it_is_stopped_and_draws_again_after_it(store, tmp_path):
    leader, follower = pty.openpty()
    line = command("jobs", store, "--watch", "86400")
    watching = subprocess.Popen(
        line, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, env=environment(TERM="xterm"),
        process_group=0,
    )  # fmt: skip
    os.close(follower)
    try:
        for number, wanted in ((None, b"to stop"), (signal.SIGTSTP, b"\x1b[?25h\x1b[?1049l")):
            if number:
                watching.send_signal(number)
            read_until(leader, wanted)
        assert os.WIFSTOPPED(os.waitpid(watching.pid, os.WUNTRACED)[1])
        watching.send_signal(signal.SIGCONT)
        read_until(leader, b"\x1b[?1049h\x1b[?25l")
        read_until(leader, b"to stop")
    finally:
        watching.kill()
        watching.wait()
        os.close(leader)


def read_until(terminal: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        assert select.select([terminal], [], [], DEADLINE_SECONDS)[0], seen
        seen += os.read(terminal, 1)


@pytest.mark.parametrize("name", ["dumb", ""])
def test_watch_on_a_dumb_terminal_writes_one_drawing_after_the_other(terminal, store, name):
    one = terminal("jobs", store, "--watch", "0.1", TERM=name)
    one.read_until(lambda text: text.count("poll") >= 2)
    one.send_signal(signal.SIGINT)
    assert one.end() == 130
    assert "\x1b" not in one.text


def test_a_drawing_is_no_higher_than_the_screen(terminal, store):
    one = terminal("executions", store, "--watch", rows=12)
    one.read_until(lambda text: "Ctrl-C to stop" in text)
    one.send_signal(signal.SIGINT)
    one.end()
    frame = ANSI.sub("", one.text.split("\x1b[H")[1])
    assert len(frame.splitlines()) <= 12
    assert "more lines; make the window taller" in frame


def test_watch_sees_a_run_that_starts_meanwhile(terminal, tmp_path):
    import jobstore

    path = tmp_path / "live.db"
    with jobstore.Recorder(path) as recorder:
        recorder.save_job("live", job_type="kline", job_category="sync", interval_seconds=60)
        one = terminal("executions", path, "--watch", "0.1")
        one.read_until(lambda text: "no executions match" in text)
        with recorder.run("live"):
            one.read_until(lambda text: "RUNNING" in text)
        one.read_until(lambda text: "SUCCESS" in text)
    one.send_signal(signal.SIGINT)
    assert one.end() == 130


@pytest.mark.parametrize("name", ["xterm", "dumb"])
def test_watch_goes_on_when_the_store_is_there_again(terminal, store, tmp_path, name):
    own, away = tmp_path / "own.db", tmp_path / "away.db"
    jobstore.load(own, dump(store))
    one = terminal("jobs", own, "--watch", "0.1", TERM=name)
    one.read_until(lambda text: "poll" in text)
    own.rename(away)
    one.read_until(lambda text: "is no job store" in text)
    away.rename(own)
    one.read_until(lambda text: "poll" in text.rpartition("is no job store")[2])
    one.send_signal(signal.SIGINT)
    assert one.end() == 130


def test_watch_in_a_pipe_writes_one_drawing_after_the_other(store):
    with subprocess.Popen(
        command("stats", store, "--watch=0.1"), stdout=subprocess.PIPE, text=True, env=environment()
    ) as watching:
        assert watching.stdout is not None
        seen = 0
        while seen < 2:
            seen += watching.stdout.readline().startswith("all jobs")
        watching.send_signal(signal.SIGINT)
        rest = watching.communicate(timeout=DEADLINE_SECONDS)[0]
    assert watching.returncode == 130
    assert "\x1b" not in rest


@pytest.mark.parametrize("seconds", ["0", "nan", "inf", "-1", "1e3", "１", "", "86401", "1_0"])
def test_a_watch_needs_a_sensible_number_of_seconds(cli, store, seconds):
    answer = cli("jobs", store, f"--watch={seconds}")
    assert answer.code == 2
    assert "--watch must be a number of seconds from 0.1 to 86400" in answer.err


def test_watch_does_not_take_the_file_for_its_seconds(terminal, store):
    one = terminal("jobs", "--watch", store)
    one.read_until(lambda text: "every 2 s" in text)


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_watch_and_json_exclude_each_other(cli, store, form):
    assert cli("jobs", store, "--watch", form).code == 2


# How a command ends.


def test_a_reader_that_goes_away_ends_a_command_quietly(store):
    for words in (("executions", store, "--jsonl"), ("dump", store), ("jobs", store), ("executions", store)):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            command(*words),
            stdout=writer,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b""), words


def test_nowhere_to_say_an_error_is_no_traceback(store):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("job", store, "nobody", "--json"), stdout=writer, stderr=writer, env=environment(), check=False
    )
    os.close(writer)
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_stdout_is_told(store):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("jobs", store, "--json"), stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode == 3
    assert done.stderr.startswith(b"jobstore: No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [("check",), ("backup", "b.db"), ("executions", "--limit", "1"), ("prune", "--keep-last", "9")]
)
def test_a_success_stays_one_if_its_message_cannot_be_written(store, tmp_path, words):
    shutil.copy(store, tmp_path / "jobs.db")
    name, *more = words
    with Path("/dev/full").open("wb") as full:
        line = command(name, "jobs.db", *more)
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=full, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0


def test_a_message_that_cannot_be_written_does_not_take_the_next_one(tmp_path, monkeypatch):
    file = tmp_path / "said"
    with file.open("w") as stream, Path("/dev/full").open("w") as full:
        kept = os.dup(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        os.dup2(full.fileno(), stream.fileno())
        say("lost")
        os.dup2(kept, stream.fileno())
        os.close(kept)
        say("shown")
    assert file.read_text() == "shown\n"


def test_chinese_survives_a_locale_that_does_not_know_it(process, store):
    latin = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    assert "\\u540c\\u6b65" in process("jobs", store, **latin).out
    assert "同步交易对" in process("jobs", store, "--json", **latin).out


def test_the_list_of_commands_loads_no_heavy_library():
    import sys

    loaded = "import sys; from jobstore.cli.app import run; code = run({words!r}); print(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", loaded.format(words=["--help"])],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    modules = set(done.stderr.split())
    assert not modules & {"pydantic", "sqlite_utils", "croniter", "falcon", "mcp", "rich.console", "httpx", "waitress"}


def test_help_comes_at_once():
    def cpu_seconds() -> float:
        """Not the time by the clock, which says how busy the machine is."""
        before = os.times()
        subprocess.run(command("--help"), stdout=subprocess.DEVNULL, env=environment(), check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cpu_seconds() for _ in range(3)) < 0.25 * float(os.environ.get("JOBSTORE_SLOW_MACHINE", "2"))


@pytest.mark.parametrize("columns", [60, 120, 200])
def test_an_error_is_shown_whole_however_wide_the_terminal_is(terminal, tmp_path, columns):
    import jobstore

    error = "connection to the exchange was refused: " + " ".join(f"peer{number}" for number in range(20))
    with jobstore.Recorder(tmp_path / "long.db") as recorder:
        recorder.save_job("poll", job_type="kline", job_category="monitor", interval_seconds=60)
        recorder.finish(recorder.enqueue("poll"), "FAILURE", error=error)
    lines = shown(terminal("executions", tmp_path / "long.db", columns=columns))
    assert error in " ".join(" ".join(lines).split())
    assert max(map(cell_len, lines)) <= columns

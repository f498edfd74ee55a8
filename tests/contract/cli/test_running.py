"""exec, completion and demo."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import jobstore
from tests import warm

from .conftest import environment

PYTHON = sys.executable


def recorded(path: Path, name: str) -> list[jobstore.ExecutionDocument]:
    with jobstore.open(path) as datahub:
        return datahub.get_job_executions(name)["data"]


def test_exec_passes_output_and_exit_code_through_and_records_them(process, tmp_path):
    path = tmp_path / "runs.db"
    answer = process("exec", path, "nightly", "--", PYTHON, "-c", "print('out'); raise SystemExit(7)")
    assert (answer.code, answer.out) == (7, "out\n")
    (run,) = recorded(path, "nightly")
    assert run["status"] == "FAILURE"


def test_exec_hands_its_options_on(process, tmp_path):
    path = tmp_path / "runs.db"
    words = ("--schedule", "0 2 * * *", "--timeout", "60", "--category", "cleanup", "--type", "order")
    assert process("exec", path, "nightly", *words, "--", PYTHON, "-c", "").code == 0
    with jobstore.open(path) as datahub:
        job = datahub.get_job("nightly")
    assert (job["schedule"], job["timeout_seconds"]) == ("0 2 * * *", 60)
    assert (job["job_category"], job["job_type"]) == ("cleanup", "order")
    assert process("exec", path, "often", "--interval", "300", "--", PYTHON, "-c", "").code == 0
    with jobstore.open(path) as datahub:
        assert datahub.get_job("often")["interval_seconds"] == 300


def test_the_options_after_two_dashes_are_the_command_s(process, tmp_path):
    path = tmp_path / "runs.db"
    code = "import sys; print(*sys.argv[1:])"
    answer = process("exec", path, "job", "--", PYTHON, "-c", code, "--timeout", "x", "--", "--json", "--help")
    assert (answer.code, answer.out) == (0, "--timeout x -- --json --help\n")


def test_exec_takes_its_file_from_the_words_alone(process, tmp_path):
    answer = process("exec", "job", "--", PYTHON, "-c", "", JOBSTORE_DB=str(tmp_path / "other.db"))
    assert answer.code == 2
    assert "FILE and JOB are both needed before '--'" in answer.err
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.db", "job"), "COMMAND is missing: put it after '--'"),
        (("a.db", "job", "--"), "COMMAND is missing: put it after '--'"),
        (("a.db", "job", "ls", "-l"), "COMMAND is missing: put it after '--'"),
        (("a.db", "job", "--schedule", "@daily", "--interval", "5", "--", "ls"), "exclude each other"),
        (("a.db", "job", "--interval", "soon", "--", "ls"), "--interval must be seconds"),
        (("a.db", "job", "--timeout", "0", "--", "ls"), "--timeout must be seconds, or a time such as 90s"),
        (("a.db", "job", "--timeuot", "5", "--", "ls"), "Did you mean one of: '--timeout'"),
    ],
)
def test_a_slip_before_the_command_stops_it(cli, words, said):
    answer = cli("exec", *words)
    assert answer.code == 2
    assert said in answer.err


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed_by_command_and_variable(process, shell):
    said = process("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert "_JOBSTORE_COMPLETE" in said.out
    assert process(_JOBSTORE_COMPLETE=f"{shell}_source").out == said.out
    assert process("completion", SHELL=f"/usr/bin/{shell}").out == said.out


def test_an_unknown_shell_is_refused(process):
    assert process("completion", "tcsh").code == 2
    assert process("completion", SHELL="").code == 2


def completed(process: Any, *words: object, **variables: str) -> set[str]:
    line = " ".join(map(str, ("jobstore", *words)))
    said = process(_JOBSTORE_COMPLETE="bash_complete", COMP_LINE=line, **variables)
    return {line.partition(",")[2] for line in said.out.splitlines() if line}


def test_commands_options_fields_and_jobs_are_completed(process, store):
    assert completed(process, "ex") == {"execution", "executions", "export", "exec"}
    assert completed(process, "jobs", "x.db", "--order-by", "next") == {"next_run_at"}
    assert completed(process, "executions", "x.db", "--status", "F") == {"FAILURE"}
    assert "--job-category" in completed(process, "jobs", "x.db", "--job")
    assert completed(process, "job", store, "sync") == {"sync_klines_1h"}
    assert completed(process, "job", store, "同") == {"同步交易对"}
    assert "poll" in completed(process, "job", "po", JOBSTORE_DB=str(store))
    assert completed(process, "job", "/no/store.db", "sync") == set()


# demo


ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the demo says, and the folder that it was called in."""
    folder = tmp_path_factory.mktemp("demo")
    line = ("-m", "jobstore", "demo")
    return warm.forker(warm.COMMAND).run(line, cwd=folder, variables=environment()), folder


def test_the_demo_makes_a_store_shows_the_four_queries_and_ends(made):
    answer, folder = made
    assert answer.returncode == 0
    assert answer.stdout.decode().splitlines()[0].endswith("are in jobstore-demo.db")
    with jobstore.open(folder / "jobstore-demo.db") as datahub:
        assert datahub.get_job(1)["name"] == "sync_klines_1h"
        assert datahub.get_job(2)["name"] == "sync_symbols_all"
        assert 18_000 < datahub.list_job_executions(limit=1)["pagination"]["total"] < 22_000


def test_the_demo_writes_over_no_file(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("jobstore.cli.demo.HISTORY_DAYS", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobstore-demo.db").write_text("mine")
    assert cli("demo").lines[0].endswith("are in jobstore-demo-2.db")
    assert (tmp_path / "jobstore-demo.db").read_text() == "mine"
    answer = cli("demo", "jobstore-demo.db")
    assert answer.code == 2
    assert answer.err.endswith("[CONFLICT]\n")
    assert (tmp_path / "jobstore-demo.db").read_text() == "mine"


def test_the_demo_is_a_page_that_one_can_read(terminal):
    one = terminal("demo", columns=80)
    assert one.end() == 0
    lines = ANSI.sub("", one.text).splitlines()
    first = next(at for at, line in enumerate(lines) if line.endswith("are in jobstore-demo.db"))
    assert len(lines) - first <= 75
    assert max(cell_len(line) for line in lines[first:] if not line.startswith("$ ")) <= 80


def test_each_command_that_the_demo_shows_gives_what_it_shows(made):
    answer, folder = made
    lines = [line[2:] for line in answer.stdout.decode().splitlines() if line.startswith("$ ")]
    shown = [shlex.split(line, comments=True) for line in lines]
    assert {tuple(words[:3]) for words in shown if words[0] != "curl"} == {(PYTHON, "-m", "jobstore")}
    quick = [words for words in shown if not {"curl", "serve", "mcp", "--watch"} & set(words)]
    assert len(quick) >= 6
    for words in quick:
        done = warm.forker(warm.COMMAND).run(words[1:], cwd=folder, variables=environment())
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_written_the_demo_goes_elsewhere(process, tmp_path):
    tmp_path.chmod(0o500)
    answer = process("demo")
    tmp_path.chmod(0o700)
    assert answer.code == 0
    assert "jobstore-demo-" in answer.out.splitlines()[0]

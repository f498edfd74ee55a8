"""Every interface takes an address where it takes a path, says the same, and shows the password of none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore import tools
from jobstore.cli.app import run
from jobstore.integrations import runrecord
from jobstore.metrics import metrics
from jobstore.wsgi import create_app
from tests.contract.cli.conftest import WORLD
from tests.postgres.servers import ANY_KIND, running
from tests.waiting import LONG_SECONDS, until
from tests.wsgi import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres.servers import Server

pytest.importorskip("psycopg")
PASSWORD = "s3cret"
ALIKE = (
    ("jobs", "--json"), ("jobs",), ("jobs", "--search", "sync", "--csv"), ("job", "poll", "--json"), ("job", "1"),
    ("executions", "--json", "--limit", "7", "--offset", "3"), ("executions", "poll", "--utc"), ("executions", "--jsonl"),
    ("execution", "2"), ("stats", "--json"), ("histogram", "--json", "--utc"), ("health", "--json", "--state", "failing"),
    ("metrics",), ("timezone",), ("dump",), ("dump", "--jsonl"), ("export",), ("export", "poll", "--format", "csv"),
    ("export", "--status", "FAILURE,TIMEOUT"), ("export", "--search", "klines"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One: what a door does with an answer is the same whichever server gave it."""
    with running(ANY_KIND) as started:
        yield started


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[str]:
    """The address of a store, with a password."""
    with server.database() as name:
        url = server.url(name, password=PASSWORD)
        jobstore.load(url, WORLD)
        yield url


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doors") / "jobs.db"
    jobstore.load(path, WORLD)
    return path


def command(*words: object, variable: object = None, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBSTORE_")}
    if variable is not None:
        environment["JOBSTORE_DB"] = str(variable)
    done = subprocess.run(
        [sys.executable, "-m", "jobstore", *map(str, words)], capture_output=True, text=True, check=False, input=given,
        env=environment,
    )  # fmt: skip
    assert PASSWORD not in done.stdout + done.stderr, words
    assert "Traceback" not in done.stderr, done.stderr
    return done


SECRET = "postgresql://u:s3cret@127.0.0.1:1/db"


@pytest.mark.parametrize("words", ALIKE, ids=" ".join)
def test_a_command_says_of_an_address_what_it_says_of_a_file(place: str, file: Path, words: tuple[str, ...]) -> None:
    name, *rest = words
    told, asked = command(name, file, *rest), command(name, place, *rest)
    if asked.stdout != told.stdout:  # in between, a job may have become due
        told = command(name, file, *rest)
    assert asked.stdout == told.stdout
    assert asked.returncode == told.returncode
    assert told.returncode in ({0, 1} if name == "health" else {0})


def test_the_variable_may_hold_an_address(place: str) -> None:
    assert json.loads(command("job", "poll", "--json", variable=place).stdout)["name"] == "poll"
    assert command("jobs", "--json", variable="/nowhere.db").returncode == 3
    assert command("jobs", place, "--json", variable="/nowhere.db").returncode == 0


def test_a_store_moves_through_a_pipe(server: Server, database: str, file: Path, tmp_path: Path) -> None:
    url = server.url(database, password=PASSWORD)
    dumped = command("dump", file, "--jsonl")
    assert command("load", url, given=dumped.stdout).returncode == 0
    assert command("check", url).returncode == 0
    assert command("dump", url, "--jsonl").stdout == dumped.stdout
    assert command("load", tmp_path / "back.db", "-", given=dumped.stdout).returncode == 0
    assert command("load", url, given=dumped.stdout).returncode == 2


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (("backup", "{}", "copy.db"), "pg_dump"),
        (("restore", "copy.db", "{}"), "pg_restore"),
        (("prune", "{}", "--keep-last", "1", "--emergency"), "without it"),
        (("serve", "{}"), "--tokens-file"),
        (("token", "list", "{}"), "--tokens-file"),
        (("demo", "{}"), "file"),
    ],
)
def test_what_is_about_a_file_says_what_to_use_instead(place: str, words: tuple[str, ...], instead: str) -> None:
    done = command(*(word.format(place) for word in words))
    assert done.returncode == 2
    assert instead in done.stderr


def test_http_tools_and_metrics_answer_from_an_address(place: str, file: Path) -> None:
    with jobstore.open(place) as store, jobstore.open(file) as other:
        call = {"tool": "datahub_list_job_executions", "parameters": {"limit": 3}}
        assert tools.call(store, call) == tools.call(other, call)
        assert metrics(store).splitlines()[:3] == metrics(other).splitlines()[:3]
        assert PASSWORD not in f"{store!r} {store.path} {metrics(store)}"
    pages = ("/", "/executions", "/jobs/poll", "/executions/2", "/timeline", "/api/v1/jobs", "/metrics", "/healthz")
    app, same = (create_app(each, open_access=True, page=True) for each in (place, file))
    for path in pages:
        answer, told = ask(app, path), ask(same, path)
        assert answer.status == told.status, path
        assert PASSWORD not in str(answer.body) + str(answer.headers)
    away = create_app("postgresql://u:s3cret@127.0.0.1:1/db?connect_timeout=2", open_access=True)
    answer = ask(away, "/api/v1/jobs")
    assert answer.status == 503
    assert "127.0.0.1" not in str(answer.body)
    assert PASSWORD not in str(answer.body)


def test_commands_record_into_an_address(server: Server, database: str, tmp_path: Path) -> None:
    url = server.url(database, password=PASSWORD)
    assert command("jobs", url).returncode == 3
    failed = command("exec", url, "reports", "--schedule", "0 * * * *", "--", "sh", "-c", "echo out; exit 7")
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "out\n", "")
    secret = command("exec", url, "reports", "--", "true", url)
    assert (secret.returncode, secret.stderr) == (0, "")
    runs = json.loads(command("executions", url, "reports", "--json", "--order-asc").stdout)["data"]
    assert [run["status"] for run in runs] == ["FAILURE", "SUCCESS"]
    assert command("timezone", url, "Asia/Shanghai").returncode == 0
    assert command("timezone", url).stdout == "Asia/Shanghai\n"
    assert command("close-interrupted", url).returncode == 0
    assert command("prune", url, "--keep-last", "1", "--archive", tmp_path / "old.jsonl").returncode == 0
    assert json.loads((tmp_path / "old.jsonl").read_text())["id"] == runs[0]["id"]
    assert command("check", url).returncode == 0
    refused = command("compact", url)
    assert refused.returncode == 2
    assert "VACUUM" in refused.stderr


def test_exec_runs_its_command_where_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runrecord, "PATIENCE_AFTER_SECONDS", 1)
    away = "postgresql://u:s3cret@127.0.0.1:1/db"
    assert run(["exec", away, "reports", "--", "sh", "-c", "echo out; exit 7"]) == 7
    said = capfd.readouterr()
    assert said.out == "out\n"
    assert "not recorded: " in said.err
    assert "127.0.0.1" in said.err
    assert PASSWORD not in said.err


def test_exec_records_a_command_that_ended_while_the_server_was_restarted(
    server: Server, database: str, tmp_path: Path
) -> None:
    url, ended = server.url(database), tmp_path / "ended"
    words = [sys.executable, "-m", "jobstore", "exec", url, "reports", "--", "touch", str(ended)]
    server.stop()
    try:
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        until(ended.exists)
        time.sleep(0.5)  # many times as long as three tries take
    finally:
        server.start()
    _, said = process.communicate(timeout=LONG_SECONDS)
    assert (process.returncode, said) == (0, "")
    with jobstore.open(url) as store:
        assert [each["status"] for each in store.list_job_executions()["data"]] == ["SUCCESS"]


FAILOVER = """
import sys, psycopg, jobstore
with psycopg.connect(sys.argv[1], autocommit=True) as standby:  # as one that took over without the last commits
    standby.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    standby.execute("DELETE FROM jobstore.execution")
    standby.execute("ALTER TABLE jobstore.execution ALTER id RESTART WITH 1")
jobstore.Recorder(sys.argv[1]).enqueue("reports", outlives_process=True)
"""


def test_exec_records_anew_a_run_that_a_failover_lost_and_leaves_alone_the_one_that_has_its_number(
    server: Server, database: str
) -> None:
    url = server.url(database)
    done = command("exec", url, "reports", "--", sys.executable, "-c", FAILOVER, url)
    assert (done.returncode, done.stderr) == (0, "")
    with jobstore.open(url) as store:
        runs = store.list_job_executions(order_by="id", order_desc=False)["data"]
    assert [(run["id"], run["status"], run["started_at"] is None) for run in runs] == [
        ("1", "PENDING", True), ("2", "SUCCESS", False),
    ]  # fmt: skip


def test_a_crontab_is_rewritten_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("0 * * * * /srv/reports.sh\n")
    done = command("cron", "import", tmp_path / "crontab", "--store", "postgresql://u:s3cret@h/db")
    assert "exec postgresql://u@h/db reports" in done.stdout


def test_notify_remembers_what_it_told_in_the_users_own_folder(
    server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobstore.integrations import notify as module

    told: list[object] = []

    def send(_receiver: object, changes: object) -> bool:
        told.append(changes)
        return True

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")  # as Path.home() does

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_receivers", lambda urls: [(url, None) for url in urls])
    monkeypatch.setattr(module, "_send", send)
    place = server.url(database, password=PASSWORD)
    with jobstore.Recorder(place) as recorder:
        recorder.save_job("fails", job_type="any", job_category="any")
        recorder.finish(recorder.enqueue("fails"), "FAILURE", error="no")
    with jobstore.open(place) as store:
        for _ in range(2):
            assert module.notify(store, ["json://127.0.0.1:1/"]) == []
    assert len(told) == 1
    (kept,) = (tmp_path / "jobstore").iterdir()
    assert "json" not in kept.read_text()
    monkeypatch.setenv("XDG_STATE_HOME", str(kept))
    with jobstore.open(place) as store, pytest.raises(jobstore.StoreUnreadable, match="set XDG_STATE_HOME"):
        module.notify(store, ["json://127.0.0.1:1/"])
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    with jobstore.open(place) as store, pytest.raises(jobstore.StoreUnreadable, match="set XDG_STATE_HOME"):
        module.notify(store, ["json://127.0.0.1:1/"])


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "{file}", SECRET), ("dump", "{file}", "-o", SECRET), ("export", "{file}", "-o", SECRET),
        ("prune", "{file}", "--keep-last", "9", "--archive", SECRET), ("load", "new.db", SECRET), ("restore", SECRET, "new.db"),
        ("serve", "{file}", "--tokens-file", SECRET), ("cron", "import", SECRET, "--store", "jobs.db"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_address_where_a_file_is_meant_is_refused_and_not_repeated(file: Path, words: tuple[str, ...]) -> None:
    done = command(*(word.format(file=file) for word in words))
    assert done.returncode == 2
    assert "PostgreSQL server" in done.stderr


@pytest.mark.parametrize("address", ["postgresql://u:s3cret@x@h/db", "mysql://u:s3cret@h/db"])
def test_exec_runs_its_command_where_the_address_cannot_be_read(address: str) -> None:
    done = command("exec", address, "reports", "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "not recorded" in done.stderr

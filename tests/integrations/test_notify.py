"""Notifications on real receivers on this machine: an SMTP server and an HTTP server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller

import jobstore
from jobstore.cli.app import run
from jobstore.integrations import notify as integration
from jobstore.integrations.notify import notify
from tests.ports import free_port
from tests.waiting import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""Apprise imports it."""
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
SECRET = "hunter2-is-secret"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Listener:
    """An HTTP receiver that remembers what it was sent, and may answer with an error."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.status = 200
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if listener.status == 200:
                    listener.said.append(body)
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:{SECRET}@127.0.0.1:{self.server.server_port}/alerts"

    def take(self) -> list[str]:
        """The lines that were sent since the last look."""
        lines = [line for body in self.said for line in body["message"].splitlines()]
        self.said.clear()
        return lines


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever, daemon=True)
    thread.start()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


class World:
    """A store whose jobs a test moves from state to state."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.recorder = jobstore.Recorder(path, clock=self.clock)
        for name in ("hourly", "other"):
            self.recorder.save_job(name, job_type="t", job_category="c", schedule="0 * * * *")
            self.run(name)
        self.store = jobstore.open(path, clock=self.clock)

    def run(self, name: str, error: str | None = None) -> None:
        execution_id = self.recorder.enqueue(name)
        self.recorder.start(execution_id)
        self.recorder.finish(execution_id, "FAILURE" if error else "SUCCESS", error=error)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "jobs.db")
    yield world
    world.store.close()
    world.recorder.close()


def test_each_change_is_told_once(world: World, listener: Listener) -> None:
    assert notify(world.store, [listener.url]) == []
    assert listener.take() == []
    world.run("hourly", error="no route\nto host")
    notify(world.store, [listener.url])
    assert listener.take() == ["hourly is failing since 2026-01-15T12:00:00Z, 1 in a row: no route"]
    world.run("hourly", error="again")
    notify(world.store, [listener.url])
    assert listener.take() == []
    world.clock.now += timedelta(minutes=1)
    world.run("hourly")
    notify(world.store, [listener.url])
    assert listener.take() == ["hourly recovered; it was failing"]
    notify(world.store, [listener.url])
    assert listener.take() == []


def test_calls_at_the_same_time_forget_nothing_that_the_other_told(
    world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two timers tell different receivers, and the second begins and ends while the first is sending."""
    first, second = (f"{listener.url}/{name}" for name in ("first", "second"))
    send = integration._send

    def slowly(*sent: Any) -> bool:
        monkeypatch.setattr(integration, "_send", send)
        notify(world.store, [second])
        return send(*sent)

    monkeypatch.setattr(integration, "_send", slowly)
    world.run("hourly", error="no route")
    notify(world.store, [first])
    assert len(listener.take()) == 2
    notify(world.store, [first, second])
    assert listener.take() == []


def test_late_jobs_are_told_though_nothing_was_recorded(world: World, listener: Listener) -> None:
    notify(world.store, [listener.url])
    world.clock.now += timedelta(minutes=65, microseconds=1)
    notify(world.store, [listener.url])
    assert listener.take() == [
        "hourly is late since 2026-01-15T13:00:00Z", "other is late since 2026-01-15T13:00:00Z"
    ]  # fmt: skip


def test_all_are_told_where_it_cannot_be_remembered(world: World, listener: Listener, tmp_path: Path) -> None:
    world.run("hourly", error="x")
    memory = tmp_path / "nowhere" / "told"
    with listening() as other, pytest.raises(jobstore.StoreUnreadable, match=f"{memory} cannot be written: .* again"):
        notify(world.store, [listener.url, other.url], memory)
    assert len(listener.take()) == len(other.take()) == 1


def test_a_job_that_runs_again_has_not_recovered_yet(world: World, listener: Listener) -> None:
    world.run("hourly", error="x")
    notify(world.store, [listener.url])
    listener.take()
    with world.recorder.run("hourly"):
        notify(world.store, [listener.url])
    assert listener.take() == []
    notify(world.store, [listener.url])
    assert listener.take() == ["hourly recovered; it was failing"]


def test_a_job_that_is_removed_or_disabled_is_told_to_be_so(world: World, listener: Listener) -> None:
    world.run("hourly", error="x")
    world.run("other", error="x")
    notify(world.store, [listener.url])
    listener.take()
    world.recorder.remove_job("hourly")
    world.recorder.save_job("other", job_type="t", job_category="c", enabled=False)
    notify(world.store, [listener.url])
    assert listener.take() == ["job 1 was removed; it was failing", "other was disabled; it was failing"]


def test_a_receiver_that_failed_is_told_again_and_the_others_are_not(world: World, listener: Listener) -> None:
    with listening() as broken:
        broken.status = 500
        world.run("hourly", error="x")
        assert notify(world.store, [broken.url, listener.url]) == ["receiver 1 (json)"]
        assert len(listener.take()) == 1
        broken.status = 200
        assert notify(world.store, [broken.url, listener.url]) == []
        assert len(broken.take()) == 1
        assert listener.take() == []


def test_many_changes_are_one_message(world: World, listener: Listener) -> None:
    for number in range(60):
        world.recorder.save_job(f"job-{number:02d}", job_type="t", job_category="c")
        world.run(f"job-{number:02d}", error="x")
    notify(world.store, [listener.url])
    (body,) = listener.said
    assert body["title"] == "jobstore: 60 jobs in trouble, 0 recovered"
    assert body["type"] == "failure"
    assert body["message"].splitlines()[-1] == "and 10 more"


def test_mail_arrives_by_smtp(world: World) -> None:
    class Inbox:
        def __init__(self) -> None:
            self.mails: list[str] = []

        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            self.mails.append(f"{envelope.rcpt_tos} {envelope.content.decode()}")
            return "250 OK"

    inbox = Inbox()
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port, ready_timeout=LONG_SECONDS)
    controller.start()
    try:
        world.run("hourly", error="x")
        url = f"mailto://127.0.0.1:{port}/?from=jobs@example.com&to=ops@example.com&smtp=127.0.0.1&mode=insecure"
        assert notify(world.store, [url]) == []
        (mail,) = inbox.mails
        assert "ops@example.com" in mail
        assert "hourly is failing" in mail
    finally:
        controller.stop()


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobstore", "notify", *map(str, words)], capture_output=True, text=True, timeout=120,
        check=False, env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip


def test_no_secret_is_in_any_message_or_file(
    world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    world.run("hourly", error="x")
    path = world.store.path
    listener.status = 500
    assert run(["notify", str(path), listener.url]) == 1
    failed = capfd.readouterr()
    assert failed.out == ""
    assert failed.err == "jobstore: could not notify receiver 1 (json); the next call tries again\n"
    assert run(["notify", str(path), f"nonsense://{SECRET}@host"]) == 2
    bad = capfd.readouterr()
    assert "receiver 1 is not an address that Apprise accepts ('nonsense')" in bad.err
    listener.status = 200
    monkeypatch.setenv("JOBSTORE_NOTIFY", listener.url)
    assert run(["notify", str(path)]) == 0
    assert command(listener.url, JOBSTORE_DB=str(path)).returncode == 0
    assert len(listener.take()) == 2  # both are late by this machine's clock
    said = failed.err + bad.err + path.with_name("jobs.db.notified").read_text()
    assert SECRET not in said
    assert "127.0.0.1" not in said


def test_a_damaged_memory_is_told_with_its_remedy(world: World, listener: Listener) -> None:
    memory = world.store.path.with_name("jobs.db.notified")
    for text in ("{", "[]", '{"x": 1}'):
        memory.write_text(text)
        with pytest.raises(jobstore.InvalidRecord, match="is damaged; delete it"):
            notify(world.store, [listener.url])


def test_without_a_receiver_it_is_a_usage_error(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOBSTORE_NOTIFY", raising=False)
    assert run(["notify", str(world.store.path)]) == 2
    assert "URL is missing" in capfd.readouterr().err


def test_what_was_told_has_the_mode_of_the_store(world: World, listener: Listener) -> None:
    world.store.path.chmod(0o660)
    notify(world.store, [listener.url])
    kept = world.store.path.with_name("jobs.db.notified")
    assert kept.stat().st_mode == world.store.path.stat().st_mode


def test_who_may_not_give_the_group_gives_its_rights_to_no_other_one(
    world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    world.store.path.chmod(0o660)
    monkeypatch.setattr("os.chown", refused)
    notify(world.store, [listener.url])
    assert world.store.path.with_name("jobs.db.notified").stat().st_mode & 0o777 == 0o600


def test_what_another_process_of_the_same_number_is_writing_is_in_nobodys_way(world: World, listener: Listener) -> None:
    """Two containers that share the folder number their processes alike."""
    memory = world.store.path.with_name("jobs.db.notified")
    memory.with_name(f".{memory.name}.{os.getpid()}.part").mkdir()
    assert notify(world.store, [listener.url]) == []
    assert memory.exists()
    assert not list(memory.parent.glob("*.part/*"))

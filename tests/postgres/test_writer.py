"""What a recorder does when its server is away, restarts, answers no more, or when others change the same."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import jobstore
from jobstore.integrations.journal import Journal, wait_for
from jobstore.recording import transitions
from jobstore.storage.postgres.connection import Connection, Place
from jobstore.storage.postgres.schema import fold
from jobstore.storage.postgres.writer import PostgresWriter
from jobstore.storage.transactions import OutcomeUnknown
from tests.postgres.servers import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres.servers import Server


FIELDS = ("timeout_seconds", "max_instances")


@pytest.fixture
def recorder(url: str) -> Iterator[jobstore.Recorder]:
    with jobstore.Recorder(url) as opened:
        opened.save_job("a", job_type="t", job_category="c", parameters={"x": 1})
        yield opened


def writer_of(recorder: jobstore.Recorder) -> PostgresWriter:
    assert isinstance(recorder._writer, PostgresWriter)
    return recorder._writer


def raw(recorder: jobstore.Recorder) -> psycopg.Connection[Any]:
    connection = writer_of(recorder)._connection
    assert connection is not None
    return connection.raw


def cut(recorder: jobstore.Recorder, server: Server) -> None:
    """Ends the recorder's session, as a server does that is shut down."""
    pid = raw(recorder).info.backend_pid
    with server.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def recorded(url: str) -> list[str]:
    with jobstore.open(url) as store:
        return [run["status"] for run in store.list_job_executions()["data"]]


def test_a_connection_that_was_cut_is_opened_anew(recorder, server, url):
    cut(recorder, server)
    recorder.enqueue("a")
    assert recorded(url) == ["PENDING"]


def test_what_was_not_committed_when_the_connection_was_cut_is_recorded_once(recorder, server, url, monkeypatch):
    insert, numbers = transitions._insert, list[int]()

    def insert_and_cut(*values: Any, **more: Any) -> int:
        number = insert(*values, **more)
        if not numbers:
            cut(recorder, server)
        numbers.append(number)
        return number

    monkeypatch.setattr(transitions, "_insert", insert_and_cut)
    recorder.enqueue("a")
    assert (len(numbers), recorded(url)) == (2, ["PENDING"])


def lose_the_answer(recorder: jobstore.Recorder, server: Server, is_sent: Callable[[], bool]) -> None:
    """The next COMMIT has no answer; it was done where `is_sent` says so."""
    connection, execute = raw(recorder), raw(recorder).execute

    def lose(query: Any, *values: Any, **more: Any) -> Any:
        if query != "COMMIT":
            return execute(query, *values, **more)
        if is_sent():
            execute(query, *values, **more)
        cut(recorder, server)
        connection.close()
        raise psycopg.OperationalError("the connection is lost")

    connection.execute = lose  # type: ignore[method-assign]


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_commit_whose_answer_is_lost_is_recorded_once(recorder, server, url, is_sent):
    lose_the_answer(recorder, server, lambda: is_sent)
    number = recorder.enqueue("a")
    lose_the_answer(recorder, server, lambda: is_sent)
    recorder.start(number)
    lose_the_answer(recorder, server, lambda: is_sent)
    recorder.finish(number, "SUCCESS")
    assert recorded(url) == ["SUCCESS"]


def test_where_the_outcome_cannot_be_known_the_call_says_so_and_is_not_repeated(recorder, server, url):
    lose_the_answer(recorder, server, lambda: False)
    with server.connect(url.partition("@/")[2].partition("?")[0]) as other:
        other.execute("UPDATE jobstore.folding SET trimmed = 9000000000000000000")
    with pytest.raises(OutcomeUnknown, match="may have been recorded"):
        recorder.enqueue("a")
    assert recorded(url) == []


def test_a_server_that_is_away_is_waited_for_and_not_for_ever(server, url):
    with jobstore.Recorder(url, timeout_seconds=0.5) as hasty, jobstore.Recorder(url, timeout_seconds=60) as patient:
        hasty.save_job("a", job_type="t", job_category="c")
        patient.enqueue("a")
        server.stop()
        back = threading.Timer(1.0, server.start)
        try:
            with pytest.raises(jobstore.StoreUnreadable, match="cannot be reached"):
                hasty.enqueue("a")
            back.start()
            patient.enqueue("a")
        finally:
            back.join() if back.ident else server.start()
        hasty.enqueue("a")
    assert recorded(url) == ["PENDING"] * 3


def test_what_others_define_at_the_same_time_is_kept(url):
    with jobstore.Recorder(url) as first:
        first.save_job("a", job_type="t", job_category="c")

    def define(field: str) -> None:
        with jobstore.Recorder(url) as own:
            for number in range(1, 30):
                given: dict[str, Any] = {field: number}
                own.save_job("a", job_type="t", job_category="c", **given)

    threads = [threading.Thread(target=define, args=(field,)) for field in FIELDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with jobstore.open(url) as store:
        job = store.get_job("a")
    assert (job["timeout_seconds"], job["max_instances"]) == (29, 29)


def test_recorders_that_come_at_once_make_one_store(url):
    failed: list[BaseException] = []

    def come() -> None:
        try:
            with jobstore.Recorder(url) as own:
                own.save_job("a", job_type="t", job_category="c")
                own.enqueue("a", worker_id="w")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert recorded(url) == ["PENDING"] * 6
    assert jobstore.check(url) == []


def test_a_child_has_a_connection_of_its_own(recorder, url):
    child = os.fork()
    if not child:
        try:
            recorder.enqueue("a")
        finally:
            os._exit(0)
    recorder.enqueue("a")
    os.waitpid(child, 0)
    recorder.enqueue("a")
    assert recorded(url) == ["PENDING"] * 3


def test_words_and_processes_that_nothing_uses_are_deleted(recorder, url, server):
    with recorder.run("a", worker_id="gone"), recorder.run("a", worker_id="kept"):
        pass
    kept = recorder.enqueue("a", worker_id="kept")
    recorder.rename_job("a", "b")
    recorder.enqueue("b")
    assert recorder.prune(before="2100-01-01T00:00:00Z") == 2
    with server.connect(url.partition("@/")[2].partition("?")[0]) as other:
        assert other.execute("SELECT name FROM jobstore.worker").fetchall() == [("kept",)]
        names = other.execute("SELECT name FROM jobstore.job_name ORDER BY 1").fetchall()
    assert names == [("a",), ("b",)]
    recorder.finish(kept, "SUCCESS")
    assert recorder.prune(before="2100-01-01T00:00:00Z") == 1
    with server.connect(url.partition("@/")[2].partition("?")[0]) as other:
        assert other.execute("SELECT name FROM jobstore.job_name").fetchall() == [("b",)]
    assert jobstore.check(url) == []


def test_who_holds_the_table_is_waited_for_and_not_for_ever(url, server):
    with jobstore.Recorder(url, timeout_seconds=0.3) as hasty:
        hasty.save_job("a", job_type="t", job_category="c")
        with server.connect(url.partition("@/")[2].partition("?")[0]) as other, other.transaction():
            other.execute("LOCK TABLE jobstore.execution IN SHARE MODE")
            begun = time.monotonic()
            with pytest.raises(jobstore.StoreBusy):
                hasty.enqueue("a")
            assert time.monotonic() - begun >= 0.3
        hasty.enqueue("a")


def test_a_standby_and_what_is_about_a_file_are_refused(recorder, server, standby):
    standby.catch_up(server)
    with server.store() as url, jobstore.Recorder(url):
        standby.catch_up(server)
        with pytest.raises(jobstore.StoreUnreadable, match="standby"):
            jobstore.Recorder(url.replace(*(str(one.folder).replace("/", "%2F") for one in (server, standby))))
    with pytest.raises(jobstore.InvalidParameter, match="VACUUM FULL"):
        recorder.compact()
    with pytest.raises(jobstore.InvalidParameter, match="emergency prune"):
        recorder.prune(emergency=True)


def test_an_archive_holds_what_was_deleted_once(recorder, url, tmp_path):
    for _ in range(120):
        with recorder.run("a"):
            pass
    assert recorder.prune(before="2100-01-01T00:00:00Z", keep_last=20, archive=tmp_path / "old.jsonl") == 100
    assert len((tmp_path / "old.jsonl").read_text().splitlines()) == 100
    with jobstore.open(url) as store:
        assert store.list_job_executions()["pagination"]["total"] == 20


def test_a_store_that_was_restored_into_another_cluster_counts_on(recorder, url, server):
    """By pg_dump and pg_restore, say: the numbers of its transactions are smaller there."""
    recorder.enqueue("a")
    with server.connect(url.partition("@/")[2].partition("?")[0]) as other:
        other.execute("UPDATE jobstore.change SET xid = xid + 1000000000")
        other.execute("UPDATE jobstore.folding SET folded = folded + 1000000000")
    with jobstore.Recorder(url) as later:
        later.enqueue("a")
        with jobstore.open(url) as store:
            assert store.list_job_executions()["pagination"]["total"] == 2
    assert jobstore.check(url) == []


def test_a_recorder_brings_each_call_to_the_disk_whatever_the_database_is_set_to(recorder, server, url):
    name = url.partition("@/")[2].partition("?")[0]
    with server.connect(name) as other:
        other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with jobstore.Recorder(url) as later:
        later.enqueue("a")
        assert raw(later).execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_counters_are_folded_where_all_tables_are_published(recorder, server, url):
    with server.connect(url.partition("@/")[2].partition("?")[0]) as other:
        other.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    recorder.enqueue("a")
    connection = Connection(Place(url))
    try:
        assert fold(connection)
    finally:
        connection.close()


def test_a_run_that_a_failover_lost_does_not_end_the_one_that_has_its_number(recorder, url, caplog):
    with jobstore.Recorder(url) as other:
        with recorder.run("a") as run:
            with psycopg.connect(url, autocommit=True) as standby:  # as one that took over without the last commits
                standby.execute("DELETE FROM jobstore.execution")
                standby.execute(f"ALTER TABLE jobstore.execution ALTER id RESTART WITH {run.execution_id}")
            assert other.enqueue("a") == run.execution_id
        assert "belongs to another run" in caplog.text
        assert recorded(url) == ["PENDING"]
        waiting = other.enqueue("a")
        recorder.start(waiting)
        recorder.finish(waiting, "SUCCESS")
        assert recorded(url) == ["SUCCESS", "PENDING"]


class Now(BaseException):
    """Comes at any moment, as Ctrl-C does; psycopg itself would take another for an error of its own."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that comes in a __del__
def test_an_interrupt_at_any_moment_leaves_a_run_recorded_once_or_not_at_all(recorder, url):
    def interrupt(*_: object) -> None:
        raise Now

    before, acknowledged, choice = signal.signal(signal.SIGALRM, interrupt), set[str](), random.Random(7)
    try:
        for number in range(150):
            with suppress(Now):
                signal.setitimer(signal.ITIMER_REAL, choice.uniform(0.0001, 0.004))
                try:
                    acknowledged.add(recorder.enqueue("a", trace_id=f"t{number}"))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    last = recorder.enqueue("a")
    with jobstore.open(url) as store:
        runs = store.list_job_executions(limit=1000)["data"]
    traces = [run["trace_id"] for run in runs if run["trace_id"]]
    assert len(set(traces)) == len(traces)
    assert {*acknowledged, last} <= {run["id"] for run in runs}
    assert jobstore.check(url) == []


def test_what_a_mirror_has_to_record_while_the_server_is_away_waits(server: Server, url: str) -> None:
    with jobstore.Recorder(url, timeout_seconds=0.2) as recorder:
        recorder.save_job("a", job_type="kline", job_category="sync")
        journal = Journal(recorder)
        server.stop()
        try:
            future = journal.put(lambda writer: writer.enqueue("a"))
            assert not wait_for(future, 2)
        finally:
            server.start()
        assert journal.flush(LONG)
        with jobstore.open(url) as store:
            assert store.list_job_executions()["pagination"]["total"] == 1

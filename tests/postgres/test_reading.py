"""A reader that goes on while others write, and what becomes of it when the server or its role will not have it."""

from __future__ import annotations

import os
import random
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import jobstore
from jobstore.engine import memory
from jobstore.language.errors import NotAStore, SchemaTooNew, StoreNotFound, StoreUnreadable
from jobstore.storage.postgres import schema
from jobstore.storage.postgres.connection import Connection, Place
from tests.names import come_and_go
from tests.property.worlds import world
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres.servers import Server

NOW = datetime(2026, 4, 1, tzinfo=UTC)
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_jobs", {"order_by": "next_run_at"}),
    ("list_jobs", {"search": "a"}),
    ("list_job_executions", {"limit": 1000}),
    ("list_job_executions", {"limit": 3, "offset": 40, "order_desc": False}),
    ("list_job_executions", {"search": "a", "order_by": "duration_ms"}),
    ("list_job_executions", {"status": "FAILURE"}),
    ("list_job_executions", {"limit": 5, "after": "2026-03-29T02:00:00.5Z"}),
    ("job_stats", {}),
    ("list_job_states", {}),
    ("execution_histogram", {"bucket": "1d", "after": "2026-03-20", "before": "2026-04-10"}),
)


@pytest.fixture(scope="module")
def loaded(server: Server) -> Iterator[str]:
    """The name of a database with some history, which nobody changes."""
    with server.database() as name:
        jobstore.load(server.url(name), world(7, 8, 60).document)
        yield name


@pytest.fixture
def database(server: Server, loaded: str) -> Iterator[str]:
    """The name of a database with the same history."""
    with server.database(like=loaded) as name:
        yield name


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """The address of an empty database."""
    with server.store() as address:
        yield address


@pytest.fixture
def filled(server: Server, database: str) -> str:
    """The address of a store with some history."""
    return server.url(database)


def answers(store: jobstore.Queries) -> list[Any]:
    return [getattr(store, operation)(**query) for operation, query in QUESTIONS]


class Writer:
    """A connection that changes the store as a recorder might, in transactions that end when the test says."""

    def __init__(self, url: str, seed: int) -> None:
        self.connection = Connection(Place(url))
        self.source = random.Random(seed)

    def change(self) -> None:
        """One change of a kind that readers follow, of rows that no other writer changes."""
        execute, us = self.connection.execute, self.source.randrange(1_774_000_000_000_000, 1_775_000_000_000_000)
        kind = self.source.randrange(5)
        if kind == 0:
            number = self.source.randrange(10**6, 10**12)
            execute(
                "INSERT INTO job (number, name, job_type, job_category, folded, max_instances, enabled, created_us, "
                "updated_us) VALUES (?, ?, 'a', 'b', ?, 1, 1, ?, ?)",
                (number, f"new {number}", f"new {number}\na\nb", us, us),
            )
            execute(
                "INSERT INTO job_name (job_number, name, folded) VALUES (?, ?, ?)", (number, f"new {number}", "new")
            )
        elif kind == 1:
            execute("DELETE FROM execution WHERE id = ANY(?)", (self._some(2),))
        elif kind == 2:
            changed = (self.source.randrange(3), us, us, self.source.randrange(9999), self._some(3))
            execute(
                "UPDATE execution SET status = ?, effective_us = ?, created_us = ?, duration_ms = ? WHERE id = ANY(?)",
                changed,
            )
        else:
            execute(
                "INSERT INTO execution (name_id, status, effective_us, started_by, created_us, duration_ms) "
                "SELECT name_id, ?, ?, 1, ?, 5 FROM job_name ORDER BY name_id DESC LIMIT 2",
                (self.source.randrange(3), us, us),
            )

    def _some(self, most: int) -> list[int]:
        sql = "SELECT id FROM execution ORDER BY (id * ?) % 1009 LIMIT ? FOR UPDATE SKIP LOCKED"
        return [key for (key,) in self.connection.execute(sql, (self.source.randrange(1009), most))]

    def end(self) -> None:
        """Makes the changes last, or not."""
        if self.source.random() < 0.8:
            self.connection.commit()
        else:
            self.connection.rollback()


@pytest.mark.parametrize("seed", range(scaled(2)))
def test_what_a_reader_remembers_stays_exact_in_whatever_order_others_commit(
    filled: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHANGES_KEPT", 20)
    monkeypatch.setattr(memory, "REPLAYED", 60)
    source = random.Random(seed)
    writers = [Writer(filled, source.randrange(10**6)) for _ in range(3)]
    folder = Connection(Place(filled))
    with jobstore.open(filled, clock=lambda: NOW) as lasting:
        answers(lasting)
        for _ in range(60):
            writer = source.choice(writers)
            (writer.change if source.random() < 0.6 else writer.end)()
            if source.random() < 0.15:
                schema.fold(folder)
            if source.random() < 0.3:
                with jobstore.open(filled, clock=lasting.now) as fresh:
                    assert answers(lasting) == answers(fresh)
    for connection in [folder, *(writer.connection for writer in writers)]:
        connection.close()


def test_a_lasting_reader_of_a_standby_follows_its_primary(
    server: Server, standby: Server, database: str, filled: str
) -> None:
    standby.catch_up(server)
    source = random.Random(1)
    writers = [Writer(filled, source.randrange(10**6)) for _ in range(3)]
    with jobstore.open(standby.url(database), clock=lambda: NOW) as lasting:
        for _ in range(10):
            for _ in range(6):
                writer = source.choice(writers)
                (writer.change if source.random() < 0.6 else writer.end)()
            standby.catch_up(server)
            with jobstore.open(filled, clock=lambda: NOW) as fresh:
                assert answers(lasting) == answers(fresh)
    for writer in writers:
        writer.connection.close()


def test_a_run_that_moves_inside_its_hour_leaves_a_window(filled: str) -> None:
    moved = "UPDATE execution SET effective_us = ?, created_us = ? WHERE id = (SELECT min(id) FROM execution)"
    hour_us = 1_774_746_000_000_000 // 3_600_000_000 * 3_600_000_000
    cut = datetime.fromtimestamp(hour_us / 1_000_000 + 900, UTC)
    writer, totals = Connection(Place(filled)), list[int]()
    with jobstore.open(filled, clock=lambda: NOW) as store:
        for minute in (20, 10):
            writer.execute(moved, (hour_us + minute * 60_000_000,) * 2)
            writer.commit()
            totals.append(store.list_job_executions(after=cut)["pagination"]["total"])
    writer.close()
    assert totals[0] == totals[1] + 1


def test_the_counters_are_exact_before_and_after_they_are_folded(filled: str) -> None:
    writer, sums = Writer(filled, 1), "SELECT * FROM {} ORDER BY 1, 2, 3"
    for _ in range(30):
        writer.change()
    writer.connection.commit()

    def counted() -> list[Any]:
        by_day = "SELECT name_id, day, status, sum(runs) FROM name_day_tally GROUP BY 1, 2, 3 HAVING sum(runs) <> 0"
        tallies = [writer.connection.execute(sums.format(view)).fetchall() for view in ("period_tally", "name_tally")]
        return [*tallies, sorted(writer.connection.execute(by_day).fetchall())]

    before = counted()
    assert schema.fold(writer.connection)
    assert counted() == before
    unfolded = "SELECT count(*) FROM change, folding WHERE xid >= folded AND status IS NOT NULL"
    assert writer.connection.value(unfolded) == 0
    for table in ("period_sum", "name_sum", "name_day_sum"):
        writer.connection.execute(f"DELETE FROM {table}")
    writer.connection.execute(schema.COUNTERS)
    assert counted() == before
    writer.connection.close()


def test_a_reader_whose_connection_is_cut_answers_by_another(server: Server, database: str, filled: str) -> None:
    with jobstore.open(filled, clock=lambda: NOW) as store, server.connect(database) as other:
        before = answers(store)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        other.execute(cut, (database,))
        assert answers(store) == before


def test_threads_and_a_forked_child_share_a_store(filled: str) -> None:
    with jobstore.open(filled, clock=lambda: NOW) as store:
        wanted, found = answers(store), list[Any]()
        threads = [threading.Thread(target=lambda: found.append(answers(store))) for _ in range(4)]
        for thread in threads:
            thread.start()
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if answers(store) == wanted else 1
            finally:
                os._exit(code)
        for thread in threads:
            thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert found == [wanted] * 4
        assert answers(store) == wanted


def test_select_alone_is_enough_to_read(server: Server, database: str, filled: str) -> None:
    with server.connect(database) as owner:
        role = f"reader_{database}"
        owner.execute(f"CREATE ROLE {role} LOGIN")
        guest = filled.replace("tester@", f"{role}@")
        with pytest.raises(StoreUnreadable, match="needs USAGE"):
            jobstore.open(guest)
        owner.execute(f"GRANT USAGE ON SCHEMA jobstore TO {role}")
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA jobstore TO {role}")
        with jobstore.open(guest, clock=lambda: NOW) as store, jobstore.open(filled, clock=lambda: NOW) as own:
            assert answers(store) == answers(own)
        owner.execute(f"DROP OWNED BY {role}")
        owner.execute(f"DROP ROLE {role}")


def _newer(execute: Callable[[str], object]) -> None:
    execute("UPDATE jobstore.setting SET value = '99' WHERE key = 'schema_version'")


def _foreign(execute: Callable[[str], object]) -> None:
    execute("DROP SCHEMA jobstore CASCADE")
    execute("CREATE SCHEMA jobstore CREATE TABLE mine (a integer)")


def _unnamed(execute: Callable[[str], object]) -> None:
    execute("DELETE FROM jobstore.setting")


def _emptied(execute: Callable[[str], object]) -> None:
    execute("DROP SCHEMA jobstore CASCADE")


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [(_newer, SchemaTooNew), (_foreign, NotAStore), (_unnamed, NotAStore), (_emptied, StoreNotFound)],
)
def test_what_is_no_store_of_ours_is_told_apart(
    server: Server, database: str, filled: str, spoilt: Any, error: type[Exception]
) -> None:
    with server.connect(database) as owner:
        spoilt(owner.execute)
    with pytest.raises(error):
        jobstore.open(filled)
    if error is not StoreNotFound:  # a recorder makes what is missing, and nothing else
        with pytest.raises(error):
            jobstore.Recorder(filled)


def test_a_name_that_came_and_went_between_two_looks_is_no_damage(empty: str) -> None:
    with jobstore.Recorder(empty) as recorder, jobstore.open(empty) as store:
        come_and_go(store, recorder)


def addresses(server: Server, database: str) -> Iterator[str]:
    """Where nothing answers: no server, no database, no such user."""
    yield "postgresql://me:s3cr3t@127.0.0.1:1/db"
    yield server.url("nowhere", password="s3cr3t")
    yield server.url(database, password="s3cr3t").replace("tester:", "nobody_such:")


def test_a_server_that_does_not_let_us_in_is_named_and_its_password_is_not(server: Server, database: str) -> None:
    for address in addresses(server, database):
        with pytest.raises(StoreUnreadable, match="PostgreSQL database") as raised:
            jobstore.open(address)
        assert "s3cr3t" not in f"{raised.value!r} {raised.value.__cause__!r}"
        assert "check" in raised.value.message


def test_an_answer_is_of_one_moment(filled: str) -> None:
    with jobstore.open(filled, clock=lambda: NOW) as store:
        writer = Connection(Place(filled))

        def asked_in_between(connection: Any, remembered: Any) -> tuple[int, int]:
            writer.execute("DELETE FROM execution")
            writer.commit()
            (rows,) = connection.execute("SELECT count(*) FROM execution").fetchone()
            return sum(remembered.all(connection).counts), rows

        before = store.list_job_executions()["pagination"]["total"]
        assert store.read(asked_in_between) == (before, before)
        assert store.list_job_executions()["pagination"]["total"] == 0
        writer.close()


def test_a_reader_notices_that_another_store_has_taken_the_place(empty: str) -> None:
    """As after `pg_restore --clean`, or DROP SCHEMA and a load."""

    def made(names: str) -> None:
        jobs = [{"name": name, "job_type": "t", "job_category": "c"} for name in names]
        runs = [{"job_name": name, "status": "SUCCESS", "started_at": "2026-01-01T00:00:00Z"} for name in names]
        jobstore.load(empty, {"jobs": jobs, "executions": runs})

    def seen() -> list[str]:
        page = store.list_job_executions(order_by="id", order_desc=False)
        assert page["pagination"]["total"] == len(page["data"])
        return [run["job_name"] for run in page["data"]]

    made("ab")
    with jobstore.open(empty) as store:
        assert seen() == ["a", "b"]
        assert len(store.list_jobs()["data"]) == 2
        with psycopg.connect(empty) as other:
            other.execute("DROP SCHEMA jobstore CASCADE")
        made("xyz")
        assert seen() == ["x", "y", "z"]
        assert [job["name"] for job in store.list_jobs(order_by="name", order_desc=False)["data"]] == ["x", "y", "z"]
        assert store.job_stats("z")["runs"] == 1


def test_a_reader_follows_a_job_whose_number_others_change(server: Server, database: str) -> None:
    with jobstore.open(server.url(database)) as store, server.connect(database) as connection:
        name = store.list_jobs(limit=1)["data"][0]["name"]
        total = store.list_job_states()["pagination"]["total"]
        connection.execute("UPDATE jobstore.job SET number = 7777 WHERE name = %s", (name,))
        connection.commit()
        assert store.get_job(7777)["name"] == name
        assert store.list_jobs()["pagination"]["total"] == total
        assert "7777" in {job["job_id"] for job in store.list_job_states()["data"]}

"""Whole stores on a server: what `check` finds there, and what `load` refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.language.address import Address
from jobstore.transfer.server import lag
from tests.contract.conftest import SEED_EXECUTIONS, SEED_JOBS
from tests.postgres.test_conformance import made
from tests.waiting import until

if TYPE_CHECKING:
    from tests.postgres.servers import Server

SEED = {"jobs": SEED_JOBS, "executions": SEED_EXECUTIONS}
DAMAGE = {
    "UPDATE job SET folded = 'x'": "cannot be found by search",
    "UPDATE job_name SET folded = 'x'": "cannot be found by search",
    "UPDATE job SET parameters = '{'": "would not write",
    "UPDATE job SET schedule = 'x' WHERE number = 1": "cannot be computed",
    "UPDATE execution SET result = '{'": "would not write",
    "UPDATE execution SET started_by = 7": "a process is recorded",
    "UPDATE setting SET value = 'Nowhere' WHERE key = 'timezone'": "Nowhere",
    "UPDATE name_day_sum SET runs = runs + 1": "of name",
    "UPDATE name_sum SET runs = runs + 1": "name_tally",
    "DELETE FROM name_sum": "name_tally is missing",
    "UPDATE period_sum SET timed = timed + 1 WHERE span = 1": "period_tally",
    "ALTER TABLE execution DISABLE TRIGGER execution_counted_in": "trigger execution_counted_in is missing",
    "DROP TRIGGER job_told ON job": "trigger job_told is missing",
    "DROP INDEX execution_trace": "The index execution_trace is missing",
    "CREATE TRIGGER mine AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION job_told()": "'mine' is not part of jobstore",
    "SELECT setval(pg_get_serial_sequence('execution', 'id'), 5)": "is already used",
}


def test_check_finds_each_damage_and_nothing_else(server: Server, database: str) -> None:
    url = server.url(database)
    jobstore.load(url, SEED)
    assert jobstore.check(url) == []
    with server.connect(database) as connection:
        for statement, said in DAMAGE.items():
            connection.execute("BEGIN; SET LOCAL search_path = jobstore")
            connection.execute(statement)
            connection.execute("COMMIT")
            assert any(said in problem for problem in jobstore.check(url)), statement
            connection.execute("DROP SCHEMA jobstore CASCADE")
            jobstore.load(url, SEED)


def test_check_tells_of_each_execution_it_has_looked_at(url: str) -> None:
    told: list[int] = []
    of = made(7)
    jobstore.load(url, of.document, progress=told.append)
    assert sum(told) == len(of.jobs) + len(of.executions)
    told.clear()
    assert jobstore.check(url, progress=told.append) == []
    assert sum(told) == len(of.executions)


def test_a_load_is_whole_or_not_there(url: str) -> None:
    twice = [*SEED_EXECUTIONS, SEED_EXECUTIONS[0]]
    with pytest.raises(jobstore.InvalidRecord, match=r"executions\[2\]: the id 12345 is already in use"):
        jobstore.load(url, {"jobs": SEED_JOBS, "executions": twice})
    with pytest.raises(jobstore.StoreNotFound):
        jobstore.open(url)
    jobstore.load(url, SEED)
    with pytest.raises(jobstore.Conflict, match="already"):
        jobstore.load(url, SEED)
    with jobstore.open(url) as store:
        assert store.list_job_executions()["pagination"]["total"] == 2


def test_a_standby_says_how_far_it_is_behind(server: Server, database: str) -> None:
    url = server.url(database)
    jobstore.load(url, SEED)
    assert lag(Address(url)) is None
    with server.standby() as standby:
        standby.catch_up(server)
        behind = standby.url(database)
        assert jobstore.check(behind) == []
        until(lambda: "level" in (lag(Address(behind)) or ""))  # it may still be about to connect to its primary
        with standby.connect() as connection, server.connect(database) as other:
            connection.execute("SELECT pg_wal_replay_pause()")
            other.execute("DELETE FROM jobstore.execution")
            while connection.execute("SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()").fetchone() == (
                True,
            ):
                pass
        assert "s behind its primary" in (lag(Address(behind)) or "")
        with pytest.raises(jobstore.StoreError, match=r"standby|read-only"):
            jobstore.load(standby.url("postgres"), SEED)


def test_a_schema_may_be_renamed_and_another_store_take_its_name(server: Server, database: str) -> None:
    renamed = server.url(database, options="-csearch_path=Renamed")
    jobstore.load(server.url(database), SEED)
    with server.connect(database) as connection:
        connection.execute("ALTER SCHEMA jobstore RENAME TO renamed")
    with jobstore.Recorder(renamed) as recorder, recorder.run(SEED_JOBS[0]["name"]):
        pass
    assert jobstore.check(renamed) == []
    jobstore.load(server.url(database), SEED)
    with jobstore.Recorder(renamed) as recorder, recorder.run(SEED_JOBS[0]["name"]):
        pass
    for url, runs in ((server.url(database), 2), (renamed, 4)):
        assert jobstore.check(url) == []
        with jobstore.open(url) as store:
            assert store.job_stats()["runs"] == runs

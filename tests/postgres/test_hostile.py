"""What crooked addresses, texts and schemas, and a server that says nothing, may do: end in one error of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import jobstore
from jobstore.wsgi import create_app
from tests.postgres.servers import ANY_KIND, running
from tests.wsgi import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres.servers import Server

psycopg = pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(ANY_KIND) as started:
        yield started


def _children(parent: int) -> Iterator[int]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(file.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(file.parent.name)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server's processes, stopped as by a debugger: connections stay, and nothing is answered."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)  # first: it starts no more of them
    processes = [postmaster, *_children(postmaster)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


NAME = "中文\\'\""


def use(url: str) -> None:
    with jobstore.Recorder(url) as recorder:
        recorder.save_job(NAME, job_type="t", job_category="c")
        recorder.enqueue(NAME)
    with jobstore.open(url) as store:
        assert store.list_job_executions(search="中文\\")["pagination"]["total"] == 1
    assert jobstore.check(url) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the server's processes are found in /proc")
def test_a_server_that_says_nothing_is_given_up(server, url, monkeypatch):
    for patience in ("READER_PATIENCE_SECONDS", "WRITER_PATIENCE_SECONDS"):
        monkeypatch.setattr(f"jobstore.storage.postgres.connection.{patience}", 5)
    place = f"{url}&connect_timeout=5"
    with jobstore.Recorder(place, timeout_seconds=1) as recorder, jobstore.open(place) as store:
        recorder.save_job("a", job_type="t", job_category="c")
        first = recorder.enqueue("a")
        app = create_app(place, open_access=True)
        assert ask(app, "/healthz").status == 200
        with stopped(server):
            with pytest.raises(jobstore.StoreUnreadable, match="cannot be reached"):
                store.list_jobs()
            with pytest.raises((jobstore.StoreUnreadable, jobstore.StoreBusy)):
                recorder.start(first)
            assert ask(app, "/healthz").status == 503
            assert ask(app, "/api/v1/jobs").status == 503
        assert store.list_jobs()["pagination"]["total"] == 1
        assert ask(app, "/healthz").status == 200
        recorder.start(first)
        assert store.get_execution(first)["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ('"Two Words"', "Two Words"), ('"q""u%?"', 'q"u%?'), ("one,two", "one"), ("UPPER", "upper"), ("ümlaut", "ümlaut"),
        ("x'y", "x'y"), ("", "jobstore"), ("one --Search-Path=two", "two"), ("one -c x.search_path=two", "one"),
    ],
)  # fmt: skip
def test_the_store_is_in_the_first_schema_of_the_search_path(server, database, path, schema):
    url = server.url(database, options="-csearch_path=" + (path if " -" in path else path.replace(" ", "\\ ")))
    use(url)
    with server.connect(database) as connection:
        found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'execution'").fetchall()
    assert found == [(schema,)]


SETTINGS = (
    "client_encoding = latin1", "DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "standard_conforming_strings = off",
    "default_transaction_isolation = serializable", "lock_timeout = '1ms'",
    "search_path = nowhere", "bytea_output = escape", "transform_null_equals = on", "plan_cache_mode = force_generic_plan",
)  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_database_sets_for_its_sessions_changes_nothing(server, database, url, setting):
    with server.connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database} SET {setting}")
    use(url)


def test_nothing_is_recorded_where_triggers_are_off(server, database, url):
    use(url)
    with server.connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database} SET session_replication_role = replica")
    with pytest.raises(jobstore.StoreUnreadable, match=r"triggers .* ALTER ROLE"):
        jobstore.Recorder(url)
    assert jobstore.check(url) == []
    with server.connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database} RESET session_replication_role")
    jobstore.Recorder(url).close()


def test_no_limit_of_a_database_ends_a_statement(server, database, url):
    from jobstore.storage.postgres.connection import Connection, Place

    with server.connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database} SET statement_timeout = '10s'")
    for is_reader, limit in ((True, "1min"), (False, "0")):
        with closing(Connection(Place(url), is_reader=is_reader)) as ours:
            assert ours.value("SELECT current_setting('statement_timeout')") == limit


def test_no_encoding_but_utf8_is_spoken_and_no_limit_ends_a_long_snapshot(server, database, url, monkeypatch):
    with server.connect(database) as connection:
        if connection.info.server_version >= 170_000:
            connection.execute(f"ALTER DATABASE {database} SET transaction_timeout = '30s'")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    use(f"{url}&client_encoding=SQL_ASCII")
    with jobstore.open(url) as store:
        limits = "current_setting('transaction_timeout', true), current_setting('client_encoding')"
        assert store.read(lambda connection, _: connection.execute(f"SELECT {limits}").fetchone()) in {
            (None, "UTF8"), ("0", "UTF8")
        }  # fmt: skip


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_without_room_for_every_text_is_refused(server, database, encoding):
    name = f"{database}_{encoding.lower()}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        try:
            for door in (jobstore.open, jobstore.Recorder):
                with pytest.raises(jobstore.StoreUnreadable, match=f"encoding {encoding}"):
                    door(server.url(name))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_policy_that_hides_rows_is_told_and_not_obeyed(server, database, url):
    use(url)
    role = f"{database}_reader"
    with server.connect(database) as connection:
        connection.execute(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA jobstore TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA "
            f"jobstore TO {role}; ALTER TABLE jobstore.execution ENABLE ROW LEVEL SECURITY"
        )
        try:
            reader = jobstore.open(url.replace("tester@", f"{role}@"))
            with reader, pytest.raises(jobstore.StoreUnreadable, match="row-level security"):
                reader.list_job_executions()
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM jobstore.job_name", "DELETE FROM jobstore.folding", "UPDATE jobstore.execution SET name_id = 99",
    ],
)  # fmt: skip
def test_a_damaged_store_is_told_from_a_defect_of_ours(server, database, url, damage):
    use(url)
    with server.connect(database) as connection:
        connection.execute(damage)
    with jobstore.open(url) as store, pytest.raises(jobstore.StoreCorrupt, match="jobstore check"):
        store.list_job_executions()


def test_a_defect_of_ours_is_not_blamed_on_a_sound_store(url):
    use(url)
    with jobstore.open(url) as store:
        with pytest.raises(ZeroDivisionError):
            store.read(lambda *_: 1 // 0)
        assert store.list_jobs()["pagination"]["total"] == 1


def test_a_check_that_fails_hides_no_defect_and_is_not_repeated(url, monkeypatch):
    checks = []

    def too_long(connection):
        checks.append(1)
        connection.execute("SET LOCAL statement_timeout = 1")
        connection.execute("SELECT pg_sleep(60)")

    use(url)
    monkeypatch.setattr("jobstore.postgres.is_server_sound", too_long)
    with jobstore.open(url) as store:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                store.read(lambda *_: 1 // 0)
        assert store.list_jobs()["pagination"]["total"] == 1
    assert checks == [1]


def test_a_value_that_the_server_cannot_take_is_a_defect_of_ours(url):
    use(url)
    with jobstore.open(url) as store, pytest.raises(psycopg.DataError):
        store.read(lambda connection, _: connection.execute("SELECT 1 / 0"))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobstore.execution ADD extra int CHECK (extra IS NOT NULL)",
        """CREATE FUNCTION jobstore.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; END';
        CREATE TRIGGER no BEFORE INSERT ON jobstore.execution FOR EACH ROW EXECUTE FUNCTION jobstore.no()""",
        "CREATE RULE no AS ON INSERT TO jobstore.execution DO INSTEAD NOTHING",
        "ALTER TABLE jobstore.execution ALTER id DROP IDENTITY",
        "ALTER TABLE jobstore.execution ADD extra int GENERATED ALWAYS AS (1 / (status - status)) STORED",
        "ALTER TABLE jobstore.execution ADD CHECK (1 / (status - status) < 5)",
    ],
)
def test_what_others_put_in_the_way_of_recording_is_an_error_of_ours(server, database, url, change):
    with jobstore.Recorder(url) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        with server.connect(database) as connection:
            connection.execute(change)
        with pytest.raises(
            jobstore.StoreUnreadable, match=r"refused a statement .* may be the cause: see .*jobstore check"
        ):
            recorder.enqueue("a")


def test_a_trigger_that_discards_rows_is_an_error_of_ours(server, database, url):
    with jobstore.Recorder(url) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        with server.connect(database) as connection:
            connection.execute(
                """CREATE FUNCTION jobstore.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER no BEFORE INSERT ON jobstore.execution FOR EACH ROW EXECUTE FUNCTION jobstore.no()"""
            )
        with pytest.raises(jobstore.StoreUnreadable, match=r"discards new rows; .* see 'jobstore check'"):
            recorder.enqueue("a")
        assert any("The trigger 'no' is not part of jobstore" in problem for problem in jobstore.check(url))


def test_a_pooler_of_transactions_is_told(url):
    use(url)
    with jobstore.Recorder(url) as recorder:
        for _ in range(10):
            recorder.enqueue(NAME)
        # As on the next of its connections, what this one prepared is not there.
        connection: Any = recorder._writer._connection
        connection.raw.pgconn.exec_(b"DEALLOCATE ALL")
        with pytest.raises(jobstore.StoreUnreadable, match="pool_mode=session"):
            recorder.enqueue(NAME)


def test_a_server_that_is_full_or_starting_is_busy(server, database):
    with server.connect(database) as connection:
        connection.execute(f"CREATE ROLE {database}_only LOGIN CONNECTION LIMIT 0")
    try:
        with pytest.raises(jobstore.StoreBusy, match=r"no more connections .*too many connections.*; try again"):
            jobstore.open(server.url(database).replace("tester@", f"{database}_only@"))
    finally:
        with server.connect(database) as connection:
            connection.execute(f"DROP ROLE {database}_only")
    from jobstore.storage.postgres.connection import Place, server_errors

    for said in ("sorry, too many clients already", "the database system is starting up"):
        error = server_errors(Place("postgresql:///x")).error_for(
            psycopg.OperationalError(f"connection failed: FATAL:  {said}")
        )
        assert isinstance(error, jobstore.StoreBusy)
        assert error.may_repeat


def test_a_run_longer_than_a_duration_can_say_is_given_the_longest(url):
    with jobstore.Recorder(url) as recorder, jobstore.open(url) as store:
        recorder.save_job("a", job_type="t", job_category="c", timeout_seconds=1)
        for way in (lambda number: recorder.finish(number, "SUCCESS"), lambda _: recorder.close_interrupted()):
            number = recorder.enqueue("a", at="0001-01-01T00:00:00Z")
            recorder.start(number, at="0001-01-01T00:00:00Z")
            way(number)
            assert store.get_execution(number)["duration_ms"] == 4_398_046_511_103


def test_what_variables_and_services_say_counts_as_in_an_address(tmp_path, monkeypatch):
    from jobstore.storage.postgres.connection import Place

    (tmp_path / "services").write_text("[history]\nhost=db.example\nport=77\ndbname=runs\npassword=s3cret\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGSERVICE", "history")
    place = Place("postgresql://")
    assert str(place) == "PostgreSQL database runs at db.example:77"
    assert place.hidden("said s3cret") == "said ..."
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    given = {}
    monkeypatch.setattr(psycopg.Connection, "connect", lambda _address, **options: given.update(options))
    Place("postgresql://").connect(connect_timeout=10, keepalives_idle=30)
    assert given == {"client_encoding": "UTF8", "keepalives_idle": 30}


@pytest.mark.parametrize("path", ['"$user"', "pg_catalog", "pg_mine"])
def test_a_schema_that_is_nobodys_is_refused(server, path):
    with pytest.raises(jobstore.InvalidParameter, match="cannot be in the schema"):
        jobstore.open(server.url(options=f"-csearch_path={path}"))


@pytest.mark.parametrize("name", ['Weird "db" x', "données", "a'b", "a%b?"])
def test_a_database_may_have_any_name(server, name):
    with server.connect() as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        try:
            use(server.url(quote(name, safe="")))
        finally:
            connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


@pytest.mark.parametrize(
    "address",
    ["u@h/%FF", "u:p%00w@h/x", "u@127.0.0.1/x?connect_timeout=abc", "u@/x?service=none", "u@[::1]:1/x", "u@h:99999/x"],
)
def test_a_crooked_address_is_an_error_of_ours(address):
    with pytest.raises(jobstore.StoreUnreadable):
        jobstore.open(f"postgresql://{address}")


def test_a_short_password_is_not_cut_out_of_words():
    with pytest.raises(jobstore.StoreUnreadable, match="connection"):
        jobstore.open("postgresql://u:n@127.0.0.1:1/x")


@pytest.mark.parametrize(
    "made",
    [
        "FOREIGN TABLE jobstore.job (a int) SERVER away", "TYPE jobstore.job AS (a int)",
        "MATERIALIZED VIEW jobstore.setting AS SELECT 1 AS a",
        "TABLE jobstore.setting (key text, value int); CREATE TABLE jobstore.execution (a int)",
    ],
)  # fmt: skip
def test_a_schema_of_somebody_else_is_left_alone(server, database, url, made):
    with server.connect(database) as connection:
        connection.execute("CREATE FOREIGN DATA WRAPPER none; CREATE SERVER away FOREIGN DATA WRAPPER none")
        connection.execute(f"CREATE SCHEMA jobstore; CREATE {made}")
    for opened in (jobstore.Recorder, jobstore.open):
        with pytest.raises(jobstore.NotAStore):
            opened(url)


def test_a_text_with_nul_is_kept_with_a_mark_in_its_place(url):
    with jobstore.Recorder(url) as recorder:
        recorder.save_job("'; DROP TABLE job; -- %s ?", job_type="t", job_category="c", description="x\0y")
        run = recorder.enqueue("'; DROP TABLE job; -- %s ?", parameters={"nul": "\0", "large": "x" * 65_000})
        recorder.start(run)
        recorder.finish(run, "FAILURE", error="a\0b")
    with jobstore.open(url) as store:
        assert store.get_execution(run)["error"] == "a\ufffdb"
        assert store.get_job("1")["description"] == "x\ufffdy"
    assert jobstore.check(url) == []


def test_after_the_last_number_the_store_is_full(server, database, url):
    use(url)
    with server.connect(database) as connection:
        connection.execute("SELECT setval('jobstore.execution_id_seq', 9223372036854775806)")
    with jobstore.Recorder(url) as recorder:
        assert recorder.enqueue(NAME) == "9223372036854775807"
        with pytest.raises(jobstore.StoreFull, match="last number"):
            recorder.enqueue(NAME)
    with jobstore.open(url) as store:
        assert store.get_execution("9223372036854775807")["status"] == "PENDING"


def test_an_application_on_an_address_says_at_once_that_the_driver_is_missing():
    code = (
        "import sys; sys.modules['psycopg'] = None\nfrom jobstore.wsgi import create_app\n"
        "create_app(sys.argv[1], open_access=True)"  # Python 3.13 shows this line
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "postgresql://u:s3cret@h/db"], capture_output=True, text=True, check=False
    )
    assert "[postgres]" in done.stderr.splitlines()[-1]
    assert "s3cret" not in done.stderr

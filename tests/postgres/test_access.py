"""Who gets in, and how far: TLS, passwords, roles and standbys, as `docs/scale.md` says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import jobstore
from jobstore.cli.app import run
from jobstore.wsgi import create_app
from tests.contract.cli.conftest import WORLD
from tests.ports import free_port
from tests.postgres.servers import LONG, Server, installation, running, user
from tests.postgres.test_doors import command
from tests.wsgi import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

psycopg = pytest.importorskip("psycopg")
PASSWORD = "pw s3cret/@"
IN_ADDRESS = "pw%20s3cret%2F%40"


class Guarded(NamedTuple):
    """A server that asks for TLS and a password: its address without one, and its certificate."""

    address: str
    port: int
    certificate: Path


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    programs = installation("debian")
    if programs is None or shutil.which("openssl") is None:
        pytest.skip("no PostgreSQL server with TLS here (apt-get install postgresql openssl)")
    port = free_port()
    server = Server(programs, more=("listen_addresses=127.0.0.1",), port=port)
    try:
        key, certificate = server.folder / "server.key", server.folder / "server.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True,
        )  # fmt: skip
        key.chmod(0o600)
        if user():
            os.chown(key, user(), user())
        certificate.chmod(0o644)
        with server.connect() as connection:
            for setting, value in (("ssl", "on"), ("ssl_cert_file", certificate), ("ssl_key_file", key)):
                connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
            connection.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE history OWNER keeper")
        (server.data / "pg_hba.conf").write_text("local all tester trust\nhostssl all keeper all scram-sha-256\n")
        server.restart()
        yield Guarded(f"postgresql://keeper@localhost:{port}/history", port, certificate)
    finally:
        server.close()


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PG", "JOBSTORE_"))]:
        monkeypatch.delenv(name)


def enter(address: str) -> bool:
    """Record and read; whether the connection is encrypted."""
    with jobstore.Recorder(address) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
    with jobstore.open(address) as store:
        assert store.list_jobs()["pagination"]["total"] == 1
        opened: Any = store
        return bool(opened._connection.raw.pgconn.ssl_in_use)


def test_tls_checks_certificate_and_name(guarded, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    checked = f"{guarded.address}?sslmode=verify-full&sslrootcert={guarded.certificate}"
    assert enter(checked)
    assert enter(f"{guarded.address}?sslmode=require")
    with pytest.raises(jobstore.StoreUnreadable, match=r"with TLS .*does not match host name"):
        jobstore.open(checked.replace("localhost", "127.0.0.1"))
    with pytest.raises(jobstore.StoreUnreadable, match=r"with TLS .*/nowhere.crt"):
        jobstore.open(f"{guarded.address}?sslmode=verify-full&sslrootcert=/nowhere.crt")
    with pytest.raises(jobstore.StoreUnreadable, match="no encryption"):
        jobstore.open(f"{guarded.address}?sslmode=disable")


def test_passwords_come_from_where_libpq_looks_and_are_never_shown(guarded, tmp_path, monkeypatch):
    for address in (
        guarded.address.replace("keeper@", f"keeper:{IN_ADDRESS}@"),
        f"{guarded.address}?password={IN_ADDRESS}",
    ):
        assert enter(address)
        with jobstore.open(address) as store:
            assert "s3cret" not in f"{store!r} {store.path}"
    for address in (guarded.address, guarded.address.replace("keeper@", "keeper:wr0ng@")):
        with pytest.raises(jobstore.StoreUnreadable, match="rejected this user") as caught:
            jobstore.open(address)
        assert "wr0ng" not in str(caught.value)
        assert caught.value.__cause__ is None
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"localhost:{guarded.port}:history:keeper:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert enter(guarded.address)
    services = tmp_path / "services"
    services.write_text(f"[history]\nhost=localhost\nport={guarded.port}\nuser=keeper\ndbname=history\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    assert enter("postgresql:///?service=history")
    monkeypatch.setenv("PGSERVICE", "history")
    assert enter("postgresql://")


def test_of_several_hosts_the_one_that_fits_is_taken(guarded, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    several = guarded.address.replace("localhost", "127.0.0.1:1,localhost")
    assert enter(f"{several}?target_session_attrs=read-write")
    with pytest.raises(jobstore.StoreUnreadable, match="not in hot standby mode"):
        jobstore.open(f"{several}?target_session_attrs=standby")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("debian" if installation("debian") else "wheel") as started:
        yield started


def of(role: str, url: str) -> str:
    return url.replace("tester@", f"{role}@")


def test_rights_are_enough_where_the_docs_say_so_and_else_named(server, database, url, capfd):
    jobstore.load(url, WORLD)
    with server.connect(database) as connection:
        connection.execute(
            "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA jobstore TO reader, writer;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA jobstore TO reader, writer;"
            "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobstore TO writer; CREATE ROLE nobody LOGIN;"
            f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO reader, writer;"
        )
    try:
        for role, said in (("nobody", "permission denied for database"), ("missing", 'role "missing" does not exist')):
            with pytest.raises(jobstore.StoreUnreadable, match=f"rejected this user .*{said}.*check the user"):
                jobstore.open(of(role, url))
        with server.connect(database) as connection:
            connection.execute(f"GRANT CONNECT ON DATABASE {database} TO nobody")
        for words in ("jobs", "executions", "stats", "histogram", "metrics", "dump", "export", "check", "timezone"):
            assert run([words, of("reader", url)]) == 0
        app = create_app(of("reader", url), open_access=True, page=True)
        for path in ("/", "/executions", "/jobs/poll", "/timeline", "/api/v1/states", "/metrics", "/healthz"):
            assert ask(app, path).status == 200
        for role in ("reader", "nobody"):
            capfd.readouterr()
            assert run(["exec", of(role, url), "x", "--", "sh", "-c", "exit 5"]) == 5
            told = capfd.readouterr().err
            assert len(told.splitlines()) == 1, told
            assert "INSERT, UPDATE and DELETE" in told
        with jobstore.Recorder(of("writer", url)) as recorder:
            with recorder.run("poll"):
                pass
            assert recorder.prune(before="2100-01-01T00:00:00Z")
            recorder.close_interrupted()
        assert jobstore.check(url) == []
    finally:
        with server.connect(database) as connection:
            connection.execute("DROP OWNED BY reader, writer, nobody; DROP ROLE reader, writer, nobody")


@pytest.mark.parametrize("conflicts", [1, 2])
def test_an_answer_that_a_standby_gives_up_is_asked_once_more(server, database, url, conflicts):
    jobstore.load(url, WORLD)
    tries: list[int] = []
    with server.standby("max_standby_streaming_delay=0") as standby, server.connect(database) as primary:
        standby.catch_up(server)

        def query(connection: Any, _memory: Any) -> Any:
            tries.append(1)
            given_up_at = time.monotonic() + LONG
            while len(tries) <= conflicts:  # until the standby replays the vacuum in the way of our snapshot
                connection.execute("SELECT count(*) FROM execution").fetchall()
                primary.execute("UPDATE jobstore.setting SET value = value")
                primary.execute("VACUUM jobstore.setting")
                standby.catch_up(server)
                assert time.monotonic() < given_up_at
            return connection.value("SELECT count(*) FROM execution")

        with jobstore.open(standby.url(database)) as store:
            if conflicts > 1:
                with pytest.raises(jobstore.StoreBusy):
                    store.read(query)
            else:
                assert store.read(query) == 65
            assert len(tries) == 2
            assert store.list_job_executions()["pagination"]["total"] == 65
        done = command("exec", standby.url(database), "x", "--", "sh", "-c", "exit 5")
        assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done.stderr
        assert "record into the primary server" in done.stderr


def test_mcp_answers_from_an_address(url):
    pytest.importorskip("mcp")
    import sys

    from mcp.client.stdio import StdioServerParameters

    from tests.contract.test_mcp import document_of, in_session

    jobstore.load(url, WORLD)

    async def talk(client: Any) -> None:
        page = await client.call_tool("datahub_list_job_executions", {"limit": 3})
        assert document_of(page)["pagination"]["total"] == 65

    in_session(StdioServerParameters(command=sys.executable, args=["-m", "jobstore", "mcp", url]), talk)

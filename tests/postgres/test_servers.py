"""The servers of these tests themselves: real, restartable, and gone when the tests are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.postgres.servers import LONG, running

if TYPE_CHECKING:
    from tests.postgres.servers import Server


def test_a_server_keeps_what_was_committed_over_a_crash(server: Server, database: str) -> None:
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 17 AS value")
    for how in ("immediate", "kill", "fast"):
        server.restart(how)
        with server.connect(database) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (17,)


def test_a_standby_follows(server: Server, standby: Server, database: str) -> None:
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 17 AS value")
    standby.catch_up(server)
    with standby.connect(database) as connection:
        assert connection.execute("SELECT value, pg_is_in_recovery() FROM kept").fetchone() == (17, True)


KILLED = """
import sys, time
from tests.postgres.servers import running
with running(sys.argv[1]) as server:
    print(server.folder, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("kind", ["debian", "wheel"])
def test_a_server_ends_with_tests_that_are_killed(kind: str) -> None:
    with running(kind):  # or skip
        pass
    tests = subprocess.Popen([sys.executable, "-c", KILLED, kind], stdout=-1, text=True)
    assert tests.stdout is not None
    with tests.stdout:
        folder = Path(tests.stdout.readline().strip())
    assert (folder / "data").is_dir()
    pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(tests.pid, signal.SIGKILL)
    tests.wait()
    given_up_at = time.monotonic() + LONG
    while folder.exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < given_up_at
        time.sleep(0.05)

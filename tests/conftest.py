"""No process outlives the tests, however they end: a watcher ends what this one started when this one is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Hundreds of processes are started from here; where a machine keeps no bytecode, each would compile the package again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

POLES = (
    "test_power_cut", "test_damage", "test_readers", "test_io_errors", "test_schemathesis", "test_crowd", "test_doors", "test_model",
    "test_interrupts", "test_execute_untouched", "test_browser", "test_snapshots", "test_poison", "test_apscheduler_minute",
)  # fmt: skip
"""Files that take long. They come first, or one worker would idle at the end while the other has them left."""

MARK = "TESTS_THAT_STARTED_THIS"
"""A variable that every process inherits which a test starts, and by which the watcher knows it."""

WATCHER = """
import os, signal, sys, time
mark = sys.argv[1].encode()
sys.stdin.read()  # until the tests are gone
for _ in range(20):
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if mark in environ.read():
                    left.append(int(pid))
        except OSError:
            pass
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if not left:
        break
    time.sleep(0.1)
"""


def pytest_configure(config: pytest.Config) -> None:
    """Starts the watcher; gives the keyboard's signals their meaning back.

    A shell takes it from what it starts in the background, and every child would inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if not Path("/proc/self/environ").exists():
        return
    mark = f"{MARK}={uuid.uuid4().hex}"
    clean = {name: value for name, value in os.environ.items() if name != MARK}
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, mark], stdin=-1, env=clean, start_new_session=True)
    os.environ[MARK] = mark.partition("=")[2]

    def let_go() -> None:
        if watcher.stdin is not None:
            watcher.stdin.close()
        watcher.wait()

    config.add_cleanup(let_go)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first, behind whatever shuffles."""
    items.sort(key=lambda item: item.path.stem not in POLES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours stay with one worker, which keeps what a file sets up; one that has nothing left takes of another's."""
    from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped]

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None

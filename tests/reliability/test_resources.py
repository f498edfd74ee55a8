"""What long-running processes use stays flat; a writer that is stopped stops no reader, and other writers are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jobstore
from jobstore.language.errors import StoreBusy
from tests.reliability.scale import SOAK, report, run_program

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what a process uses")

HOLD = """
import sys
from jobstore.storage.writer import Writer
from pathlib import Path
writer = Writer(Path(sys.argv[1]), timeout_seconds=60)
with writer.transaction() as connection:
    connection.execute("UPDATE job SET description = 'half'")
    print("inside", flush=True)
    sys.stdin.read()
    raise SystemExit
"""
TIMEOUT_SECONDS = 0.5


def test_memory_descriptors_and_log_stay_flat_beside_a_reader_that_never_pauses(tmp_path: Path) -> None:
    run_program("resources", tmp_path, "--seconds", 6 if SOAK <= 1 else 45 * SOAK)


def test_a_writer_that_is_stopped_stops_no_reader_and_other_writers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with jobstore.Recorder(path, timeout_seconds=TIMEOUT_SECONDS) as recorder, jobstore.open(path) as store:
        recorder.save_job("a", job_type="t", job_category="c", description="whole")
        stopped = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert stopped.stdout is not None
            assert stopped.stdout.readline() == b"inside\n"
            os.kill(stopped.pid, signal.SIGSTOP)
            for _ in range(3):
                assert store.get_job("a")["description"] == "whole"
                begun = time.monotonic()
                with pytest.raises(StoreBusy):
                    recorder.enqueue("a")
                waited = time.monotonic() - begun
                assert waited >= TIMEOUT_SECONDS
                report(
                    "a stopped writer",
                    longest_wait_of_another_seconds=round(waited, 3),
                    promised_seconds=TIMEOUT_SECONDS,
                )
            os.kill(stopped.pid, signal.SIGCONT)
            stopped.communicate(timeout=120)
        finally:
            stopped.kill()
            stopped.wait()
        assert recorder.enqueue("a")
        assert store.get_job("a")["description"] == "whole"
    assert jobstore.check(path) == []

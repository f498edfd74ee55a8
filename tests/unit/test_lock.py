"""Locks of a file, and where a file may be kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobstore.language.errors import StoreBusy, StoreUnreadable
from jobstore.storage import folders
from jobstore.storage.lock import lock_of
from jobstore.storage.sidefiles import lock_path
from jobstore.storage.writer import Writer
from tests.waiting import LONG_SECONDS, until


class Guest(Writer):
    """Keeps the lock file open, as a writer does."""

    def __init__(self) -> None:
        """Open nothing."""


HOLD = """
import sys
from pathlib import Path
from jobstore.storage.lock import lock_of
with lock_of(Path(sys.argv[1])).acquired(120):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_waited_for_and_not_for_ever(tmp_path):
    file = tmp_path / "jobs.db"
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=-1, stdout=-1) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        words = r"Another process has held .*jobs\.db\.lock for longer than the timeout"
        with pytest.raises(StoreBusy, match=words), lock_of(file).acquired(0.05):
            pytest.fail("two were in")
        threading.Timer(0.1, other.stdin.close).start()
        with lock_of(file).acquired(120):
            pass
        other.wait(LONG_SECONDS)


WAIT = """
import sys, time
from pathlib import Path
from jobstore.storage import lock as module
from jobstore.storage.lock import lock_of
if len(sys.argv) > 2:  # a busy machine keeps a process from its turn as one does that is stopped
    module.LINE_STUCK_SECONDS = 3600
lock = lock_of(Path(sys.argv[1]))
with lock.acquired(120):
    print(time.monotonic_ns(), flush=True)
"""


def waiting(file: Path, *options: str) -> subprocess.Popen[str]:
    """A process that stands in line; returned once it does."""
    before = standing(file)
    process = subprocess.Popen([sys.executable, "-c", WAIT, file, *options], stdout=-1, text=True)
    until(lambda: standing(file) > before)
    return process


def standing(file: Path) -> int:
    identity = lock_path(file).stat()
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return sum("OFDLCK" in line and line.split()[5].endswith(f":{identity.st_ino}") for line in lines)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until its standard input is closed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "jobs.db"], stdin=-1, stdout=-1)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


linux = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="turns are in order on Linux alone")


@linux
def test_processes_come_in_the_order_in_which_they_asked(tmp_path, holder):
    line = [waiting(tmp_path / "jobs.db", "in order") for _ in range(6)]
    holder.stdin.close()
    turns = [int(process.communicate(timeout=LONG_SECONDS)[0]) for process in line]
    assert turns == sorted(turns)


@linux
def test_a_process_that_is_stopped_in_line_holds_nobody_up_for_ever(tmp_path, holder):
    stopped = waiting(tmp_path / "jobs.db")
    stopped.send_signal(signal.SIGSTOP)
    try:
        other = waiting(tmp_path / "jobs.db")
        holder.stdin.close()
        assert other.communicate(timeout=LONG_SECONDS)[0]
    finally:
        stopped.kill()
        stopped.communicate()


@linux
def test_a_waiting_process_that_is_killed_leaves_the_line(tmp_path, holder):
    killed, other = waiting(tmp_path / "jobs.db"), waiting(tmp_path / "jobs.db")
    killed.kill()
    killed.communicate()
    until(lambda: standing(tmp_path / "jobs.db") == 1)
    holder.stdin.close()
    assert other.communicate(timeout=LONG_SECONDS)[0]


def test_threads_of_one_process_share_a_gate_and_are_told_apart(tmp_path):
    file = tmp_path / "jobs.db"
    lock = lock_of(file)
    assert lock_of(file) is lock

    def come_in(words: str) -> None:
        with pytest.raises(StoreBusy, match=words), lock_of(file).acquired(0.01):
            pytest.fail("two were in")

    with lock.acquired(60):
        other = threading.Thread(target=come_in, args=("Other threads have held",))
        other.start()
        other.join()
        come_in("This thread is already writing")
    with lock.acquired(60):
        pass


def test_a_lock_file_that_was_removed_is_made_again(tmp_path):
    file, guest = tmp_path / "jobs.db", Guest()
    lock = lock_of(file)
    lock.add(guest)
    for _ in range(2):
        with lock.acquired(60):
            assert lock_path(file).exists()
        lock_path(file).unlink()


def test_no_lock_file_stays_open_without_a_writer(tmp_path):
    with lock_of(tmp_path / "jobs.db").acquired(60):
        pass
    assert lock_of(tmp_path / "jobs.db")._descriptor is None


def test_a_lock_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "jobs.db.lock").mkdir()
    lock = lock_of(tmp_path / "jobs.db")
    with pytest.raises(StoreUnreadable, match=r"jobs\.db\.lock cannot be created"), lock.acquired(60):
        pytest.fail("it was in")


# --- folders

MOUNTS = """\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw shared:2 - nfs4 server:/share rw
31 22 0:41 / /mnt/my\\040disk rw - cifs //server/disk rw
32 22 0:42 / /mnt rw - tmpfs tmpfs rw
33 30 0:43 / /mnt/share/local rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home", "ext4"),
        ("/mnt", "tmpfs"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/a/b", "nfs4"),
        ("/mnt/shared", "tmpfs"),
        ("/mnt/my disk", "cifs"),
        ("/mnt/share/local/x", "xfs"),
    ],
)
def test_the_longest_mount_point_above_a_folder_tells_its_file_system(monkeypatch, folder, kind):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MOUNTS)
    assert folders._file_system(folder) == kind


def test_a_network_file_system_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "_file_system", lambda _: "nfs4")
    with pytest.raises(StoreUnreadable, match=r"network file system \(nfs4\)"):
        folders.check_folder(tmp_path)
    monkeypatch.setattr(folders, "_file_system", lambda _: None)
    folders.check_folder(tmp_path)
    with pytest.raises(StoreUnreadable, match="does not exist; create it first"):
        folders.check_folder(tmp_path / "none")


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux tells")
def test_this_system_tells_what_it_has():
    assert folders._file_system("/proc") == "proc"

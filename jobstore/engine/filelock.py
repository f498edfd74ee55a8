"""The one lock that every writer of a file takes, and what a file system must offer to hold one."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.errors import StoreBusy, StoreUnreadable

if TYPE_CHECKING:
    from types import TracebackType

_FIRST_PAUSE_SECONDS: Final = 0.0002
_LONGEST_PAUSE_SECONDS: Final = 0.005

_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "afs", "ncpfs", "coda", "ceph", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs2", "davfs", "fuse.ceph", "fuse.gcsfuse",
})  # fmt: skip


class FileLock:
    """``flock`` on a file beside the store: SQLite before 3.51.3 can lose commits when two writers checkpoint at once.

    Not reentrant and not for two threads: the writer has a lock of its own for those.
    """

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        """Waits for its turn.

        Raises:
            StoreBusy: another process held it for longer than the time-out.
            StoreUnreadable: the lock file cannot be made.
        """
        while True:
            descriptor = self._open() if self._descriptor is None else self._descriptor
            self._wait(descriptor)
            if os.fstat(descriptor).st_nlink:
                return
            self.close()  # someone removed the file: others will lock a new one

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Lets go of the lock file; it is opened again when it is needed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreUnreadable(
                f"{self._path} cannot be made: {error.strerror}; a Recorder needs a folder it may write to"
            ) from error
        return self._descriptor

    def _wait(self, descriptor: int) -> None:
        deadline, pause = None, _FIRST_PAUSE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
                deadline = now + self._timeout_seconds if deadline is None else deadline
                if now >= deadline:
                    raise StoreBusy(
                        f"Another process has held {self._path} for longer than {self._timeout_seconds:g} s; try again"
                    ) from None
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
            else:
                return


def check_folder(folder: Path) -> None:
    """Raises for a folder that is not there, or on a network file system: locks and shared memory fail there.

    Best effort: Linux tells, elsewhere nothing is refused.

    Raises:
        StoreUnreadable: a store cannot be kept there.
    """
    if not folder.is_dir():
        raise StoreUnreadable(f"There is no folder {folder}; make it first")
    kind = _file_system(os.path.realpath(folder))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnreadable(f"{folder} is on a network file system ({kind}); keep a job store on a local disk")


def _file_system(folder: str) -> str | None:
    """The type of the file system that holds a folder, from the longest mount point above it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found, longest = None, -1
    for line in mounts:
        before, _, after = line.partition(" - ")
        mount_point = before.split(" ")[4].replace("\\040", " ").rstrip("/")
        if len(mount_point) >= longest and f"{folder}/".startswith(f"{mount_point}/"):
            found, longest = after.split(" ", 1)[0], len(mount_point)
    return found

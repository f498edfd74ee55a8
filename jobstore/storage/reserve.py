"""Some room kept for the day the disk is full, when even deleting needs a little.

The file holds nothing; an emergency prune removes it and works in the room that becomes free.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jobstore.storage.limits import RESERVE_BYTES, RESERVE_SHARE, RESERVED_FROM_BYTES
from jobstore.storage.sidefiles import beside, reserve_path, share_with_writers, size_of


def keep_reserve(file: Path) -> None:
    """Make the reserve of a store that is worth one, if it is not there; best effort."""
    reserve = reserve_path(file)
    with suppress(OSError):
        if (
            # Cheap questions first: this is asked by every recorder that opens.
            reserve.exists()
            or size_of(file) + size_of(beside(file, "-wal")) < RESERVED_FROM_BYTES
            or _free_bytes(file) < RESERVE_BYTES * RESERVE_SHARE
        ):
            return
        # O_EXCL: of two recorders that open at once, one makes the file; the other's call fails, which is as good.
        descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            share_with_writers(descriptor, file)
            if hasattr(os, "posix_fallocate"):
                # Allocated, not only made long: a file with a hole in it would keep no room.
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            else:  # macOS has no such call
                os.write(descriptor, bytes(RESERVE_BYTES))
        except OSError:
            # Half a reserve would be taken for a whole one at the next look.
            reserve.unlink()
            raise
        finally:
            os.close(descriptor)


def give_up_reserve(path: str | os.PathLike[str]) -> bool:
    """Remove the reserve of the store at `path`; whether there was one."""
    try:
        reserve_path(Path(os.path.realpath(path))).unlink()
    except OSError:
        return False
    return True


def _free_bytes(file: Path) -> int:
    room = os.statvfs(file)
    return room.f_bavail * room.f_frsize

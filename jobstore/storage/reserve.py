"""Disk space kept in reserve for when the disk is full, since even deleting needs some.

The file contains nothing; an emergency prune removes it and works in the space that this frees.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jobstore.storage.limits import RESERVE_BYTES, RESERVE_SHARE, RESERVED_FROM_BYTES
from jobstore.storage.sidefiles import beside, reserve_path, share_with_writers, size_of


def keep_reserve(file: Path) -> None:
    """Create the reserve of a store that is large enough, unless it exists; best effort."""
    reserve = reserve_path(file)
    with suppress(OSError):
        if (
            # Cheapest checks first: every recorder does this when it opens.
            size_of(reserve) >= RESERVE_BYTES
            or size_of(file) + size_of(beside(file, "-wal")) < RESERVED_FROM_BYTES
            or _free_bytes(file) < RESERVE_BYTES * RESERVE_SHARE
        ):
            return
        reserve.unlink(missing_ok=True)  # a killed process may have left half of one
        # O_EXCL: of two recorders that open at once, one creates the file; the other fails, which is as good.
        descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            share_with_writers(descriptor, file)
            if hasattr(os, "posix_fallocate"):
                # Allocated, not just extended: a sparse file would reserve no space.
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            else:  # macOS has no such call
                os.write(descriptor, bytes(RESERVE_BYTES))
        except BaseException:
            reserve.unlink()  # half a reserve only takes space
            raise
        finally:
            os.close(descriptor)


def give_up_reserve(path: str | os.PathLike[str]) -> bool:
    """Remove the reserve of the store at `path`; return whether there was one."""
    try:
        reserve_path(Path(os.path.realpath(path))).unlink()
    except OSError:
        return False
    return True


def _free_bytes(file: Path) -> int:
    room = os.statvfs(file)
    return room.f_bavail * room.f_frsize

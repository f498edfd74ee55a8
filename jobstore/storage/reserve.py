"""Some room kept for the day the disk is full, when even deleting needs a little.

The file holds nothing; an emergency prune removes it and works in the room that becomes free.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 4 * 1024 * 1024
KEPT_FROM_BYTES: Final = 1024 * 1024
"""A store smaller than this gets none: there is nothing in it worth pruning."""
LARGEST_SHARE: Final = 8
"""None is made where it would take more than an eighth of the room that is left."""


def reserve_path(file: Path) -> Path:
    """The reserve of a store."""
    return file.with_name(f"{file.name}.reserve")


def keep_reserve(file: Path) -> None:
    """Makes the reserve of a store that is worth one, if it is not there; best effort."""
    reserve = reserve_path(file)
    with suppress(OSError):
        if (
            reserve.exists()
            or file.stat().st_size < KEPT_FROM_BYTES
            or _free_bytes(file) < RESERVE_BYTES * LARGEST_SHARE
        ):
            return
        descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            else:  # macOS has no such call
                os.write(descriptor, bytes(RESERVE_BYTES))
        finally:
            os.close(descriptor)


def give_up_reserve(path: str | os.PathLike[str]) -> bool:
    """Removes the reserve of the store at `path`; whether there was one."""
    try:
        reserve_path(Path(os.path.realpath(path))).unlink()
    except OSError:
        return False
    return True


def _free_bytes(file: Path) -> int:
    room = os.statvfs(file)
    return room.f_bavail * room.f_frsize

"""Where tests keep what they throw away: in memory, if the system has such a place; durability is not at stake there."""

from __future__ import annotations

import shutil
from pathlib import Path

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def memory_with_room(size: int) -> str | None:
    """The place, if so many bytes are free."""
    return MEMORY if MEMORY and shutil.disk_usage(MEMORY).free > size else None

"""Which process runs an execution, and whether that process is gone.

A process id alone is used again; with the boot and the moment the process started it names one
process for good. Linux tells both; elsewhere the id has to do.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD: Final = 19
"""Of ``/proc/PID/stat``, counted behind the command's closing bracket: clock ticks after boot."""
_ZOMBIES: Final = frozenset({"Z", "X", "x"})


class Owner(NamedTuple):
    """The process that started an execution, as the table ``process`` keeps it."""

    host: str
    boot_id: str
    pid: int
    process_started: int


def this_process() -> Owner:
    """The owner of what this process starts."""
    return _owner_of(os.getpid())


@lru_cache(maxsize=1)
def _owner_of(pid: int) -> Owner:
    state = _process(pid)
    return Owner(socket.gethostname(), _boot_id(), pid, 0 if state is None else state[1])


def is_gone(owner: Owner) -> bool:
    """Whether that process surely runs no more; of another host nothing is sure."""
    here = this_process()
    if owner.host != here.host:
        return False
    if owner.boot_id != here.boot_id:
        return True
    if not _is_there(owner.pid):
        return True
    state = _process(owner.pid)
    if state is None:
        return False
    code, started = state
    return code in _ZOMBIES or owner.process_started not in {0, started}


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process(pid: int) -> tuple[str, int] | None:
    """The state letter and the start of a process, where the system tells."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[_START_FIELD])


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""

"""Which process enqueued or runs an execution, and whether that process is gone.

A process id alone is reused. Together with the host, the boot, the PID namespace and the start time it identifies one
process for good. Linux reports all of these; elsewhere only the id and the host are known. Writers record an `Owner` in
the table ``process``; readers and writers alike call `is_gone(Owner(*row))` with its columns in the same order.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
# Index of a field of ``/proc/PID/stat`` after the command's closing bracket: clock ticks after boot.
_START_FIELD: Final = 19
# Ended but not yet collected by the parent: such a process finishes no run.
_ZOMBIES: Final = frozenset({"Z", "X", "x"})


class Owner(NamedTuple):
    """A process, with the columns of the table ``process`` except ``process_id``, in their order.

    Attributes:
        host: the host name.
        boot_id: of the kernel; empty where the system does not report it.
        pid_namespace: the inode of its PID namespace; 0 where the system does not report it.
        pid: the process id inside that namespace.
        process_started: clock ticks after boot; 0 where the system does not report it.
    """

    host: str
    boot_id: str
    pid_namespace: int
    pid: int
    process_started: int


OWNER_COLUMNS: Final = ", ".join(f"p.{column}" for column in Owner._fields)
"""For a ``SELECT`` that joins ``process AS p``."""


def this_process() -> Owner:
    """The owner of the executions that this process records."""
    return _owner_of(os.getpid())


# Cached by process id, so that a forked child does not take itself for its parent.
@lru_cache(maxsize=1)
def _owner_of(pid: int) -> Owner:
    state = _process(pid)
    return Owner(socket.gethostname(), _boot_id(), _namespace(), pid, 0 if state is None else state[1])


def is_gone(owner: Owner) -> bool:
    """Whether that process has certainly ended.

    False where this cannot be known: on another host, or in another PID namespace (a container), where the same id is
    another process.
    """
    here = this_process()
    if owner.host != here.host:
        return False
    # No process survives a reboot, whatever its id.
    if owner.boot_id != here.boot_id:
        return True
    return owner.pid_namespace == here.pid_namespace and not _runs(owner)


def is_alive(owner: Owner) -> bool:
    """Whether that process certainly runs; if unknown, both `is_gone` and `is_alive` are false."""
    return owner[:3] == this_process()[:3] and _runs(owner)


def _runs(owner: Owner) -> bool:
    """Whether a process of this host, boot and namespace runs."""
    if not _is_there(owner.pid):
        return False
    state = _process(owner.pid)
    if state is None:
        return True
    code, started = state
    return code not in _ZOMBIES and owner.process_started in {0, started}


def _is_there(pid: int) -> bool:
    try:
        # Signal 0 is not delivered: it only tests whether the process exists.
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # It exists, and belongs to another user.
    except PermissionError:
        return True
    return True


def _process(pid: int) -> tuple[str, int] | None:
    """The state letter and the start time of a process; None where the system does not report them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The last bracket: the command name may contain brackets and blanks itself.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[_START_FIELD])


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> int:
    try:
        return _NAMESPACE.stat().st_ino
    except OSError:
        return 0

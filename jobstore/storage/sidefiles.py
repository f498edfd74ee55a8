"""The files beside a store: their names, whose they are, and whether they are still the same.

SQLite keeps the log (``-wal``) and its index (``-shm``) there, jobstore the lock and the reserve. All belong to those
who may write the store: a file that one user leaves beside a store must not keep another one out.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

Identity = tuple[int, int]

BY_SQLITE: Final = ("-wal", "-shm", "-journal")


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def lock_path(file: Path) -> Path:
    return beside(file, ".lock")


def reserve_path(file: Path) -> Path:
    return beside(file, ".reserve")


def belongs_to(path: Path, store: Path) -> bool:
    """Whether a path is that of a store, under any name, or of a file beside it."""
    file = Path(os.path.realpath(store))
    if path in {file, lock_path(file), reserve_path(file), *(beside(file, suffix) for suffix in BY_SQLITE)}:
        return True
    with suppress(OSError):
        return path.samefile(file)
    return False


def look_at(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What the system tells of a file; None: there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - for every query, and Path costs three times as much
    except OSError:
        return None


def identity_of(path: str | os.PathLike[str]) -> Identity | None:
    """What tells a file from any other that ever had its name while it is open; None: there is none."""
    found = look_at(path)
    return None if found is None else (found.st_dev, found.st_ino)


def size_of(path: str | os.PathLike[str]) -> int:
    """The size of a file; 0 where there is none."""
    found = look_at(path)
    return 0 if found is None else found.st_size


def share_with_writers(descriptor: int, file: Path) -> None:
    """Give a file of ours the owner of the store, and let exactly those open it who may write the store.

    A process that can open the lock can hold it, and so keep every recorder out: readers must not be able to.
    """
    with suppress(OSError):
        store, found = file.stat(), os.fstat(descriptor)
        # The bits for reading follow those for writing: a recorder needs both, and a mere reader gets neither.
        written = store.st_mode & 0o222
        _give(descriptor, found, store)
        if stat.S_IMODE(found.st_mode) != written | written << 1:
            os.fchmod(descriptor, written | written << 1)


def share_log(file: Path) -> None:
    """Give SQLite's files the group of the store: SQLite gives them its mode, and only as root its owner.

    By their names: to open and close them would drop the locks that SQLite holds for this process.
    """
    for suffix in ("-wal", "-shm"):
        path = beside(file, suffix)
        with suppress(OSError):
            _give(path, path.lstat(), file.stat())


def remove_left_over(file: Path) -> None:
    """Remove an empty log, and its index, that this writer may not write; inside the lock.

    Another user's program that looked at the store leaves them (the ``sqlite3`` shell does). Nothing is in them, and
    recorders that have them open notice before they write.
    """
    log, index = beside(file, "-wal"), beside(file, "-shm")
    # Only an empty log: one with anything in it holds commits that are nowhere else.
    if size_of(log) == 0 and any(path.exists() and not may_write(path) for path in (log, index)):
        with suppress(OSError):
            index.unlink(missing_ok=True)
            log.unlink(missing_ok=True)


def _give(target: int | Path, found: os.stat_result, store: os.stat_result) -> None:
    """Root gives owner and group; others can give the group alone, if they belong to it."""
    owner = store.st_uid if os.geteuid() == 0 else found.st_uid
    if (found.st_uid, found.st_gid) != (owner, store.st_gid):
        with suppress(OSError):
            if isinstance(target, int):
                os.fchown(target, owner, store.st_gid)
            else:
                os.chown(target, owner, store.st_gid, follow_symlinks=False)


def may_write(path: Path) -> bool:
    """Whether this user may write a file or folder, as the system itself would decide it."""
    # By the effective user, which os.access by itself does not take: a setuid program would be told of another one.
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def owner_of(path: Path) -> str:
    """The name of a file's owner, or its number, or nothing."""
    import pwd

    try:
        user = path.lstat().st_uid
    except OSError:
        return "another user"
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user {user}"


def is_open_here(identity: Identity) -> bool:
    """Whether this process has a file open, by any means; True where the system does not tell."""
    try:
        # Any means: the driver opens the file without telling its descriptor, so the system is asked for all.
        descriptors = os.listdir("/dev/fd")  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return True
    return any(identity_of(f"/dev/fd/{descriptor}") == identity for descriptor in descriptors)

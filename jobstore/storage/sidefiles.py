"""The files beside a store: their names, whose they are, and whether they are still the same.

SQLite keeps the log (``-wal``) and its index (``-shm``) there, jobstore the lock and the reserve. All belong to those
who may write the store: a file that one user leaves beside a store must not keep another one out.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from jobstore.replacing import acl_of, set_acl

# An ACL as Linux keeps it: a version, then entries of a kind, bits and a user or group.
_ACL_BEGIN: Final = 4
_ACL_ENTRY: Final = "<HHI"
_ACL_USER, _ACL_GROUP = 2, 8
_ACL_OWNER, _ACL_OWN_GROUP = (1, 2**32 - 1), (4, 2**32 - 1)

DATABASE: Final = b"SQLite format 3\0"
"""How the file of one begins. None that may be open here is read for it: to close it would drop SQLite's locks."""

Identity = tuple[int, int]

BY_SQLITE: Final = ("-wal", "-shm", "-journal")
SIDE_FILES: Final = (*BY_SQLITE, ".lock", ".reserve", ".tokens", ".notified")
"""Those of the interfaces among them."""


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def lock_path(file: Path) -> Path:
    return beside(file, ".lock")


def reserve_path(file: Path) -> Path:
    return beside(file, ".reserve")


def is_beside(path: Path) -> bool:
    """Whether a real path is one that a store, or a database, keeps a file at: under the name of another file."""
    return any(path.name.endswith(suffix) and Path(f"{path}"[: -len(suffix)]).is_file() for suffix in SIDE_FILES)


def belongs_to(path: Path, store: Path) -> bool:
    """Whether a path is that of a store or of a file beside it, under any name."""
    file = Path(os.path.realpath(store))
    own = [file, *(beside(file, suffix) for suffix in SIDE_FILES)]
    if path in own:
        return True
    identity = identity_of(path)
    return identity is not None and identity in map(identity_of, own)


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
        store = file.stat()
        _give(descriptor, store)
        # The bits for reading follow those for writing: a recorder needs both, and a mere reader gets neither.
        written = store.st_mode & 0o222
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != written | written << 1:
            os.fchmod(descriptor, written | written << 1)
        _share_acl(descriptor, file, store, written_only=True)


def share_log(file: Path) -> None:
    """Give SQLite's files the group and the ACL of the store: SQLite gives them its mode, and only as root its owner.

    By their names: to open and close them would drop the locks that SQLite holds for this process.
    """
    for suffix in ("-wal", "-shm"):
        path = beside(file, suffix)
        with suppress(OSError):
            store = file.stat()
            _give(path, store)
            _share_acl(path, file, store)


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


def _give(target: int | Path, store: os.stat_result) -> None:
    """Root gives owner and group; others can give the group alone, if they belong to it."""
    found = _look_at_link(target)
    owner = store.st_uid if os.geteuid() == 0 else found.st_uid
    if (found.st_uid, found.st_gid) != (owner, store.st_gid):
        with suppress(OSError):
            os.chown(target, owner, store.st_gid, follow_symlinks=isinstance(target, int))


def _look_at_link(target: int | Path) -> os.stat_result:
    """Of a name: what stands there, since in a folder that others may write to a link may lead to any file."""
    return os.fstat(target) if isinstance(target, int) else target.lstat()


def _share_acl(target: int | Path, file: Path, store: os.stat_result, *, written_only: bool = False) -> None:
    """The ACL of the store, for a file beside it; its owner and group stand there by name where they are others."""
    wanted = acl_of(file)
    if wanted is not None:
        found = _look_at_link(target)
        rights = {(tag, who): bits for tag, bits, who in struct.iter_unpack(_ACL_ENTRY, wanted[_ACL_BEGIN:])}
        if written_only:
            rights = {key: 6 if bits & 2 else 0 for key, bits in rights.items()}
        if found.st_uid != store.st_uid:
            rights.setdefault((_ACL_USER, store.st_uid), rights[_ACL_OWNER])
        if found.st_gid != store.st_gid:
            rights.setdefault((_ACL_GROUP, store.st_gid), rights[_ACL_OWN_GROUP])
            rights[_ACL_OWN_GROUP] = 0
        entries = (struct.pack(_ACL_ENTRY, tag, bits, who) for (tag, who), bits in sorted(rights.items()))
        wanted = wanted[:_ACL_BEGIN] + b"".join(entries)
    if acl_of(target) != wanted:
        set_acl(target, wanted)


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

"""The files beside a store: their names, their owners, and whether they are still the same files.

SQLite keeps the log (``-wal``) and its index (``-shm``) there, jobstore the lock and the reserve. All must be usable by
every user who may write the store: a file that one user creates must not keep another one out.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from jobstore.replacing import acl_of, set_acl

# An ACL as Linux stores it: a version, then entries of tag, permission bits and a user or group.
_ACL_BEGIN: Final = 4
_ACL_ENTRY: Final = "<HHI"
_ACL_USER, _ACL_GROUP = 2, 8
_ACL_OWNER, _ACL_OWN_GROUP = (1, 2**32 - 1), (4, 2**32 - 1)

DATABASE: Final = b"SQLite format 3\0"
"""The first bytes of an SQLite file. Of one that may be open here, only `is_database_here` may read them."""

Identity = tuple[int, int]

BY_SQLITE: Final = ("-wal", "-shm", "-journal")
SIDE_FILES: Final = (*BY_SQLITE, ".lock", ".reserve", ".tokens", ".notified")
"""Including the files of the interfaces."""


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def lock_path(file: Path) -> Path:
    return beside(file, ".lock")


def reserve_path(file: Path) -> Path:
    return beside(file, ".reserve")


def base_of(path: Path) -> Path | None:
    """The existing file of which a real path has the name of a side file; None if there is none."""
    bases = (Path(f"{path}"[: -len(suffix)]) for suffix in SIDE_FILES if path.name.endswith(suffix))
    return next((base for base in bases if base.is_file()), None)


def belongs_to(path: Path, store: Path) -> bool:
    """Whether a path is that of a store or of a file beside it, under any name."""
    file = Path(os.path.realpath(store))
    own = [file, *(beside(file, suffix) for suffix in SIDE_FILES)]
    if path in own:
        return True
    identity = identity_of(path)
    return identity is not None and identity in map(identity_of, own)


def look_at(path: str | os.PathLike[str]) -> os.stat_result | None:
    """The `os.stat_result` of a file; None if there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - for every query, and Path costs three times as much
    except OSError as error:
        if error.errno is None:  # not the system's: a handler raised TimeoutError
            raise
        return None


def identity_of(path: str | os.PathLike[str]) -> Identity | None:
    """Device and inode, which identify a file while it is open; None if there is none."""
    found = look_at(path)
    return None if found is None else (found.st_dev, found.st_ino)


def size_of(path: str | os.PathLike[str]) -> int:
    """The size of a file in bytes; 0 if there is none."""
    found = look_at(path)
    return 0 if found is None else found.st_size


def share_with_writers(descriptor: int, file: Path) -> None:
    """Give one of our files the owner of the store, and access to exactly those users who may write the store.

    A process that can open the lock can hold it and keep every recorder out, so readers must not be able to.
    """
    with suppress(OSError):
        store = file.stat()
        _give(descriptor, store)
        # Read bits follow the store's write bits: a recorder needs both, a mere reader gets neither. The owner keeps
        # both, to record again after making a read-only store writable.
        written = store.st_mode & 0o222 | stat.S_IWUSR
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != written | written << 1:
            os.fchmod(descriptor, written | written << 1)
        _share_acl(descriptor, file, store, written_only=True)


def create_for_users(path: Path, file: Path) -> None:
    """Create an empty file with the owner, group, mode and ACL of a store, and writable by its own owner.

    The umask only forbids what all others may do.

    Raises:
        FileExistsError: the file exists.
        OSError: it cannot be created.
    """
    store = file.stat()
    # Not for the group at first, which may be another one: it must not be more open than the store at any moment.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    descriptor = os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR | store.st_mode & 0o006)
    try:
        others = os.fstat(descriptor).st_mode & 0o006
        _give(descriptor, store)
        group = store.st_mode & 0o060 if os.fstat(descriptor).st_gid == store.st_gid else others << 3
        with suppress(OSError):  # a file system without modes or ACLs
            os.fchmod(descriptor, store.st_mode & 0o600 | stat.S_IRUSR | stat.S_IWUSR | group | others)
            _share_acl(descriptor, file, store)
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o770 | others)
    finally:
        os.close(descriptor)


def share_log(file: Path) -> None:
    """Give SQLite's files the group and the ACL of the store: SQLite copies only the mode, and as root the owner."""
    for suffix in ("-wal", "-shm"):
        path = beside(file, suffix)
        with suppress(OSError):
            store = file.stat()
            _give(path, store)
            _share_acl(path, file, store)


def remove_left_over(file: Path) -> None:
    """Remove an empty log and its index if this writer may not write them; inside the lock.

    Another user's program that looked at the store leaves them (the ``sqlite3`` shell does). They contain nothing, and
    recorders that have them open notice before they write.
    """
    log, index = beside(file, "-wal"), beside(file, "-shm")
    # Only an empty log: otherwise it holds commits that exist nowhere else.
    if size_of(log) == 0 and any(path.exists() and not may_write(path) for path in (log, index)):
        with suppress(OSError):
            index.unlink(missing_ok=True)
            log.unlink(missing_ok=True)


def _give(target: int | Path, store: os.stat_result) -> None:
    """Set owner and group as root; other users can only set the group, if they belong to it."""
    found = _look_at_link(target)
    owner = store.st_uid if os.geteuid() == 0 else found.st_uid
    if (found.st_uid, found.st_gid) != (owner, store.st_gid):
        with suppress(OSError):
            os.chown(target, owner, store.st_gid, follow_symlinks=isinstance(target, int))


def _look_at_link(target: int | Path) -> os.stat_result:
    """The status of a descriptor, or of a path without following links, which others can place in a shared folder."""
    return os.fstat(target) if isinstance(target, int) else target.lstat()


def _share_acl(target: int | Path, file: Path, store: os.stat_result, *, written_only: bool = False) -> None:
    """Give a file the ACL of the store, with entries by name for the store's owner and group if the file has others."""
    wanted = acl_of(file)
    if wanted is not None:
        found = _look_at_link(target)
        rights = {(tag, who): bits for tag, bits, who in struct.iter_unpack(_ACL_ENTRY, wanted[_ACL_BEGIN:])}
        if written_only:
            rights = {key: 6 if bits & 2 or key == _ACL_OWNER else 0 for key, bits in rights.items()}
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
    """Whether this user may write a file or folder, as the system itself would decide."""
    # For the effective user: in a setuid program, os.access by default checks the real one.
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def owner_of(path: Path) -> str:
    """The owner of a file, for messages: by name, else by number, else as another user."""
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
    """Whether this process has a file open, by any means; True where the system does not say."""
    try:
        return bool(_descriptors_of(identity))
    except OSError:
        return True


def is_database_here(identity: Identity | None) -> bool:
    """Whether a file is an SQLite file that this process has open.

    Closing a further descriptor of it would drop SQLite's locks, so its header is read through those that are open.
    """
    with suppress(OSError):
        for descriptor in _descriptors_of(identity):
            with suppress(OSError):  # one that cannot be read, or was closed meanwhile
                if os.pread(descriptor, len(DATABASE), 0) == DATABASE:
                    return True
    return False


def _descriptors_of(identity: Identity | None) -> list[int]:
    # The driver does not reveal its descriptor, so look at all of them.
    names = os.listdir("/dev/fd")  # noqa: PTH208 - names are all that is wanted
    return [int(name) for name in names if identity is not None and identity_of(f"/dev/fd/{name}") == identity]

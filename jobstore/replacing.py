"""Replace a file atomically: synced to the disk, with the owner and permissions of the old file.

It knows nothing of stores; every package that replaces a file uses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACL: Final = "system.posix_acl_access"
_NO_ACL: Final = frozenset({errno.ENODATA, errno.ENOTSUP})


@contextmanager
def replacing(path: Path, like: Path | None = None, *, mode: int = 0o666, withheld: int = 0) -> Iterator[TextIO]:
    """A new text file that replaces `path` at the end of the block, and is removed after an error.

    Args:
        path: the real path; a file there is replaced.
        like: the file whose owner and permissions it gets. Default: the replaced file.
        mode: the mode if there is no such file; the umask applies.
        withheld: mode bits that it does not get from `like`.

    Raises:
        OSError: it cannot be written; if the error names a file, it is `path`.
    """
    like = like or path
    # A random name, not the process id: in two containers that may be the same.
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    # Private until it has the permissions of `like`: what is written may be secret.
    first = 0o600 if like.is_file() else mode
    try:
        with _naming(path):
            out = open(part, "x", encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, first))  # noqa: SIM115 - Path.open takes no opener
            try:
                if like.is_file():
                    take_over(out.fileno(), like, withheld)
                yield out
                out.flush()
                os.fsync(out.fileno())
            except BaseException:
                with suppress(OSError):  # what is left to write may fail, too, and would hide this error
                    out.close()
                raise
            out.close()
            part.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):  # after the rename there is none, and an error above says why another cannot be removed
            part.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that serializes changes of a file between processes. It is on the folder, since files get replaced.

    Raises:
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open too
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the file that the caller gave, not the temporary one, and not none, as a write does."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(".part"):
            error.filename, error.filename2 = str(path), None
        raise


def is_planted(path: Path, made: os.stat_result) -> bool:
    """Whether another user made what is or was at `path`, in a world-writable folder, such as ``/tmp``."""
    folder, for_everybody = path.parent.stat(), stat.S_ISVTX | stat.S_IWOTH
    return folder.st_mode & for_everybody == for_everybody and made.st_uid not in {os.geteuid(), folder.st_uid}


def take_over(target: int | Path, like: Path, withheld: int = 0) -> None:
    """Give a file the owner, group, mode and ACL of another, as far as this user may: only root may set the owner."""
    before = like.stat()
    mode = before.st_mode & 0o777 & ~withheld
    try:
        os.chown(target, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
        set_acl(target, acl_of(like))
    except OSError:
        # Another group must not get these permissions, but those of all others. Beside an ACL, the bits also limit what
        # it grants.
        mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    with suppress(OSError):  # a file system without modes
        os.chmod(target, mode)  # noqa: PTH101 - perhaps a descriptor


def acl_of(path: int | Path) -> bytes | None:
    """The ACL of a file in Linux's format; None if it has none or the system does not support them."""
    try:
        return os.getxattr(path, ACL)
    except (AttributeError, OSError):
        return None


def set_acl(target: int | Path, acl: bytes | None) -> None:
    """Give a file this ACL; None removes its own."""
    if acl is not None:
        os.setxattr(target, ACL, acl, follow_symlinks=isinstance(target, int))
    elif hasattr(os, "removexattr"):  # a new file may have inherited one from its folder
        try:
            os.removexattr(target, ACL, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in _NO_ACL:
                raise


def sync_folder(path: Path) -> None:
    """Sync the names in a folder to the disk, unless this user may write but not read it."""
    with suppress(PermissionError):
        sync_path(path)


def sync_path(path: Path) -> None:
    """Sync a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A file put in the place of another: in one step, on the disk, with the owner and the permissions that were there.

It knows nothing of stores: every folder of the package that replaces a file uses it.
"""

from __future__ import annotations

import errno
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
    """A new text file that takes the place of `path` at the end of the block, and is gone after an error.

    Args:
        path: the real path; what is there is replaced.
        like: the file whose owner and permissions it gets. Default: the one that is replaced.
        mode: where there is no such file, less what the umask takes.
        withheld: bits of the mode that it does not get from another file.

    Raises:
        OSError: it cannot be written; where the error names a file, that is `path`.
    """
    like = like or path
    # Not by the process id alone: in two containers it may be the same.
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with _naming(path):
            # Closed to others until it has the permissions of that file: what is written may be private.
            first = 0o600 if like.is_file() else mode
            out = open(part, "x", encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, first))  # noqa: SIM115 - Path.open takes no opener
        with out:
            if like.is_file():
                take_over(out.fileno(), like, withheld)
            yield out
            out.flush()
            os.fsync(out.fileno())
        with _naming(path):
            part.replace(path)
        with suppress(PermissionError):  # a folder that may be written and not read
            sync_path(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error names the file that was asked for: the part is ours."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def take_over(target: int | Path, like: Path, withheld: int = 0) -> None:
    """Give a file the owner, group, mode and ACL of another, as far as this user may: the owner is root's to give."""
    before = like.stat()
    mode = before.st_mode & 0o777 & ~withheld
    try:
        os.chown(target, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
        set_acl(target, acl_of(like))
    except OSError:
        # What one group was allowed is not for another. Beside an ACL these bits bound what it grants.
        mode &= ~stat.S_IRWXG
    with suppress(OSError):  # a file system without modes
        os.chmod(target, mode)  # noqa: PTH101 - perhaps a descriptor


def acl_of(path: int | Path) -> bytes | None:
    """The ACL of a file, as Linux keeps it; None: it has none, or the system tells of none."""
    try:
        return os.getxattr(path, ACL)
    except (AttributeError, OSError):
        return None


def set_acl(target: int | Path, acl: bytes | None) -> None:
    """Give a file this ACL, or take its own from it."""
    if acl is not None:
        os.setxattr(target, ACL, acl, follow_symlinks=isinstance(target, int))
    elif hasattr(os, "removexattr"):  # a folder may give one to each new file in it
        try:
            os.removexattr(target, ACL, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in _NO_ACL:
                raise


def sync_path(path: Path) -> None:
    """Bring a file that is not open elsewhere, or a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

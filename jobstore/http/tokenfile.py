"""The token file on disk: read whole, replaced in one step, changed by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobstore.language.errors import InvalidParameter, NotFound, StoreUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = 1
LARGEST_BYTES = 4 * 1024 * 1024
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

Signature = tuple[int, int, int, int]


def signature(path: str | os.PathLike[str]) -> Signature | None:
    """What changes whenever the file does, at the price of one `stat`; ``None`` while there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every request, and Path costs three times as much
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether anything is there; what it is, `read` will say."""
    return Path(path).exists()


def read(path: str | os.PathLike[str]) -> list[Any]:
    """The entries of the file, as JSON gives them.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: it is not a token file, or others than its owner may write to it.
        StoreUnreadable: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(LARGEST_BYTES)
    except FileNotFoundError:
        raise NotFound(f"Token file not found: {path}; `jobstore token create` makes one") from None
    except OSError as error:
        raise StoreUnreadable(f"The token file {path} cannot be read: {error.strerror}") from None
    if mode & WRITABLE_BY_OTHERS:
        raise InvalidParameter(f"Others may write to the token file {path}, and so let themselves in; chmod go-w it")
    return _entries(path, text)


def _entries(path: str | os.PathLike[str], text: bytes) -> list[Any]:
    try:
        document = json.loads(text)
        version, entries = document["jobstore_tokens"], document["tokens"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version, entries = None, None
    if version != VERSION or not isinstance(entries, list):
        raise InvalidParameter(f"{path} is not a token file of this version; `jobstore token create` makes one")
    return entries


def write(path: str | os.PathLike[str], entries: Sequence[object]) -> None:
    """Put these entries in the place of the file's, in one step; a new file is the store's owner's alone.

    A file that is there keeps its owner and its readers (a service account reads it, say).

    Raises:
        StoreUnreadable: the folder or the disk refuses.
    """
    target = Path(os.path.realpath(path))
    text = json.dumps({"jobstore_tokens": VERSION, "tokens": entries}, indent=2, ensure_ascii=False) + "\n"
    try:
        _replace(target, text.encode())
    except OSError as error:
        raise StoreUnreadable(f"The token file {path} cannot be written: {error.strerror}") from None


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            _keep_owner(target, descriptor)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _keep_owner(target: Path, descriptor: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if target.exists():
            before = target.stat()
            mode = stat.S_IMODE(before.st_mode) & ~WRITABLE_BY_OTHERS
        else:  # root makes it for whoever serves the store
            before, mode = target.with_suffix("").stat(), stat.S_IRUSR | stat.S_IWUSR
            if not stat.S_ISREG(before.st_mode):
                return  # no store of that name: the file is that of whoever makes it
        try:
            os.fchown(descriptor, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG  # what that group was allowed is not for another one
        os.fchmod(descriptor, mode)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """One change at a time, between processes too: a lock on the folder, since the file itself is replaced.

    Raises:
        StoreUnreadable: there is no such folder.
    """
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - realpath follows links as `write` does
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreUnreadable(f"The folder of the token file {path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

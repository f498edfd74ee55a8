"""The archive: a file of JSON lines to which executions are appended before they are deleted, each exactly once.

While a prune writes to an archive, the store holds a mark: the archive's length at the last commit. After a crash the
archive may hold a batch beyond its mark that was archived but not deleted. The next prune with an archive looks up each
of those lines and deletes the executions that are identical in the store: nothing is lost or archived twice.

A mark may be stale: restoring a backup that was made during a prune brings it back. So each mark has a random id, which
is also in a small file beside the archive until that prune is done; a mark with another id deletes nothing. And only
executions that the rules of the current prune name are ever deleted.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import socket
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

import orjson

from jobstore.language.address import refuse_address
from jobstore.language.errors import Conflict, InvalidParameter, JobStoreError, StoreError, StoreFull, StoreUnreadable
from jobstore.recording.transitions import execution_number
from jobstore.replacing import replacing, sync_folder
from jobstore.storage.documents import execution_document
from jobstore.storage.folders import folder_gone
from jobstore.storage.pruned import note_pruned, settings_under
from jobstore.storage.rows import delete_by_id, fetch_execution, fetch_executions
from jobstore.storage.sidefiles import base_of, belongs_to, create_for_users, identity_of, is_database_here
from jobstore.storage.writer import Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from jobstore.storage.transactions import Transactions

    IsNamed = Callable[[sqlite3.Connection, int], bool]

_log = logging.getLogger("jobstore")
_ID_BYTES: Final = 16
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Archive:
    """The archive that one prune writes to; a context manager that deletes its mark if the block succeeds."""

    def __init__(self, path: str | os.PathLike[str], writer: Transactions) -> None:
        """Check the path of the archive; the ``with`` statement opens it.

        Raises:
            InvalidParameter: the path is not valid, or is the store or a file beside it.
            StoreUnreadable: the path is relative, and the current folder no longer exists.
        """
        refuse_address(path, "archive")
        self._writer = writer
        self._id = secrets.token_hex(_ID_BYTES)
        try:
            self._path = Path(os.path.realpath(path))
        except (TypeError, ValueError):
            raise InvalidParameter("archive must be the path of a file, without NUL characters") from None
        except FileNotFoundError:
            raise folder_gone(Path(path)) from None
        if base_of(self._path) or (isinstance(writer, Writer) and belongs_to(self._path, writer.file)):
            raise InvalidParameter(f"archive must not be the store or a file beside it; received '{self._path}'")
        # Each host that prunes a store on a server has its own archives, perhaps under the same path.
        self._prefix = "archive:" if isinstance(writer, Writer) else f"archive@{socket.gethostname()}:"
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Open the file and lock it against other prunes.

        Raises:
            Conflict: another prune writes to it.
            StoreError: it cannot be written.
        """
        self._create()
        self._descriptor = _open(self._path)
        try:
            with _errors(self._path):
                sync_folder(self._path.parent)
        except BaseException:
            _close(self._descriptor)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._writer.write(lambda connection: self._forget(connection, self._path))
                with suppress(OSError):
                    _id_file(self._path).unlink()
        finally:
            _close(self._descriptor)

    def _create(self) -> None:
        """Create the archive if it does not exist, open to no more users than the store."""
        with _errors(self._path), suppress(FileExistsError):
            if isinstance(self._writer, Writer):
                create_for_users(self._path, self._writer.file)
            else:
                self._path.touch(mode=0o600, exist_ok=False)  # a server asks its readers for a password

    def recover(self, is_named: IsNamed) -> int:
        """Finish what interrupted prunes began, then mark this archive; returns how many executions were deleted."""
        deleted = self._writer.write(
            lambda connection: sum(
                self._recover(connection, mark, is_named) for mark in _marks_found(connection, self._prefix)
            )
        )
        with _errors(self._path):
            # An unfinished line, left by a copy or another program, would swallow our first one.
            if self.length and os.pread(self._descriptor, 1, self.length - 1) != b"\n":
                _write(self._descriptor, b"\n")
            _write_id(self._path, self._id)
        self._writer.write(self._mark)
        return deleted

    @property
    def length(self) -> int:
        return os.fstat(self._descriptor).st_size

    def cut(self, length: int) -> None:
        """Remove what an abandoned transaction wrote beyond this length, in bytes."""
        if self.length > length:
            with _errors(self._path):
                os.ftruncate(self._descriptor, length)

    def take(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Append executions and sync the archive to the disk; the caller then deletes them and commits.

        Raises:
            StoreFull: the disk of the archive is full.
            StoreError: it cannot be written.
        """
        if not ids:
            return
        lines = [orjson.dumps(execution_document(row), option=orjson.OPT_APPEND_NEWLINE) for row in
                 fetch_executions(connection, ids)]  # fmt: skip
        length = self.length
        with _errors(self._path):
            try:
                _write(self._descriptor, b"".join(lines))
                os.fsync(self._descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, length)
                raise
        # Log rotation, for example: what was written to a file without a name would be lost.
        if not self._has_its_name():
            self.cut(length)  # these executions stay in the store
            raise StoreUnreadable(f"{self._path} was removed or replaced while a prune wrote to it; prune again")
        self._mark(connection)

    def _has_its_name(self) -> bool:
        found = os.fstat(self._descriptor)
        return identity_of(self._path) == (found.st_dev, found.st_ino)

    def _mark(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO setting VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (self._key(self._path), f"{self._id} {self.length}"),
        )

    def _forget(self, connection: sqlite3.Connection, path: Path) -> None:
        connection.execute("DELETE FROM setting WHERE key = ?", (self._key(path),))

    def _key(self, path: Path) -> str:
        return self._prefix + quote_from_bytes(os.fsencode(path))

    def _recover(self, connection: sqlite3.Connection, mark: _Mark, is_named: IsNamed) -> int:
        """Finish what the prune of this mark began, and delete the mark."""
        deleted = 0
        if mark.path == self._path:
            deleted = _finish_batch(connection, self._descriptor, mark, is_named)
        else:
            try:
                descriptor = _open(mark.path)
            except Conflict:
                return 0  # the prune that left the mark still runs
            except (StoreError, InvalidParameter) as error:
                _warn(mark.path, str(error))
            else:
                try:
                    deleted = _finish_batch(connection, descriptor, mark, is_named)
                except _Unreadable as error:  # only a prune into that archive has to stop
                    _warn(mark.path, str(error))
                finally:
                    _close(descriptor)
        self._forget(connection, mark.path)
        return deleted


class _Unreadable(StoreUnreadable):
    """The id of a prune cannot be read."""


class _Mark(NamedTuple):
    """A setting of the store: the id of a prune and the length of its archive at the last commit."""

    path: Path
    id: str
    length: int


def _marks_found(connection: sqlite3.Connection, prefix: str) -> list[_Mark]:
    marks = []
    for key, value in settings_under(connection, prefix):
        mark_id, _, length = value.rpartition(" ")
        marks.append(_Mark(Path(os.fsdecode(unquote_to_bytes(key[len(prefix) :]))), mark_id, int(length)))
    return marks


def _finish_batch(connection: sqlite3.Connection, descriptor: int, mark: _Mark, is_named: IsNamed) -> int:
    """Delete executions that were archived beyond a mark, if the mark's id is that of the archive; returns how many.

    Example: the mark says 1,000 bytes, and a crash before the commit left the lines of executions 7 and 8 after that.
    Each is deleted if the store still has exactly that document and the rules name it.
    """
    found = _read_id(mark.path)
    if mark.id != found:
        if found is None and _id_file(mark.path).exists():
            _warn(mark.path, "the file beside it is damaged")
        return 0
    if os.fstat(descriptor).st_size < mark.length:
        _warn(mark.path, "it has become shorter")
        return 0
    with _errors(mark.path):
        _mend_end(descriptor, mark.length)
        os.fsync(descriptor)  # the killed process may not have synced these lines
        same = [number for document in _documents(descriptor, mark.length) if (number := _same(connection, document))]
    deleted = [number for number in dict.fromkeys(same) if is_named(connection, number)]
    note_pruned(connection, deleted)
    delete_by_id(connection, deleted)
    return len(deleted)


def _mend_end(descriptor: int, length: int) -> None:
    """Cut off an incomplete last line, or end one that lacks only its line feed."""
    rest = _read(descriptor, length)
    # A power cut may leave zeros where a batch was not on the disk yet. What stood there is still in the store, and so
    # is the rest of the batch.
    hole = rest.find(b"\0")
    if hole >= 0:
        rest = rest[: rest.rfind(b"\n", 0, hole) + 1]
        os.ftruncate(descriptor, length + len(rest))
    *_, last = rest.rsplit(b"\n", 1)
    if not last:
        return
    try:
        orjson.loads(last)
    except orjson.JSONDecodeError:
        os.ftruncate(descriptor, length + len(rest) - len(last))
    else:
        _write(descriptor, b"\n")


def _documents(descriptor: int, length: int) -> Iterator[dict[str, Any]]:
    """The documents beyond a length; lines that are not JSON objects come from another program."""
    for line in _read(descriptor, length).splitlines():
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(line)
            if isinstance(value, dict):
                yield value


def _same(connection: sqlite3.Connection, document: dict[str, Any]) -> int | None:
    """The id of the execution if the store has exactly this document, else None."""
    try:
        number = execution_number(document["id"])
    except (JobStoreError, KeyError):
        return None  # another program's line
    row = fetch_execution(connection, number)
    return number if row is not None and execution_document(row) == document else None


def _id_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.prune")


def _read_id(path: Path) -> str | None:
    """The id beside an archive; None if there is none, or if it is damaged."""
    file = _id_file(path)
    try:
        found = file.read_text(encoding="ascii")
        return found if len(bytes.fromhex(found)) == _ID_BYTES else None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise _Unreadable(
            f"{file} cannot be read: {error.strerror}; make it readable, so that nothing is archived twice"
        ) from error


def _write_id(path: Path, mark_id: str) -> None:
    """Write the id file, for the users of the archive, and sync it to the disk."""
    file = _id_file(path)
    # Replaced, because a prune of another user may have left one, and a link in a shared folder may lead anywhere.
    try:
        with replacing(file, like=path) as out:
            out.write(mark_id)
    except PermissionError as refused:  # a folder in which nobody may replace another user's file
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise refused from None
        try:
            _write(descriptor, mark_id.encode())
            os.ftruncate(descriptor, len(mark_id))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    """Open an archive for appending, reading and truncating, locked against other prunes."""
    if is_database_here(identity_of(path)):
        raise _no_lines(path)
    with _errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidParameter(f"archive must be a regular file; received '{path}'")
    # What is appended to a compressed file or to another store could never be read again. Zeros come from a power cut.
    if os.pread(descriptor, 4096, 0).lstrip()[:1] not in {b"", b"{", b"\0"}:
        raise _no_lines(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"Another prune is writing to {path}; wait for it, or choose another archive") from None


def _close(descriptor: int) -> None:
    """Unlock and close it; a child that was forked meanwhile has it open too, and would keep the lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _no_lines(path: Path) -> InvalidParameter:
    return InvalidParameter(f"archive must be JSON lines, not compressed and not a database; received '{path}'")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` that names the archive, or the file beside it."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename or path)
        if error.errno in _FULL:
            raise StoreFull(
                f"The disk that holds {path} is full; only executions that are in the archive were deleted"
            ) from error
        raise StoreUnreadable(f"{path} cannot be written: {error.strerror}; choose another archive") from error


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, begin: int) -> bytes:
    parts = []
    while part := os.pread(descriptor, 1 << 20, begin):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _warn(path: Path, why: str) -> None:
    _log.warning(
        "a prune into %s was interrupted, but %s: up to one batch of executions may be archived a second time",
        path,
        why,
    )

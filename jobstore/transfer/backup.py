"""`check` finds what is wrong with a store, `backup` copies its file, `restore` replaces the file with a copy."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.language.address import Address, file_of, location_of, refuse_address
from jobstore.language.errors import Conflict, NotAStore, StoreBusy, StoreCorrupt, StoreUnreadable
from jobstore.language.fields import LARGEST_ID
from jobstore.replacing import sync_folder, sync_path, take_over
from jobstore.storage.connection import Reading, driver_errors, open_file
from jobstore.storage.folders import check_folder
from jobstore.storage.limits import TIMEOUT_SECONDS
from jobstore.storage.lock import lock_of
from jobstore.storage.reserve import give_up_reserve as give_up_reserve  # noqa: PLC0414 - offered to the command line
from jobstore.storage.schema import APPLICATION_ID
from jobstore.storage.sidefiles import (
    BY_SQLITE,
    DATABASE,
    beside,
    create_for_users,
    identity_of,
    is_database_here,
    lock_path,
    may_write,
    size_of,
)
from jobstore.storage.writer import move_into_place, real_path, refuse_left_over, refuse_side_name, remove_store
from jobstore.transfer.check import problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobstore.language.address import Where

    Progress = Callable[[int], None]

PAGES_AT_ONCE: Final = 1024
PG_DUMP: Final = "use pg_dump --format=custom, or 'jobstore dump' for JSON"
PG_RESTORE: Final = "use pg_restore, or 'jobstore load' for a dump"


def check(path: Where, *, progress: Progress | None = None) -> list[str]:
    """The problems of the store at `path`, one sentence each; empty if there are none.

    It checks the file's structure and constraints, tables and triggers of other programs, references, every counter
    against a recount, JSON, schedules, folded names and the processes of running executions. It reads everything, in
    one snapshot while others record: about a minute for ten million executions. To check the files of a server, use the
    server's own tools.

    Args:
        path: the file, or the address.
        progress: called with the number of further executions checked.

    Raises:
        StoreNotFound: there is no file, or no store at the address.
        NotAStore: the file is not a store.
        StoreError: the store cannot be read at all.
    """
    location, found = location_of(path), list[str]()
    if isinstance(location, Address):
        from jobstore.transfer.server import check as check_server  # its driver comes with an extra

        return check_server(location, progress)
    try:
        with Reading(location) as reading, _writable(reading) as writable:
            reading.connection.text_factory = _kept_text
            found.extend(problems_of(reading.connection, writable, progress))
    except StoreCorrupt:
        found.append("The file is damaged: part of it could not be read")
    return found


@contextmanager
def _writable(reading: Reading) -> Iterator[sqlite3.Connection]:
    """A connection that could write but does not; for a user who may not write, the reading connection.

    Closing it may checkpoint the log, so that happens under the writers' lock.
    """
    if reading.is_guest:
        yield reading.connection
        return
    connection = open_file(reading.file, "mode=rw")
    try:
        connection.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        with lock_of(reading.file).acquired(TIMEOUT_SECONDS):
            connection.close()


def _kept_text(raw: bytes) -> str:
    """Decode text that may not be UTF-8; the checks recognize such text by its surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def backup(path: Where, target: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
    """Copy the store at `path` to `target`, as of this moment, while others record.

    `target` appears only when the copy is complete and on the disk.

    Args:
        path: the file.
        target: a file that does not exist yet.
        progress: called with the number of further pages (4 KiB each) copied.

    Raises:
        Conflict: a file already exists at `target`.
        StoreError: the file cannot be read, or the copy cannot be written.
    """
    file = file_of(path, "backup", PG_DUMP)
    refuse_address(target, "target")
    copy = real_path(Path(target))
    if os.path.lexists(copy):
        raise _taken(copy)
    refuse_side_name(copy)
    refuse_left_over(copy)
    if not copy.parent.is_dir():
        raise StoreUnreadable(f"The folder {copy.parent} does not exist; create it first")
    if not may_write(copy.parent):
        raise StoreUnreadable(f"The folder {copy.parent} is not writable by this user; choose another folder")
    making = beside(copy, f".{secrets.token_hex(4)}.backup")
    try:
        _copy(file, making, copy, progress=progress)
        with driver_errors(copy):
            if not file.stat().st_mode & stat.S_IWUSR:
                making.chmod(stat.S_IMODE(making.stat().st_mode) & ~stat.S_IWUSR)
            sync_path(making)
            _give_name(making, copy)
    finally:
        remove_store(making)


def _copy(file: Path, making: Path, copy: Path, *, like: Path | None = None, progress: Progress | None = None) -> None:
    """Copy page by page inside one read transaction: otherwise each write by others would restart the copy.

    Args:
        file: the store.
        making: the file to make; errors do not name it.
        copy: what the file will be called.
        like: the file whose users may use the copy. Default: the store.
        progress: called with the number of further pages copied.
    """
    with Reading(file) as reading:
        reading.connection.execute("SELECT count(*) FROM setting").fetchone()
        with driver_errors(copy):
            # Otherwise, SQLite would let everyone read the copy, and could not fill one that its owner may not write.
            create_for_users(making, like or reading.file)
            with closing(open_file(making, "mode=rwc")) as into:
                into.execute("PRAGMA synchronous = OFF")  # it is synced once it is complete
                told = None if progress is None else _told(progress)
                reading.connection.backup(into, pages=PAGES_AT_ONCE, progress=told)


def restore(backup: Where, path: Where, *, progress: Progress | None = None) -> None:
    """Replace the store at `path` with a copy of a backup, even while others read or record.

    The backup is checked first, and not changed. The copy gets the owner, group and mode of the replaced store, whose
    contents are lost. If there is none, it gets the backup's, as far as this user may set them, and its owner may write
    it. Readers and recorders use the new store from their next call on. It reuses no number of the replaced store:
    ending a run that is not in the backup raises `NotFound`.

    Args:
        backup: a store, usually one that `backup` made.
        path: the store to replace, damaged or not; it need not exist. No other file is replaced.
        progress: called with the number of further executions of the backup checked.

    Raises:
        StoreCorrupt: `check` finds something wrong with the backup.
        NotAStore: the file at `path` never was a store.
        StoreBusy: others have been writing to the store for longer than the timeout.
        StoreError: the backup cannot be read, or the store cannot be replaced.
    """
    source = file_of(backup, "restore", PG_RESTORE)
    file = real_path(file_of(path, "restore", PG_RESTORE))
    refuse_side_name(file)
    if os.path.lexists(file) and not file.is_file():
        raise NotAStore(f"{file} is not a regular file; give the path of a job store")
    if source.exists() and file.exists() and file.samefile(source):
        raise Conflict(f"{backup} is the store itself; give the path of a backup")
    if file.exists() and not _may_be_store(file):
        raise NotAStore(f"{file} is not a job store, so restore does not replace it; give another path, or remove it")
    problems = check(backup, progress=progress)
    if problems:
        raise StoreCorrupt(f"{backup} is not a sound backup: {problems[0]}. Choose another; {path} is as it was")
    check_folder(file.parent)
    making = beside(file, f".{secrets.token_hex(4)}.restore")
    try:
        _copy(source, making, file, like=file if file.exists() else None)
        with driver_errors(file):
            sync_path(making)  # before the lock: a large copy takes long, and recorders would wait meanwhile
        with driver_errors(file), lock_of(file).acquired(TIMEOUT_SECONDS):
            _end_log(file)
            if file.exists():
                _keep_numbers(file, making)
                take_over(making, file)  # last: its owner, too, may not be allowed to write it then
            move_into_place(making, file)
            lock_of(file).share()
    finally:
        remove_store(making)


def _may_be_store(file: Path) -> bool:
    """Whether a file is a store or was one before it was damaged."""
    # Of a file that this process has open, no second descriptor may be closed; recorders leave a lock beside theirs.
    if size_of(file) == 0 or lock_path(file).exists() or is_database_here(identity_of(file)):
        return True
    try:
        with file.open("rb") as opened:
            header = opened.read(72)
    except OSError:
        return True  # the replacing will tell
    return header.startswith(DATABASE) and header.endswith(APPLICATION_ID.to_bytes(4))


def _end_log(file: Path) -> None:
    """Remove the log of the store to be replaced: SQLite would apply it to the new file.

    It is checkpointed first, so that the old store is complete if the power fails now; a damaged one needs no care.
    """
    with suppress(StoreCorrupt, NotAStore), driver_errors(file):
        if file.exists() and size_of(beside(file, "-wal")):
            with closing(open_file(file, "mode=rw")) as connection:
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreBusy(f"A reader has held {file} for longer than the timeout; try again")
    for suffix in BY_SQLITE:
        beside(file, suffix).unlink(missing_ok=True)
    sync_folder(file.parent)


# A damaged store may say anything; a number beyond the largest would leave none to give.
_NUMBERS_GIVEN: Final = """
SELECT seq, name FROM sqlite_sequence WHERE name IN ('job', 'execution') AND typeof(seq) = 'integer' AND seq < ?
"""


def _keep_numbers(file: Path, making: Path) -> None:
    """Let the copy give no number that the store has given already: whoever still has one means another execution."""
    try:
        # Immutable: the log has just been written back, and nothing is created beside the file.
        with closing(open_file(file, "mode=ro&immutable=1")) as connection:
            given = connection.execute(_NUMBERS_GIVEN, (LARGEST_ID,)).fetchall()
    except sqlite3.Error:
        return  # it is too damaged to tell
    with closing(open_file(making, "mode=rw")) as connection:
        for last, table in given:
            sql = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
            if not connection.execute(sql, (last, table)).rowcount:
                connection.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", (last, table))


def _told(progress: Progress) -> Callable[[int, int, int], None]:
    done = 0

    def tell(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        progress(total - remaining - done)
        done = total - remaining

    return tell


def _give_name(making: Path, copy: Path) -> None:
    """Give the copy its name, never over another file, not even one that appeared a moment ago."""
    try:
        os.link(making, copy)
        making.unlink()
    except FileExistsError:
        raise _taken(copy) from None
    except OSError:  # a file system without links
        if os.path.lexists(copy):
            raise _taken(copy) from None
        making.rename(copy)
    sync_folder(copy.parent)


def _taken(copy: Path) -> Conflict:
    return Conflict(f"{copy} already exists; choose another path for the copy")

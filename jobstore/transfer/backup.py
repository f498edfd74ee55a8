"""Looking after a file: `check` finds what is wrong with it, `backup` copies it while it is in use."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobstore.language.errors import Conflict, StoreCorrupt, StoreUnreadable
from jobstore.storage.connection import driver_errors, open_reader
from jobstore.storage.reserve import give_up_reserve as give_up_reserve  # noqa: PLC0414 - offered to the command line
from jobstore.storage.writer import real_path, refuse_left_over, remove_store, sync_path
from jobstore.transfer.check import problems_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int], None]

PAGES_AT_ONCE: Final = 1024


def check(path: str | os.PathLike[str], *, progress: Progress | None = None) -> list[str]:
    """What is wrong with the store at `path`, a sentence each; empty when nothing is.

    Looked at are the file's structure and constraints, references, every counter against a recount, JSON,
    schedules, folded names and who runs what. It works on one snapshot while others record, and reads
    everything: about a minute for ten million executions.

    Args:
        path: the file.
        progress: is called with the number of further executions that were looked at.

    Raises:
        StoreNotFound: there is no file.
        NotAStore: it is something else.
        StoreError: it cannot be read at all.
    """
    file = Path(path)
    found: list[str] = []
    try:
        with driver_errors(file), closing(open_reader(file)) as connection, closing(_writable(file)) as writable:
            connection.text_factory = _kept_text
            connection.execute("BEGIN")
            found.extend(problems_of(connection, writable, progress))
    except StoreCorrupt:
        found.append("The file is damaged: part of it could not be read")
    return found


def _writable(file: Path) -> sqlite3.Connection:
    """A connection that could write and does not; of a file that may not be written, one that reads."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _kept_text(raw: bytes) -> str:
    """Text, also where it is not UTF-8; the checks know it by its surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def backup(path: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
    """Copies the store at `path` to `target`, as of this moment, while others go on recording.

    The copy is whole and on the disk when it has its name; until then there is nothing at `target`.

    Args:
        path: the file.
        target: where no file is yet.
        progress: is called with the number of further pages (4 KiB each) that were copied.

    Raises:
        Conflict: there is a file at `target`.
        StoreError: the file cannot be read, or the copy cannot be written.
    """
    file, copy = Path(path), real_path(Path(target))
    if os.path.lexists(copy):
        raise _taken(copy)
    refuse_left_over(copy)
    if not copy.parent.is_dir():
        raise StoreUnreadable(f"There is no folder {copy.parent}; make it first")
    making = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}.backup")
    try:
        with driver_errors(file):
            source = open_reader(file)
        try:
            with driver_errors(copy):
                _copy(source, making, progress)
        finally:
            source.close()
        with driver_errors(copy):
            sync_path(making)
            _give_name(making, copy)
    finally:
        remove_store(making)


def _copy(source: sqlite3.Connection, making: Path, progress: Progress | None) -> None:
    """Copies page by page inside one read transaction: a writer in between would make it begin anew."""
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM setting").fetchone()
    into = sqlite3.connect(f"{making.as_uri()}?mode=rwc", uri=True, isolation_level=None)
    try:
        into.execute("PRAGMA synchronous = OFF")
        source.backup(into, pages=PAGES_AT_ONCE, progress=None if progress is None else _told(progress))
    finally:
        into.close()


def _told(progress: Progress) -> Callable[[int, int, int], None]:
    done = 0

    def tell(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        progress(total - remaining - done)
        done = total - remaining

    return tell


def _give_name(making: Path, copy: Path) -> None:
    """Never over another file, not even one that came a moment ago."""
    try:
        os.link(making, copy)
        making.unlink()
    except FileExistsError:
        raise _taken(copy) from None
    except OSError:  # a file system without links
        if os.path.lexists(copy):
            raise _taken(copy) from None
        making.rename(copy)
    sync_path(copy.parent)


def _taken(copy: Path) -> Conflict:
    return Conflict(f"There is a file at {copy} already; choose another place for the copy")

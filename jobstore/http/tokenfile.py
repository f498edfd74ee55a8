"""The token file on disk: read as a whole, replaced atomically, changed by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobstore import replacing
from jobstore.language.errors import InvalidParameter, NotFound, StoreUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = 1
LARGEST_BYTES = 4 * 1024 * 1024
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
OWN = stat.S_IRUSR | stat.S_IWUSR
STORES_OWN = ("-wal", "-shm", "-journal", ".lock", ".reserve", ".notified")
"""What SQLite and jobstore append to a store's name for files beside it."""

Signature = tuple[int, int, int, int]


def signature(path: str | os.PathLike[str]) -> Signature | None:
    """Return a value that changes when the file changes, with a single `stat`; ``None`` if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every request, and Path costs three times as much
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read(path: str | os.PathLike[str]) -> list[Any]:
    """Return the file's entries as parsed from JSON, unchecked.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: it is not a token file, or other users may write to it or have made it.
        StoreUnreadable: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            opened, named = os.fstat(file.fileno()), os.lstat(path)
            text = file.read(LARGEST_BYTES)
    except FileNotFoundError:
        raise NotFound(f"Token file not found: {path}; `jobstore token create` makes one") from None
    except OSError as error:
        raise StoreUnreadable(f"The token file {path} cannot be read: {error.strerror}") from None
    if opened.st_mode & WRITABLE_BY_OTHERS:
        raise InvalidParameter(f"Other users may write to the token file {path} and so add tokens; chmod go-w it")
    if replacing.is_planted(Path(path), named) or replacing.is_planted(Path(os.path.realpath(path)), opened):
        raise InvalidParameter(f"Another user made the token file {path} in a world-writable folder; give another path")
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
    """Replace the file's entries atomically.

    A new file belongs to the store's owner, with mode 0600. An existing file keeps its owner and its readers, such as
    a service account.

    Raises:
        InvalidParameter: the file would be one that belongs to a store.
        StoreUnreadable: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    for suffix in STORES_OWN:
        if target.name.endswith(suffix) and Path(f"{target}".removesuffix(suffix)).is_file():
            raise InvalidParameter(f"{path} is the name of a store's own file; give the token file another name")
    like, withheld = target, WRITABLE_BY_OTHERS
    if not target.exists():  # root may create it for the account that serves the store
        like, withheld = target.with_suffix(""), ~OWN
    text = json.dumps({"jobstore_tokens": VERSION, "tokens": entries}, indent=2, ensure_ascii=False) + "\n"
    try:
        with replacing.replacing(target, like, mode=OWN, withheld=withheld) as out:
            out.write(text)
    except OSError as error:
        raise StoreUnreadable(f"The token file {path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock that serializes changes of a token file between processes."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(replacing.locked(Path(os.path.realpath(path))))  # follows links as `write` does
        except OSError as error:
            raise StoreUnreadable(f"The folder of the token file {path} cannot be opened: {error.strerror}") from None
        yield

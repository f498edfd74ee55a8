"""The stores that are measured: built once for each size with a progress bar, kept, and used again.

A folder for each size holds the three files and ``built.json``: the fingerprint of the generator and
of the file format, and how long each build took in which run. Where the fingerprint does not fit, the
folder is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import jobstore
from benchmarks import fleet, history, peers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rich.console import Console

THIS_RUN = f"{os.getpid()}-{time.time():.0f}"
"""Times of builds are compared only where one run made them."""
CANDIDATES = ("jobstore", "naive", "careful")


@dataclass(frozen=True, slots=True)
class Dataset:
    """The stores of one size."""

    label: str
    size: int
    folder: Path
    built: dict[str, Any]

    def path(self, candidate: str) -> Path:
        """The file of a candidate."""
        return self.folder / f"{candidate}.db"

    def bytes(self, candidate: str) -> int:
        """The size of a candidate's file, what a reader must have on disk."""
        return self.path(candidate).stat().st_size


def prepare(folder: Path, label: str, *, console: Console, candidates: Iterable[str] = CANDIDATES) -> Dataset:
    """The data set of a size, built where it is not there or out of date."""
    size = history.SIZES[label]
    home = folder / label
    home.mkdir(parents=True, exist_ok=True)
    note = home / "built.json"
    built = json.loads(note.read_text()) if note.exists() else {}
    missing = [name for name in CANDIDATES if name in set(candidates) and not _is_current(built, home, name)]
    if missing:
        with _progress(console) as progress:
            for name in missing:
                built[name] = _build(home, name, size, progress)
                note.write_text(json.dumps(built, indent=1))
    return Dataset(label, size, home, built)


def fingerprint(candidate: str) -> str:
    """Changes when a stored data set of this candidate is out of date."""
    if candidate != "jobstore":
        return f"data {history.FINGERPRINT}; {sorted(_peer_indexes(candidate).items())}"
    from jobstore.storage import schema  # the file format is the engine's own business

    script = f"{schema.TABLES}{schema.EXECUTION_INDEXES}{schema.TRIGGERS}"
    return f"data {history.FINGERPRINT}; format {schema.SCHEMA_VERSION}; {_digest(script)}"


def build_store(path: Path, size: int, tick: Callable[[int], None] | None = None, *, jobs: int = 10_000) -> None:
    """Our store, through the bulk load that users call."""
    executions = history.documents(size) if size else iter(())
    jobstore.load(path, {"jobs": fleet.documents(jobs), "executions": executions}, progress=tick)


def many_jobs(folder: Path, count: int) -> tuple[Path, Path]:
    """Our store and the naive one with so many jobs and no execution; a build of seconds."""
    home = folder / "jobs"
    home.mkdir(parents=True, exist_ok=True)
    ours, naive = home / "jobstore.db", home / "naive.db"
    remove(ours)
    remove(naive)
    build_store(ours, 0, jobs=count)
    peers.build(naive, fleet.documents(count), ())
    return ours, naive


def _build(home: Path, name: str, size: int, progress: Progress) -> dict[str, Any]:
    path = home / f"{name}.db"
    remove(path)
    task = progress.add_task(f"{home.name} {name}", total=size)
    begun = time.perf_counter()
    if name == "jobstore":
        build_store(path, size, lambda done: progress.advance(task, done))
    elif name == "naive":
        peers.build(path, fleet.documents(), _counted(history.documents(size), progress, task))
    else:
        _build_careful(home, path)
    seconds = time.perf_counter() - begun
    progress.update(task, completed=size)
    return {"fingerprint": fingerprint(name), "seconds": round(seconds, 2), "run": THIS_RUN}


def _build_careful(home: Path, path: Path) -> None:
    """The naive file with more indexes."""
    shutil.copyfile(home / "naive.db", path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = -500000")
    peers.add_indexes(connection, peers.CAREFUL_INDEXES)
    connection.close()


def remove(path: Path) -> None:
    """Removes a store with the files that SQLite and a recorder keep beside it."""
    for beside in path.parent.glob(f"{path.name}*"):
        beside.unlink()


def _is_current(built: dict[str, Any], home: Path, name: str) -> bool:
    return name in built and (home / f"{name}.db").exists() and built[name]["fingerprint"] == fingerprint(name)


def _peer_indexes(candidate: str) -> dict[str, str]:
    return peers.NAIVE_INDEXES if candidate == "naive" else peers.CAREFUL_INDEXES


def _counted(documents: Iterator[dict[str, Any]], progress: Progress, task: Any) -> Iterator[dict[str, Any]]:
    """The same documents; the bar moves on each ten thousand."""
    for index, document in enumerate(documents, start=1):
        yield document
        if index % 10_000 == 0:
            progress.advance(task, 10_000)


def _digest(script: str) -> str:
    """Of the statements alone: a comment changes no file."""
    words = " ".join(re.sub(r"--.*", "", script).split())
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)

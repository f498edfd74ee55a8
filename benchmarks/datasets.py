"""The stores that are measured: built once for each size with a progress bar, kept, and used again.

A folder for each size holds the three files and ``built.json``: the fingerprint of the generator and of the file
format, and how long each build took in which run. A file whose fingerprint does not fit is built again.
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

from rich.progress import Progress, track

import jobstore
from benchmarks import fleet, history, peers
from jobstore.storage import schema

if TYPE_CHECKING:
    from collections.abc import Callable
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


def prepare(folder: Path, label: str, *, console: Console) -> Dataset:
    """The data set of a size, built where it is not there or out of date."""
    home, size = folder / label, history.SIZES[label]
    home.mkdir(parents=True, exist_ok=True)
    note = home / "built.json"
    built = json.loads(note.read_text()) if note.exists() else {}
    for name in CANDIDATES:
        current = built.get(name, {}).get("fingerprint") == fingerprint(name)
        if not current or not (home / f"{name}.db").exists():
            built[name] = _build(home, name, size, console)
            note.write_text(json.dumps(built, indent=1))
    return Dataset(label, size, home, built)


def fingerprint(candidate: str) -> str:
    """Changes when a stored data set of this candidate is out of date; a comment changes no file."""
    if candidate != "jobstore":
        indexes = peers.NAIVE_INDEXES if candidate == "naive" else peers.CAREFUL_INDEXES
        return f"data {history.FINGERPRINT}; {sorted(indexes.items())}"
    words = " ".join(re.sub(r"--.*", "", f"{schema.TABLES}{schema.EXECUTION_INDEXES}{schema.TRIGGERS}").split())
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    return f"data {history.FINGERPRINT}; format {schema.SCHEMA_VERSION}; {digest}"


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


def _build(home: Path, name: str, size: int, console: Console) -> dict[str, Any]:
    path, title = home / f"{name}.db", f"{home.name} {name}"
    remove(path)
    begun = time.perf_counter()
    if name == "jobstore":
        with Progress(console=console) as progress:
            task = progress.add_task(title, total=size)
            build_store(path, size, lambda done: progress.advance(task, done))
    elif name == "naive":
        peers.build(path, fleet.documents(), track(history.documents(size), title, size, console=console))
    else:  # the naive file with more indexes
        shutil.copyfile(home / "naive.db", path)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = -500000")
        peers.add_indexes(connection, peers.CAREFUL_INDEXES)
        connection.close()
    seconds = round(time.perf_counter() - begun, 2)
    return {"fingerprint": fingerprint(name), "seconds": seconds, "run": THIS_RUN}


def remove(path: Path) -> None:
    """Removes a store with the files that SQLite and a recorder keep beside it."""
    for beside in path.parent.glob(f"{path.name}*"):
        beside.unlink()

"""The stores that are measured: built once for each size with a progress bar, kept, and used again.

A folder for each size holds the three files and ``built.json``: the fingerprint of the generator and of the file
format, and how long each build took in which run. A file whose fingerprint does not fit is built again.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, track

import jobstore
from benchmarks import history, peers
from jobstore.storage import schema

CONSOLE = Console(stderr=True)
THIS_RUN = f"{os.getpid()}-{time.time():.0f}"
"""Times of builds are compared only where one run made them."""


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


def prepare(folder: Path, label: str) -> Dataset:
    """The data set of a size, built where it is not there or out of date."""
    home = folder / label
    home.mkdir(parents=True, exist_ok=True)
    note = home / "built.json"
    dataset = Dataset(label, history.SIZES[label], home, json.loads(note.read_text()) if note.exists() else {})
    for name in ("jobstore", "naive", "careful"):
        current = dataset.built.get(name, {}).get("fingerprint") == _fingerprint(name)
        if not current or not dataset.path(name).exists():
            remove(dataset.path(name))
            begun = time.perf_counter()
            _build(dataset, name)
            seconds = round(time.perf_counter() - begun, 2)
            dataset.built[name] = {"fingerprint": _fingerprint(name), "seconds": seconds, "run": THIS_RUN}
            note.write_text(json.dumps(dataset.built, indent=1))
    return dataset


def _fingerprint(candidate: str) -> str:
    """Changes when a stored data set of this candidate is out of date; a comment changes no file."""
    if candidate != "jobstore":
        indexes = peers.NAIVE_INDEXES if candidate == "naive" else peers.CAREFUL_INDEXES
        return f"data {history.FINGERPRINT}; {sorted(indexes.items())}"
    words = " ".join(re.sub(r"--.*", "", f"{schema.TABLES}{schema.EXECUTION_INDEXES}{schema.TRIGGERS}").split())
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    return f"data {history.FINGERPRINT}; format {schema.SCHEMA_VERSION}; {digest}"


def _build(dataset: Dataset, name: str) -> None:
    path, size, title = dataset.path(name), dataset.size, f"{dataset.label} {name}"
    if name == "jobstore":
        with Progress(console=CONSOLE) as progress:
            task = progress.add_task(title, total=size)
            build_store(path, size, lambda done: progress.advance(task, done))
    elif name == "naive":
        peers.build(path, history.job_documents(), track(history.documents(size), title, size, console=CONSOLE))
    else:  # the naive file with more indexes
        shutil.copyfile(dataset.path("naive"), path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = -500000")
            peers.add_indexes(connection, peers.CAREFUL_INDEXES)


def build_store(path: Path, size: int, tick: Callable[[int], None] | None = None, *, jobs: int = 10_000) -> None:
    """Our store, through the bulk load that users call."""
    executions = history.documents(size) if size else ()
    jobstore.load(path, {"jobs": history.job_documents(jobs), "executions": executions}, progress=tick)


def remove(path: Path) -> None:
    """Removes a store with the files that SQLite and a recorder keep beside it."""
    for beside in path.parent.glob(f"{path.name}*"):
        beside.unlink()

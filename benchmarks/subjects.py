"""Our side of the measurement: the store that answers, and the floor below it.

The floor F of a page is what its rows cost when their ids are known: ids -> rows -> documents -> JSON
bytes, by the library's own code from the same file. No way to answer a query can cost less.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

import jobstore
from benchmarks.fleet import END_US
from jobstore.language.instants import instant_datetime
from jobstore.language.models import pagination
from jobstore.storage.connection import Reader
from jobstore.storage.documents import execution_document, job_document
from jobstore.storage.rows import fetch_executions, fetch_jobs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW = instant_datetime(END_US) + timedelta(seconds=30)


class MovingClock:
    """Seven seconds later at each look: schedules come due between the queries."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The moment, later than the one before."""
        self.now += timedelta(seconds=7)
        return self.now


def open_store(path: Path, clock: Callable[[], datetime] | None = None) -> jobstore.JobStore:
    """The store under test; its clock stands still unless one is given."""
    return jobstore.open(path, clock=clock or (lambda: NOW.astimezone(UTC)))


def connection_of(store: jobstore.JobStore) -> sqlite3.Connection:
    """The connection that the store's next query uses; what it does there can be watched."""
    if store.connection is None:
        raise ValueError("the store is closed")
    return store.connection


class Floor:
    """Known rows, from the same file over a connection of the same kind."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)
        self.connection = self._reader.connection

    def executions(self, ids: Sequence[int]) -> bytes:
        """The page of these executions as JSON."""
        data = [execution_document(row) for row in fetch_executions(self.connection, ids)]
        return orjson.dumps({"data": data, "pagination": pagination(len(ids), 50, 0, len(ids))})

    def jobs(self, numbers: Sequence[int], next_runs_us: Sequence[int | None]) -> bytes:
        """The page of these jobs as JSON, their next runs known too."""
        rows = fetch_jobs(self.connection, numbers)
        data = [job_document(row, us) for row, us in zip(rows, next_runs_us, strict=True)]
        return orjson.dumps({"data": data, "pagination": pagination(len(rows), 50, 0, len(rows))})

    def job(self, number: int, next_run_us: int | None) -> bytes:
        """One job as JSON."""
        (row,) = fetch_jobs(self.connection, [number])
        return orjson.dumps(job_document(row, next_run_us))

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


def page_ids(page: Any) -> list[int]:
    """The ids of the executions on a page."""
    return [int(document["id"]) for document in page["data"]]


def page_key(page: Any) -> tuple[list[int], Any]:
    """In what two pages of executions must agree: ids, their places, the total."""
    return page_ids(page), page["pagination"]

"""The peers: what people write by hand, one table of jobs, one of executions, and SQL that says what it means.

*Naive* has text times, ``LIKE '%x%'``, ``ORDER BY ... LIMIT OFFSET``, ``COUNT(*)`` and two indexes. *Careful* has
besides an index for every order, escaped terms, statuses resolved before SQL, and 64 MB of cache.
Both are told what is hard to get right (aliases of a status, ties, nulls last, the effective
start), so that their answers can be held against ours; only the cost is theirs.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from jobstore.language.models import pagination

TABLES = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, job_type TEXT, name TEXT UNIQUE, job_category TEXT, description TEXT,
    schedule_type TEXT, schedule TEXT, interval_seconds INTEGER, parameters TEXT, timeout_seconds INTEGER,
    max_instances INTEGER, enabled INTEGER, last_run_at TEXT, created_at TEXT, updated_at TEXT
);
CREATE TABLE executions (
    id INTEGER PRIMARY KEY, job_id INTEGER, job_name TEXT, status TEXT, started_at TEXT, completed_at TEXT,
    duration_ms INTEGER, result TEXT, error TEXT, trace_id TEXT, worker_id TEXT, parameters_snapshot TEXT,
    created_at TEXT
);
"""
"""``started_at`` holds the creation time while an execution waits: one column to sort and filter by."""
NAIVE_INDEXES = {"by_start": "executions (started_at)", "by_job": "executions (job_id, started_at)"}
CAREFUL_INDEXES = {
    **NAIVE_INDEXES,
    "by_status": "executions (status, started_at)",
    "by_job_status": "executions (job_id, status, started_at)",
    "by_name": "executions (job_name)",
    "by_duration": "executions (duration_ms)",
    "by_completion": "executions (completed_at)",
    "by_creation": "executions (created_at)",
    "by_trace": "executions (trace_id)",
    "by_worker": "executions (worker_id)",
}
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT")
CONDITIONS = {
    "job_id": "job_id = (SELECT id FROM jobs WHERE name = ?)",
    "status": "status = ?",
    "trace_id": "trace_id = ?",
    "after": "started_at >= ?",
    "before": "started_at <= ?",
}
ALIASES = {"failed": "FAILURE", "error": "FAILURE", "ok": "SUCCESS"}


def build(path: Path, jobs: Iterable[dict[str, Any]], executions: Iterable[dict[str, Any]]) -> None:
    """Writes the naive store: all rows in one transaction, then the two indexes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(TABLES)
    connection.execute("BEGIN IMMEDIATE")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    documents = ({**job, "id": number, "parameters": _json(job["parameters"])} for number, job in enumerate(jobs, 1))
    connection.executemany(
        f"INSERT INTO jobs VALUES ({','.join('?' * len(columns))})",
        ([document[column] for column in columns] for document in documents),
    )
    connection.executemany(f"INSERT INTO executions VALUES ({','.join('?' * 13)})", map(_row, executions))
    connection.execute("COMMIT")
    add_indexes(connection, NAIVE_INDEXES)
    connection.close()


def add_indexes(connection: sqlite3.Connection, indexes: dict[str, str]) -> None:
    """Creates those that are not there."""
    for name, columns in indexes.items():
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _row(d: dict[str, Any]) -> tuple[Any, ...]:
    """An execution document as a row of ``executions``."""
    return (
        int(d["id"]), int(d["job_id"]), d["job_name"], d["status"], _sortable(d["started_at"] or d["created_at"]),
        d["completed_at"] and _sortable(d["completed_at"]), d["duration_ms"], d["result"] and _json(d["result"]),
        d["error"], d["trace_id"], d["worker_id"], _json(d["parameters_snapshot"]), _sortable(d["created_at"]),
    )  # fmt: skip


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _sortable(text: str) -> str:
    """Instants as text sort only if all have the fraction."""
    return text if len(text) == 27 else f"{text[:19]}.000000Z"


class HandWritten:
    """The queries of both peers; ``careful`` chooses between the two forms of a search."""

    def __init__(self, path: Path, *, careful: bool) -> None:
        self.careful = careful
        self.connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        if careful:
            self.connection.execute("PRAGMA cache_size = -65536")

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        """A page of executions, as a dict ready for JSON."""
        rows, total = self._selected("*", query)
        return _page([_execution_document(row) for row in rows], total, query.get("offset", 0))

    def ids(self, query: dict[str, Any]) -> tuple[list[int], int]:
        """The ids of a page and the total: what a comparison needs, without sorting whole rows."""
        rows, total = self._selected("id", query)
        return [row[0] for row in rows], total

    def _selected(self, columns: str, query: dict[str, Any]) -> tuple[list[sqlite3.Row], int]:
        where, values = self._where(query)
        order = _order(query.get("order_by", "started_at"), "DESC" if query.get("order_desc", True) else "ASC")
        (total,) = self.connection.execute(f"SELECT count(*) FROM executions{where}", values).fetchone()
        statement = f"SELECT {columns} FROM executions{where} ORDER BY {order} LIMIT 50 OFFSET ?"
        return self.connection.execute(statement, (*values, query.get("offset", 0))).fetchall(), total

    def _where(self, query: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
        asked = [key for key in CONDITIONS if key in query]
        parts = [CONDITIONS[key] for key in asked]
        values = [_sortable(query[key]) if key in ("after", "before") else query[key] for key in asked]
        if "search" in query:
            condition, bound = self._search(query["search"], named="job_id" not in query)
            parts.append(condition)
            values += bound
        return (f" WHERE {' AND '.join(parts)}" if parts else ""), tuple(values)

    def _search(self, term: str, *, named: bool) -> tuple[str, list[Any]]:
        """In the name or by status; by status alone within one job."""
        if not self.careful:
            names, bound = ("job_name LIKE ? OR ", [f"%{term}%"]) if named else ("", [])
            return f"({names}status LIKE ?)", [*bound, f"%{'FAIL' if term == 'failed' else term}%"]
        meant = [status for status in STATUSES if term.upper() in status or ALIASES.get(term) == status]
        escaped = term.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        parts, bound = (["job_name LIKE ? ESCAPE '!'"], [f"%{escaped}%"]) if named else ([], [])
        if meant:
            parts.append(f"status IN ({','.join('?' * len(meant))})")
        return f"({' OR '.join(parts) or 'false'})", [*bound, *meant]


def _order(order_by: str, direction: str) -> str:
    if order_by == "id":
        return f"id {direction}"
    nullable = order_by in ("completed_at", "duration_ms", "worker_id")
    nulls = " NULLS LAST" if nullable and direction == "ASC" else ""
    return f"{order_by} {direction}{nulls}, id {direction}"


def _page(data: list[dict[str, Any]], total: int, offset: int) -> dict[str, Any]:
    return {"data": data, "pagination": pagination(total, 50, offset, len(data))}


def _execution_document(row: sqlite3.Row) -> dict[str, Any]:
    document = dict(row)
    document["id"], document["job_id"] = str(row["id"]), str(row["job_id"])
    document["result"] = row["result"] and orjson.loads(row["result"])
    document["parameters_snapshot"] = orjson.loads(row["parameters_snapshot"])
    if row["status"] == "PENDING":
        document["started_at"] = None
    return document

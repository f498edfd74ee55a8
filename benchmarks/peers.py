"""What people write by hand: one table of jobs, one of executions, and SQL that says what it means.

*Naive* has text times, ``LIKE '%x%'``, ``ORDER BY ... LIMIT OFFSET``, ``COUNT(*)`` and two indexes.
*Careful* has besides an index for every order, escaped terms, statuses resolved before SQL, and 64 MB of cache.
Both are told what is hard to get right (aliases of a status, ties, nulls last, the effective
start), so that their answers can be held against ours; only the cost is theirs.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from croniter import croniter

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

NAIVE_INDEXES = {
    "by_start": "executions (started_at)",
    "by_job": "executions (job_id, started_at)",
}
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

ALIASES = {"failed": "FAILURE", "error": "FAILURE", "ok": "SUCCESS"}
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT")

_JOB_COLUMNS = (
    "id", "job_type", "name", "job_category", "description", "schedule_type", "schedule", "interval_seconds",
    "parameters", "timeout_seconds", "max_instances", "enabled", "last_run_at", "created_at", "updated_at",
)  # fmt: skip


def job_row(number: int, document: dict[str, Any]) -> tuple[Any, ...]:
    """A job document as a row of ``jobs``."""
    values = {**document, "id": number, "parameters": orjson.dumps(document["parameters"]).decode()}
    return tuple(values[column] for column in _JOB_COLUMNS)


def execution_row(document: dict[str, Any]) -> tuple[Any, ...]:
    """An execution document as a row of ``executions``."""
    d = document
    result = d["result"]
    return (
        int(d["id"]), int(d["job_id"]), d["job_name"], d["status"],
        _sortable(d["started_at"] or d["created_at"]),
        d["completed_at"] and _sortable(d["completed_at"]),
        d["duration_ms"], None if result is None else orjson.dumps(result).decode(),
        d["error"], d["trace_id"], d["worker_id"],
        orjson.dumps(d["parameters_snapshot"]).decode(), _sortable(d["created_at"]),
    )  # fmt: skip


def _sortable(text: str) -> str:
    """Instants as text sort only if all have the fraction."""
    return text if len(text) == 27 else f"{text[:19]}.000000Z"


def build(path: Path, jobs: Iterable[dict[str, Any]], executions: Iterable[dict[str, Any]]) -> None:
    """Writes the naive store: all rows in one transaction, then the two indexes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(TABLES)
    connection.execute("BEGIN IMMEDIATE")
    marks = ",".join("?" * len(_JOB_COLUMNS))
    rows = (job_row(number, document) for number, document in enumerate(jobs, start=1))
    connection.executemany(f"INSERT INTO jobs VALUES ({marks})", rows)
    connection.executemany(
        f"INSERT INTO executions VALUES ({','.join('?' * 13)})", (execution_row(document) for document in executions)
    )
    connection.execute("COMMIT")
    add_indexes(connection, NAIVE_INDEXES)
    connection.close()


def add_indexes(connection: sqlite3.Connection, indexes: dict[str, str]) -> None:
    """Creates those that are not there."""
    for name, columns in indexes.items():
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class HandWritten:
    """The queries of both peers; ``careful`` chooses between the two forms of a search."""

    def __init__(self, path: Path, *, careful: bool) -> None:
        self.careful = careful
        self.connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        if careful:
            self.connection.execute("PRAGMA cache_size = -65536")

    def list_job_executions(self, **query: Any) -> dict[str, Any]:
        """The page, as a dict ready for JSON."""
        rows, total = self._selected("*", query)
        return _page([_execution_document(row) for row in rows], total, query.get("limit", 50), query.get("offset", 0))

    def ids(self, method: str, query: dict[str, Any]) -> tuple[list[int], int]:
        """The ids of a page and the total: what a comparison needs, without sorting whole rows."""
        if method == "get_job_executions":
            query = {**query, "job": self._number(query["job_id"])}
        rows, total = self._selected("id", query)
        return [row[0] for row in rows], total

    def _selected(self, columns: str, query: dict[str, Any]) -> tuple[list[sqlite3.Row], int]:
        where, values = self._where(query)
        order = _order(query.get("order_by", "started_at"), "DESC" if query.get("order_desc", True) else "ASC")
        page = query.get("limit", 50), query.get("offset", 0)
        (total,) = self.connection.execute(f"SELECT count(*) FROM executions{where}", values).fetchone()
        statement = f"SELECT {columns} FROM executions{where} ORDER BY {order} LIMIT ? OFFSET ?"
        return self.connection.execute(statement, (*values, *page)).fetchall(), total

    def _number(self, job_id: str) -> int:
        (number,) = self.connection.execute("SELECT id FROM jobs WHERE name = ?", (job_id,)).fetchone()
        return int(number)

    def get_job_executions(self, job_id: str, **query: Any) -> dict[str, Any]:
        """The page of one job, which is looked up by name first."""
        return self.list_job_executions(job=self._number(job_id), **query)

    def get_job(self, job_id: str) -> dict[str, Any]:
        """The job's document."""
        row = self.connection.execute("SELECT * FROM jobs WHERE name = ?", (job_id,)).fetchone()
        return _job_document(row, datetime.now(UTC))

    def list_jobs(self, *, now: datetime, search: str | None = None, order_by: str = "name") -> dict[str, Any]:
        """The first fifty; the next run of every job is computed when it is sorted by."""
        where = ""
        values: tuple[str, ...] = ()
        if search:
            where, values = " WHERE name LIKE ? OR job_type LIKE ? OR job_category LIKE ?", (self._pattern(search),) * 3
        (total,) = self.connection.execute(f"SELECT count(*) FROM jobs{where}", values).fetchone()
        if order_by == "next_run_at":
            rows = self.connection.execute(f"SELECT * FROM jobs{where}", values).fetchall()
            runs = sorted(((_next_run(row, now) or "~", row["id"]), row) for row in rows)
            rows = [row for _, row in runs[:50]]
        else:
            rows = self.connection.execute(f"SELECT * FROM jobs{where} ORDER BY {order_by} LIMIT 50", values).fetchall()
        return _page([_job_document(row, now) for row in rows], total, 50, 0)

    def job_stats(self, job_id: str | None = None) -> dict[str, Any]:
        """Runs by status, success rate, average, median and 95th percentile of all durations."""
        where = ""
        values: tuple[str, ...] = ()
        if job_id is not None:
            where, values = " AND job_id = (SELECT id FROM jobs WHERE name = ?)", (job_id,)
        run = self.connection.execute
        by_status = dict(
            run(f"SELECT status, count(*) FROM executions WHERE true{where} GROUP BY status", values).fetchall()
        )
        timed = f"FROM executions WHERE duration_ms IS NOT NULL{where}"
        count, average, longest = run(f"SELECT count(*), avg(duration_ms), max(duration_ms) {timed}", values).fetchone()
        ranks = {"p50": -(-count // 2), "p95": -(-count * 95 // 100)}
        quantiles = {
            name: run(
                f"SELECT duration_ms {timed} ORDER BY duration_ms LIMIT 1 OFFSET ?", (*values, rank - 1)
            ).fetchone()[0]
            for name, rank in ranks.items()
        }
        return {
            "runs": sum(by_status.values()),
            "by_status": by_status,
            "duration_ms": {"average": average, **quantiles, "max": longest},
        }

    def _where(self, query: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
        parts: list[str] = []
        values: list[Any] = []
        simple = (("job", "job_id = ?"), ("status", "status = ?"), ("trace_id", "trace_id = ?"))
        for key, condition in (*simple, ("after", "started_at >= ?"), ("before", "started_at <= ?")):
            if query.get(key) is not None:
                parts.append(condition)
                values.append(_sortable(query[key]) if key in ("after", "before") else query[key])
        if query.get("search"):
            condition, bound = self._search(query["search"], named="job" not in query)
            parts.append(condition)
            values += bound
        return (f" WHERE {' AND '.join(parts)}" if parts else ""), tuple(values)

    def _search(self, term: str, *, named: bool) -> tuple[str, list[Any]]:
        """In the name or by status; by status alone within one job."""
        if not self.careful:
            word = {"failed": "FAIL"}.get(term, term)
            names, bound = ("job_name LIKE ? OR ", [f"%{term}%"]) if named else ("", [])
            return f"({names}status LIKE ?)", [*bound, f"%{word}%"]
        meant = [status for status in STATUSES if term.upper() in status or ALIASES.get(term) == status]
        parts, bound = ["job_name LIKE ? ESCAPE '!'"] if named else [], [self._pattern(term)] if named else []
        if meant:
            parts.append(f"status IN ({','.join('?' * len(meant))})")
        return f"({' OR '.join(parts) or 'false'})", [*bound, *meant]

    def _pattern(self, term: str) -> str:
        if not self.careful:
            return f"%{term}%"
        return "%" + term.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"


def _order(order_by: str, direction: str) -> str:
    if order_by == "id":
        return f"id {direction}"
    nullable = order_by in ("completed_at", "duration_ms", "worker_id")
    nulls = " NULLS LAST" if nullable and direction == "ASC" else ""
    return f"{order_by} {direction}{nulls}, id {direction}"


def _page(data: list[dict[str, Any]], total: int, limit: int, offset: int) -> dict[str, Any]:
    return {
        "data": data,
        "pagination": {
            "page": offset // limit + 1,
            "page_size": limit,
            "total": total,
            "total_pages": -(-total // limit),
            "has_next": offset + len(data) < total,
            "has_prev": offset > 0,
        },
    }


def _execution_document(row: sqlite3.Row) -> dict[str, Any]:
    document = dict(row)
    document["id"], document["job_id"] = str(row["id"]), str(row["job_id"])
    document["result"] = row["result"] and orjson.loads(row["result"])
    document["parameters_snapshot"] = orjson.loads(row["parameters_snapshot"])
    if row["status"] == "PENDING":
        document["started_at"] = None
    return document


def _job_document(row: sqlite3.Row, now: datetime) -> dict[str, Any]:
    document = dict(row)
    document["id"], document["enabled"] = row["name"], bool(row["enabled"])
    document["parameters"] = orjson.loads(row["parameters"])
    document["next_run_at"] = _next_run(row, now)
    return document


def _next_run(row: sqlite3.Row, now: datetime) -> str | None:
    """The next fire time, computed for each job each time."""
    if not row["enabled"]:
        return None
    if row["schedule"] is not None:
        moment: datetime = _croniter()(row["schedule"], now).get_next(datetime)
    else:
        anchor = datetime.fromisoformat(row["last_run_at"])
        seconds = row["interval_seconds"]
        passed = max(0, int((now - anchor).total_seconds()) // seconds)
        moment = datetime.fromtimestamp(anchor.timestamp() + (passed + 1) * seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _croniter() -> Callable[..., croniter]:
    from croniter import croniter as schedule  # only one order of one list needs it

    made: Callable[..., croniter] = schedule
    return made

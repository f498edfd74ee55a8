"""Deletes what no execution has any more: worker names, parameters, names of removed jobs, processes.

A recorder may be about to use one of them. So candidates are found in a snapshot. Then, under a lock that briefly
blocks all recorders, they are checked against the changes since that snapshot, and deleted. Each recorder's transaction
begins with a weaker lock on the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.language.models import STATUS_CODES, Status
from jobstore.storage.schema import IS_NO_SUCCESS

if TYPE_CHECKING:
    from jobstore.storage.postgres.connection import Connection

# Recorders queue behind whoever waits for the lock, so it waits only briefly.
LOCK_MILLISECONDS: Final = 200
# Processes without an open execution are deleted from this number on; there may be one for each run.
FORGOTTEN_FROM: Final = 64
_TABLES: Final = (("worker", "worker_id"), ("parameter_set", "parameter_set_id"), ("job_name", "name_id"))
_RUNNING, _PENDING = STATUS_CODES[Status.RUNNING], STATUS_CODES[Status.PENDING]
_UNUSED: Final = """
SELECT t.{key} FROM {table} AS t WHERE NOT EXISTS (SELECT 1 FROM execution AS e WHERE e.{key} = t.{key})
"""
# The next execution of a job needs its current name.
_BORNE: Final = "AND NOT EXISTS (SELECT 1 FROM job AS j WHERE j.number = t.job_number AND j.name = t.name)"
_CHANGED: Final = """
SELECT e.worker_id, e.parameter_set_id, e.name_id FROM execution AS e
WHERE e.id IN (SELECT execution_id FROM change WHERE xid >= ? AND execution_id IS NOT NULL)
"""
_IDLE: Final = f"""
FROM process AS p WHERE NOT EXISTS (
    SELECT 1 FROM execution AS e WHERE e.{IS_NO_SUCCESS} AND e.status IN ({_RUNNING}, {_PENDING})
        AND p.process_id = CASE e.status WHEN {_PENDING} THEN e.enqueued_by ELSE e.started_by END
)
"""


class Unused(NamedTuple):
    """Rows that no execution used in a snapshot.

    Attributes:
        since: the oldest transaction that the snapshot did not see.
        keys: the unused keys of each table of `_TABLES`.
    """

    since: int
    keys: tuple[set[int], ...]


def find_unused(reader: Connection) -> Unused:
    """The rows that no execution uses in this snapshot; passes over all executions."""
    # Everything before it has ended and is visible; later changes are in the log under this number or a higher one.
    since: int = reader.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    found = []
    for table, key in _TABLES:
        borne = _BORNE if table == "job_name" else ""
        found.append({number for (number,) in reader.execute(_UNUSED.format(table=table, key=key) + borne)})
    return Unused(since, tuple(found))


def delete_unused(connection: Connection, unused: Unused) -> None:
    """Delete what is still unused, in the open transaction; nothing if that cannot be determined."""
    if not any(unused.keys):
        return
    _lock(connection)
    trimmed: int = connection.value("SELECT trimmed FROM folding")
    # The log no longer lists everything used since the snapshot: leave it to a later prune.
    if trimmed >= unused.since:
        return
    changed = connection.execute(_CHANGED, (unused.since,)).fetchall()
    for place, ((table, key), keys) in enumerate(zip(_TABLES, unused.keys, strict=True)):
        # Check only the log again: with the lock held, a second pass over all executions would block recorders.
        left = keys - {row[place] for row in changed}
        connection.execute(f"DELETE FROM {table} WHERE {key} = ANY(?)", (list(left),))
        if left and table == "job_name":
            # A change without a count tells readers to read their names again.
            connection.execute("INSERT INTO change (name_id) VALUES (?)", (max(left),))


def forget_processes(connection: Connection) -> None:
    """Delete processes without an open execution, once there are many."""
    if connection.value(f"SELECT count(*) {_IDLE}") >= FORGOTTEN_FROM:
        _lock(connection)
        connection.execute(f"DELETE {_IDLE}")


def _lock(connection: Connection) -> None:
    """Block recorders until the transaction ends."""
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    # Conflicts with the ROW EXCLUSIVE lock that each recorder takes first, but not with readers.
    connection.execute("LOCK TABLE execution IN SHARE ROW EXCLUSIVE MODE")

"""Jobs, names and settings: the statements behind `Recorder.save_job`, `rename_job` and `remove_job`.

Each function runs inside its caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobstore.language.errors import Conflict, InvalidRecord, NotFound, shown
from jobstore.language.fields import NAME_CHARACTERS, checked_name
from jobstore.language.records import Job, changed_job, folded_job, new_job
from jobstore.language.search import UNICODE_VERSION, fold
from jobstore.storage.pruned import forget_pruned
from jobstore.storage.rows import JOB_SELECT, absorb_starts, is_server

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping


def check_settings(connection: sqlite3.Connection, path: object, timezone: str | None) -> None:
    """Refuse a time zone other than the file's; fold names again if the Unicode version has changed."""
    settings = dict(connection.execute("SELECT key, value FROM setting"))
    current = settings.get("timezone", "")
    if timezone is not None and timezone != current:
        from jobstore.language.zones import same_zone  # zoneinfo is slow to import

        if not same_zone(current, timezone):
            raise Conflict(
                f"{path} has the time zone {current}, not {timezone}; leave out timezone to keep it, "
                "or change it with 'jobstore timezone'"
            )
    if settings.get("unicode_version") != UNICODE_VERSION:
        fold_again(connection)


def set_timezone(connection: sqlite3.Connection, zone: str) -> None:
    connection.execute("UPDATE setting SET value = ? WHERE key = 'timezone'", (zone,))
    connection.execute("INSERT INTO change DEFAULT VALUES")  # makes readers drop what they cached


def fold_again(connection: sqlite3.Connection) -> None:
    """Fold every name with this process's Unicode version, the one search terms are folded with."""
    jobs = connection.execute("SELECT name, job_type, job_category, number FROM job").fetchall()
    connection.executemany(
        "UPDATE job SET folded = ? WHERE number = ? AND folded <> ?",
        [(folded, number, folded) for *words, number in jobs for folded in [folded_job(*words)]],
    )
    names = connection.execute("SELECT name, name_id FROM job_name").fetchall()
    connection.executemany(
        "UPDATE job_name SET folded = ? WHERE name_id = ? AND folded <> ?",
        [(folded, key, folded) for name, key in names for folded in [fold(name)]],
    )
    connection.execute(
        "INSERT INTO setting VALUES ('unicode_version', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (UNICODE_VERSION,),
    )


_COLUMNS = Job._fields[:-1]
"""All but the number, which the database gives."""
_INSERT_JOB = f"INSERT INTO job ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_UPDATE_JOB = f"UPDATE job SET {', '.join(f'{column} = ?' for column in _COLUMNS)} WHERE number = ?"


def save_job(
    connection: sqlite3.Connection,
    name: str,
    definition: Mapping[str, Any],
    now_us: int,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Add a job under the next number, or update the job with this name. `defaults` apply only to a new job."""
    row = connection.execute(f"{JOB_SELECT}WHERE name = ?", (name,)).fetchone()
    if row is None:
        connection.execute(_INSERT_JOB, new_job(name, {**(defaults or {}), **definition}, now_us)[:-1])
        return
    old = Job._make(row)
    new = changed_job(old, definition, now_us)
    if new is not old:
        # Only if something changed: recorders that note a start have to wait for this write.
        if is_server(connection):
            absorb_starts(connection, old.number)
        connection.execute(_UPDATE_JOB, new)


def rename_job(connection: sqlite3.Connection, old: str, new: str, now_us: int) -> None:
    """Rename a job; past executions keep the name they were recorded under."""
    number = job_number_of(connection, old)
    if old == new:
        return
    if connection.execute("SELECT 1 FROM job WHERE name = ?", (new,)).fetchone():
        raise Conflict(f"A job named {new} already exists; choose another name, or remove that job first")
    if is_server(connection):
        absorb_starts(connection, number)
    words = connection.execute("SELECT job_type, job_category FROM job WHERE number = ?", (number,)).fetchone()
    connection.execute(
        "UPDATE job SET name = ?, folded = ?, updated_us = ? WHERE number = ?",
        (new, folded_job(new, *words), now_us, number),
    )
    forget_names(connection, [number])


def remove_job(connection: sqlite3.Connection, name: str) -> None:
    """Remove a job; its executions stay."""
    number = job_number_of(connection, name)
    connection.execute("DELETE FROM job WHERE number = ?", (number,))
    forget_pruned(connection, number)
    forget_names(connection, [number])


def forget_names(connection: sqlite3.Connection, job_numbers: Iterable[int]) -> None:
    """Delete old names of these jobs that no execution has any more.

    Does nothing on a server, where another host may be recording under such a name: see `leftovers.forget_unused`.
    """
    if is_server(connection):
        return
    unused = [
        key
        for number in job_numbers
        for (key,) in connection.execute(
            """
            SELECT name_id FROM job_name AS n
            WHERE job_number = ? AND NOT EXISTS (SELECT 1 FROM name_tally AS t WHERE t.name_id = n.name_id)
                AND NOT EXISTS (SELECT 1 FROM job AS j WHERE j.number = n.job_number AND j.name = n.name)
            """,
            (number,),
        ).fetchall()
    ]
    if not unused:
        return
    connection.executemany("DELETE FROM job_name WHERE name_id = ?", [(key,) for key in unused])
    # A change without a count makes readers reload their names: they may have counted under a deleted one, and its key
    # may be reused.
    connection.execute("INSERT INTO change (name_id) VALUES (?)", (unused[0],))


def job_number_of(connection: sqlite3.Connection, name: object) -> int:
    """The number of the job with this name.

    Raises:
        NotFound: there is none.
    """
    found = connection.execute("SELECT number FROM job WHERE name = ?", (asked_name(name),)).fetchone()
    if found is None:
        raise no_job(name)
    return int(found[0])


def asked_name(name: object) -> str:
    """Validate a name to look up: for text that cannot be a job's name, raise `NotFound`."""
    try:
        return checked_name(name)
    except InvalidRecord:
        if isinstance(name, str):
            raise no_job(name) from None
        raise


def no_job(name: object) -> NotFound:
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return NotFound(f"Job not found: {text if len(text) <= NAME_CHARACTERS else shown(name)}")

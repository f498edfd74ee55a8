"""The checks of a store: each rule of the format, row by row.

They read inside the transaction that is open on the given connection, and hold at most one hour of names in memory.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from functools import cache
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import orjson

from jobstore.language.cron import check_schedule
from jobstore.language.errors import InvalidRecord, InvalidSchedule, shown
from jobstore.language.fields import is_storable, json_text
from jobstore.language.instants import MIN_US
from jobstore.language.models import STATUS_CODES, Status
from jobstore.language.records import folded_job
from jobstore.language.search import UNICODE_VERSION, fold
from jobstore.language.zones import check_timezone
from jobstore.storage.schema import (
    HOUR_US,
    SEGMENT_BITS,
    SEGMENT_KINDS,
    SPAN_ALL,
    SPAN_DAY,
    SPAN_HOUR,
    create_tables,
    finish_tables,
)
from jobstore.storage.segments import KINDS, make_planes, read_planes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Progress = Callable[[int], None]

MOST_OF_A_KIND: Final = 20
"""A limit, or a damaged file would give a sentence for every row."""
TOLD_EVERY: Final = 10_000
_RUNNING: Final = STATUS_CODES[Status.RUNNING]


def problems_of(
    connection: sqlite3.Connection, writable: sqlite3.Connection, progress: Progress | None
) -> Iterator[str]:
    """All problems of a file, the most basic first.

    The structure needs a connection that could write: SQLite does not read the CHECK constraints of a read-only file.
    """
    kinds = (
        _structure(writable),
        _triggers(connection),
        _references(connection),
        _settings(connection),
        _jobs(connection),
        _names(connection),
        _shared_parameters(connection),
        _executions(connection, connection.execute(EXECUTIONS), progress),
        _name_counters(connection),
        _segments(connection),
        _sequences(connection),
    )
    for kind in kinds:
        yield from _some(kind)


def problems_of_server(
    connection: sqlite3.Connection,
    executions: Iterable[tuple[Any, ...]],
    own: Iterable[Iterator[str]],
    progress: Progress | None,
) -> Iterator[str]:
    """All problems of a store on a server; `own` are the checks that only a server needs."""
    kinds = (
        *own,
        _settings(connection),
        _jobs(connection),
        _names(connection),
        _shared_parameters(connection),
        _executions(connection, executions, progress),
    )
    for kind in kinds:
        yield from _some(kind)


def _some(found: Iterator[str]) -> Iterator[str]:
    yield from islice(found, MOST_OF_A_KIND)
    more = sum(1 for _ in found)
    if more:
        yield f"... and {more} more of this kind"


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"The file is damaged: {line}"


@cache
def _made() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The triggers, indexes and tables of a new file, each with its table."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        create_tables(made)
        finish_tables(made, counted=False)
        return _names_of(made, "trigger"), _names_of(made, "index"), _names_of(made, "table")


def _triggers(connection: sqlite3.Connection) -> Iterator[str]:
    """Triggers and tables of other programs that can make recording fail; missing triggers and indexes of ours."""
    ours, indexes, made = _made()
    tables = made.keys()
    found = _names_of(connection, "trigger")
    for name, table in found.items():
        if name not in ours and table in tables:
            yield f"The trigger {shown(name)} on the table {table} is not part of jobstore and can make recording fail"
    for name in ours.keys() - found.keys():
        yield f"The trigger {name} is missing; without it, counters and the change log are not updated"
    for name in indexes.keys() - _names_of(connection, "index").keys():
        yield f"The index {name} is missing; queries and recording need it"
    for name in _names_of(connection, "table").keys() - tables:
        quoted = name.replace('"', '""')
        for _, _, table, *_ in connection.execute(f'PRAGMA foreign_key_list("{quoted}")').fetchall():
            if table in tables:
                yield f"The table {shown(name)} is not part of jobstore and can prevent deletes: it refers to {table}"


def _names_of(connection: sqlite3.Connection, kind: str) -> dict[str, str]:
    """The names of one kind of object in the file, each with its table."""
    return dict(connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = ?", (kind,)))


def _references(connection: sqlite3.Connection) -> Iterator[str]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"Row {row} of the table {table} refers to a missing row of {parent}"


def _settings(connection: sqlite3.Connection) -> Iterator[str]:
    settings = dict(connection.execute("SELECT key, value FROM setting"))
    try:
        check_timezone(settings.get("timezone"))
    except InvalidRecord as error:
        yield f"The store's {error}"


def _jobs(connection: sqlite3.Connection) -> Iterator[str]:
    is_ours = _is_folded_like_here(connection)
    rows = connection.execute("SELECT number, name, job_type, job_category, folded, schedule, parameters FROM job")
    for number, name, job_type, job_category, folded, schedule, parameters in rows:
        if is_ours and folded != folded_job(name, job_type, job_category):
            yield f"Job {number} cannot be found by search: its search text does not match its name, type and category"
        if schedule is not None:
            try:
                check_schedule(schedule)
            except InvalidSchedule as error:
                yield f"Job {number} has a schedule that cannot be computed: {error}"
        yield from _json(f"Job {number}", "parameters", parameters)


def _names(connection: sqlite3.Connection) -> Iterator[str]:
    if not _is_folded_like_here(connection):
        return
    for name_id, name, folded in connection.execute("SELECT name_id, name, folded FROM job_name"):
        if folded != fold(name):
            yield f"Name {name_id} cannot be found by search: its search text does not match {shown(name)}"


def _is_folded_like_here(connection: sqlite3.Connection) -> bool:
    row = connection.execute("SELECT value FROM setting WHERE key = 'unicode_version'").fetchone()
    return row is not None and row[0] == UNICODE_VERSION


def _shared_parameters(connection: sqlite3.Connection) -> Iterator[str]:
    for key, text in connection.execute("SELECT parameter_set_id, parameters FROM parameter_set"):
        yield from _json(f"Parameter set {key}", "parameters", text)


def _json(what: str, field: str, text: str | None) -> Iterator[str]:
    if text is None:
        return
    try:
        json_text(orjson.loads(text), field)
    except (orjson.JSONDecodeError, InvalidRecord, RecursionError) as error:
        yield f"{what} has {field} that a recorder would not write: {error}"


EXECUTIONS: Final = """
SELECT id, name_id, status, effective_us, completed_us, duration_ms, started_by, parameters, result, trace_id, error
FROM execution
"""


def _executions(
    connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]], progress: Progress | None
) -> Iterator[str]:
    """One pass over the rows: their texts and processes, and the counters by period and by name."""
    hours: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    names: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    processes = {key for (key,) in connection.execute("SELECT process_id FROM process")}
    done = 0
    for done, row in enumerate(rows, 1):
        number, name_id, status, effective_us, completed_us, duration_ms, started_by, *texts = row
        for tally in (hours[(effective_us - MIN_US) // HOUR_US, status], names[name_id, status]):
            tally[0] += 1
            if duration_ms is not None:
                tally[1] += 1
                tally[2] += duration_ms
        hours[(effective_us - MIN_US) // HOUR_US, status][3] += completed_us is not None
        if started_by > 1:
            yield from _owner(number, status, started_by in processes)
        if any(text is not None for text in texts):
            yield from _texts(number, *texts)
        if progress is not None and done % TOLD_EVERY == 0:
            progress(TOLD_EVERY)
    if progress is not None and done % TOLD_EVERY:
        progress(done % TOLD_EVERY)
    yield from _period_counters(connection, hours)
    yield from _compared(
        "name_tally",
        connection.execute("SELECT name_id, status, runs, timed, duration_ms FROM name_tally"),
        names,
        keys=2,
    )


def _owner(number: int, status: int, is_known: bool) -> Iterator[str]:
    if status != _RUNNING:
        yield f"Execution {number} is not running, but a process is recorded as running it"
    elif not is_known:
        yield f"Execution {number} refers to a process that is not recorded"


def _texts(number: int, parameters: str | None, result: str | None, *plain: str | None) -> Iterator[str]:
    yield from _json(f"Execution {number}", "parameters", parameters)
    yield from _json(f"Execution {number}", "result", result)
    if any(text is not None and not is_storable(text) for text in plain):
        yield f"Execution {number} has text that is not UTF-8"


def _period_counters(connection: sqlite3.Connection, hours: dict[tuple[int, int], list[int]]) -> Iterator[str]:
    """The counters by hour, by day and in total: each is a sum of the hours counted."""
    expected: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (hour, status), counts in hours.items():
        for span, period in ((SPAN_HOUR, hour), (SPAN_DAY, hour // 24), (SPAN_ALL, 0)):
            tally = expected[span, period, status]
            for position, count in enumerate(counts):
                tally[position] += count
    rows = connection.execute("SELECT span, period, status, runs, timed, duration_ms, completed FROM period_tally")
    yield from _compared("period_tally", rows, expected, keys=3)


def _compared(
    table: str, rows: Iterable[tuple[int, ...]], expected: dict[Any, list[int]], *, keys: int
) -> Iterator[str]:
    """The counters that differ from the count, are missing, or count rows that do not exist."""
    rest = dict(expected)
    for row in rows:
        key, said = row[:keys], list(row[keys:])
        counted = rest.pop(key, [0] * len(said))
        if counted != said:
            yield f"The counter {key} of {table} is {said}; the rows add up to {counted}"
    for missing, counted in rest.items():
        yield f"The counter {missing} of {table} is missing; the rows add up to {counted}"


def _name_counters(connection: sqlite3.Connection) -> Iterator[str]:
    """The counters of names by hour and by day, one hour at a time in the order of an index."""
    walk = connection.execute(
        f"SELECT (effective_us - {MIN_US}) / {HOUR_US}, name_id, status FROM execution ORDER BY effective_us"
    )
    kept = groupby(
        connection.execute("SELECT hour, name_id, status, runs FROM name_hour_tally ORDER BY hour"), itemgetter(0)
    )
    days: dict[tuple[int, int, int], int] = defaultdict(int)
    counted = ((hour, "counted", Counter(row[1:] for row in rows)) for hour, rows in groupby(walk, itemgetter(0)))
    said = ((hour, "said", {row[1:3]: row[3] for row in rows}) for hour, rows in kept)
    for hour, sides in groupby(merge(counted, said, key=itemgetter(0)), itemgetter(0)):
        found: dict[str, dict[tuple[int, int], int]] = {side: tallies for _, side, tallies in sides}
        counts, told = found.get("counted", {}), found.get("said", {})
        for (name_id, status), runs in counts.items():
            days[name_id, hour // 24, status] += runs
        if counts != told:
            yield f"The counters of names in hour {hour} do not match the rows"
    for name_id, day, status, runs in connection.execute("SELECT name_id, day, status, runs FROM name_day_tally"):
        if days.pop((name_id, day, status), 0) != runs:
            yield f"The counter of name {name_id} on day {day} with status {status} does not match the rows"
    for name_id, day, status in days:
        yield f"The counter of name {name_id} on day {day} with status {status} is missing"


def _segments(connection: sqlite3.Connection) -> Iterator[str]:
    """Each blob of the bitmap index, compared with its rows."""
    kinds = {kind.number: kind for kind in KINDS.values()}
    for (key,) in connection.execute("SELECT key FROM segment ORDER BY key"):
        segment, number = divmod(key, SEGMENT_KINDS)
        kind = kinds.get(number)
        try:
            is_true = kind is not None and read_planes(connection, kind, segment) == make_planes(
                connection, kind, segment
            )
        except ValueError:
            is_true = False
        if not is_true:
            first = segment << SEGMENT_BITS
            last = first + (1 << SEGMENT_BITS) - 1
            yield f"The bitmaps {number} of the executions {first} to {last} do not match their rows"


def _sequences(connection: sqlite3.Connection) -> Iterator[str]:
    """A number must never be reused."""
    said = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    highest = {
        "job": """
            SELECT max(coalesce((SELECT max(number) FROM job), 0), coalesce((SELECT max(job_number) FROM job_name), 0))
        """,
        "execution": "SELECT coalesce(max(id), 0) FROM execution",
    }
    for table, question in highest.items():
        (number,) = connection.execute(question).fetchone()
        if said.get(table, 0) < number:
            yield f"The table {table} would reuse a number: its next one is {said.get(table, 0) + 1}"

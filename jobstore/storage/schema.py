"""The file format: tables, constraints, counters and indexes, and the upgrade of older files.

Every instant is an integer in microseconds since 1970 UTC. Flags are 0 or 1. JSON is text that SQL never parses.
Statuses are numbers: 0 FAILURE, 1 SUCCESS, 2 RUNNING, 3 PENDING, 4 TIMEOUT. Days and hours are counted from
0001-01-01T00:00:00Z, so they are never negative. ``docs/file-format.md`` describes the format for readers of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobstore.language.instants import MAX_US, MIN_US

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database

# ``JOBS`` in ASCII: field 68 of the SQLite header, which distinguishes a store from any other database.
APPLICATION_ID = 0x4A4F4253
# In ``PRAGMA user_version``; files with a higher one are refused.
SCHEMA_VERSION = 2

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

# In this order, the newest day and the totals, which every commit writes, share a page.
SPAN_DAY, SPAN_ALL, SPAN_HOUR = 0, 1, 2
SEGMENT_BITS, SEGMENT_KINDS = 16, 8
"""The low bits in which the ids of a segment of the bitmap index differ, and the keys reserved for its blobs."""
# Rows kept in the change log; a reader further behind reads its counters again.
CHANGES_KEPT = 16_384
# Changes between two trims of the log: each trim also writes its oldest page.
TRIMMED_EVERY = 64

# What Python's strip() removes, except control characters: by default, SQLite's trim() removes only spaces.
_BLANKS = "char(32,160,5760,8192,8193,8194,8195,8196,8197,8198,8199,8200,8201,8202,8232,8233,8239,8287,12288)"
_CONTROLS = "'*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'"
_INSTANT = f"BETWEEN {MIN_US} AND {MAX_US}"


def _words(column: str) -> str:
    """SQL condition: 1 to 200 characters, no NUL, no control characters."""
    return (
        f"length({column}) BETWEEN 1 AND 200 AND instr(CAST({column} AS BLOB), x'00') = 0"
        f" AND {column} NOT GLOB {_CONTROLS}"
    )


def _name(column: str) -> str:
    """SQL condition for job names: every valid name can be requested through every interface."""
    return (
        f"{_words(column)} AND {column} = trim({column}, {_BLANKS}) AND instr({column}, '/') = 0"
        f" AND {column} NOT IN ('.', '..', 'executions') AND {column} GLOB '*[^0-9]*'"
    )


TABLES = f"""
-- What the file knows of itself: timezone (IANA), unicode_version of the folded texts.
CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A job: the standing definition. AUTOINCREMENT, because a number is never given twice.
CREATE TABLE job (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number > 0),
    name TEXT NOT NULL UNIQUE CHECK ({_name("name")}),
    job_type TEXT NOT NULL CHECK ({_words("job_type")}),
    job_category TEXT NOT NULL CHECK ({_words("job_category")}),
    folded TEXT NOT NULL,               -- name, job_type, job_category, each folded, joined by line feeds
    description TEXT,
    schedule TEXT CHECK (length(schedule) BETWEEN 1 AND 200),  -- a cron expression, or
    interval_seconds INTEGER CHECK (interval_seconds BETWEEN 1 AND 3155760000),  -- an interval, or neither: external
    parameters TEXT,                    -- JSON
    timeout_seconds INTEGER CHECK (timeout_seconds > 0),
    max_instances INTEGER NOT NULL CHECK (max_instances > 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    anchor_us INTEGER CHECK (anchor_us {_INSTANT}),        -- the grid of an interval
    next_run_us INTEGER CHECK (next_run_us {_INSTANT}),    -- what the scheduler last said; external schedules only
    last_run_us INTEGER CHECK (last_run_us {_INSTANT}),    -- start of the latest started execution
    created_us INTEGER NOT NULL CHECK (created_us {_INSTANT}),
    updated_us INTEGER NOT NULL CHECK (updated_us {_INSTANT}),
    CHECK (schedule IS NULL OR interval_seconds IS NULL),
    CHECK (anchor_us IS NULL OR interval_seconds IS NOT NULL),
    CHECK (next_run_us IS NULL OR (schedule IS NULL AND interval_seconds IS NULL))
) STRICT;

-- Every name an execution was recorded under, once for each job: searches look here, never into executions.
-- job_number is no foreign key: the history of a removed job stays.
CREATE TABLE job_name (
    name_id INTEGER PRIMARY KEY,
    job_number INTEGER NOT NULL CHECK (job_number > 0),
    name TEXT NOT NULL CHECK ({_name("name")}),
    folded TEXT NOT NULL,
    UNIQUE (job_number, name)
) STRICT;

-- Worker names, once each.
CREATE TABLE worker (
    worker_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Parameters that executions share, as JSON, once each; others stand in the execution itself.
CREATE TABLE parameter_set (
    parameter_set_id INTEGER PRIMARY KEY,
    parameters TEXT NOT NULL UNIQUE
) STRICT;

-- One run of a job.
CREATE TABLE execution (
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    name_id INTEGER NOT NULL REFERENCES job_name (name_id),
    status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 4),
    effective_us INTEGER NOT NULL CHECK (effective_us {_INSTANT}),  -- the start if it started, else the creation
    started_by INTEGER NOT NULL CHECK (started_by >= 0),    -- 0: not started; while it runs: its process; else 1
    created_us INTEGER NOT NULL CHECK (created_us {_INSTANT}),
    completed_us INTEGER CHECK (completed_us {_INSTANT}),
    duration_ms INTEGER CHECK (abs(duration_ms) < 4398046511104),
    worker_id INTEGER REFERENCES worker (worker_id),
    parameter_set_id INTEGER REFERENCES parameter_set (parameter_set_id),
    parameters TEXT,                    -- JSON, where it is not in parameter_set
    trace_id TEXT,
    result TEXT,                        -- JSON
    error TEXT,
    enqueued_by INTEGER,                -- while it waits: its process; 0: closed as interrupted; else null
    CHECK (started_by OR effective_us = created_us)
) STRICT;

-- Which process enqueued or runs an open execution, so that one whose process is gone can be closed. Processes
-- without an open execution are deleted in time.
CREATE TABLE process (
    process_id INTEGER PRIMARY KEY CHECK (process_id > 1),
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid_namespace INTEGER NOT NULL,     -- inode, or 0 where the system does not tell
    pid INTEGER NOT NULL,
    process_started INTEGER NOT NULL,   -- clock ticks after boot, or 0 where the system does not tell
    UNIQUE (host, boot_id, pid_namespace, pid, process_started)
) STRICT;

-- Counters, kept by triggers in the writer's own transaction: a total is looked up, never counted.
-- All executions by status: in a day (span 0), in all (span 1, period 0), in an hour (span 2).
CREATE TABLE period_tally (
    span INTEGER NOT NULL,
    period INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    timed INTEGER NOT NULL CHECK (timed >= 0),  -- those that have a duration
    duration_ms INTEGER NOT NULL,               -- their sum
    completed INTEGER NOT NULL CHECK (completed >= 0),  -- those that have a completion
    PRIMARY KEY (span, period, status)
) STRICT, WITHOUT ROWID;

-- The executions of a name by status.
CREATE TABLE name_tally (
    name_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    timed INTEGER NOT NULL CHECK (timed >= 0),
    duration_ms INTEGER NOT NULL,
    PRIMARY KEY (name_id, status)
) STRICT, WITHOUT ROWID;

-- The executions of a name by day and status; name first, since one name's days are read together.
CREATE TABLE name_day_tally (
    name_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    PRIMARY KEY (name_id, day, status)
) STRICT, WITHOUT ROWID;

-- The executions of a name by hour and status; hour first, since one day's hours are read for many names.
CREATE TABLE name_hour_tally (
    hour INTEGER NOT NULL,
    name_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    PRIMARY KEY (hour, name_id, status)
) STRICT, WITHOUT ROWID;

-- What changed, newest {CHANGES_KEPT}: readers keep what they remember exact by reading the rows they have not seen.
-- Of an execution: its name, status, hour, the difference and its id; of a job: its number.
-- The newest is never removed, so a seq is not given twice, without a page that says which was the last.
CREATE TABLE change (
    seq INTEGER PRIMARY KEY,
    name_id INTEGER,
    status INTEGER,
    hour INTEGER,
    runs INTEGER,
    job_number INTEGER,
    execution_id INTEGER
) STRICT;

-- The bitmap index, of 65,536 neighbouring ids in each segment; `segments` says what is in the blobs.
-- key: segment * 8 + kind. A cache: it may be missing, and is dropped with the first change of one of its executions.
CREATE TABLE segment (
    key INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
"""

# A partial index serves only a query that contains its condition, word for word.
IS_NO_SUCCESS = "status <> 1"

IS_NEVER_STARTED = "started_by = 0 AND status IN (0, 1, 4)"
"""Finished without a start: missed, refused or revoked."""

EXECUTION_INDEXES = f"""
-- serves: newest executions, windows, dense name searches (covering: a filter reads no row)
CREATE INDEX execution_started ON execution (effective_us, id, name_id, status);
-- serves: newest executions of a job, of few names, with or without a status; durations of a job
CREATE INDEX execution_name_started ON execution (name_id, status, effective_us, id, duration_ms);
-- serves: newest executions with a status; most are SUCCESS, and the index above is filtered for them
CREATE INDEX execution_status_started ON execution (status, effective_us, id, name_id) WHERE {IS_NO_SUCCESS};
-- serves: order by duration_ms, percentiles of all
CREATE INDEX execution_duration ON execution (duration_ms, id, name_id, status) WHERE duration_ms IS NOT NULL;
-- serves: order by completed_at; like the one before, a start does not write it
CREATE INDEX execution_completed ON execution (completed_us, id, name_id, status) WHERE completed_us IS NOT NULL;
-- serves: order by created_at
CREATE INDEX execution_created ON execution (created_us);
-- serves: the runs that statistics leave out, of one job or all; few, and no run that starts writes it
CREATE INDEX execution_never_started ON execution (name_id, status, effective_us, duration_ms, started_by)
    WHERE {IS_NEVER_STARTED};
-- serves: trace_id= and order by trace_id
CREATE INDEX execution_trace ON execution (trace_id) WHERE trace_id IS NOT NULL;
"""


def _hour(row: str) -> str:
    return f"({row}.effective_us - {MIN_US}) / {HOUR_US}"


def _day(row: str) -> str:
    return f"({row}.effective_us - {MIN_US}) / {DAY_US}"


def _counted(*, out: str | None = None, into: str | None = None) -> str:
    """Trigger SQL that counts a row out of the counters, into them, or both.

    A moved row takes one statement for each table, not two. A counter that reaches zero is deleted; otherwise pruning
    would leave all of them behind.
    """
    steps = [(row, runs) for row, runs in ((out, 0), (into, 1)) if row is not None]
    # A moved row is two changes even where no counter differs (a worker, a trace): readers' bitmaps need its id.
    changes = ", ".join(f"({row}.name_id, {row}.status, {_hour(row)}, {2 * runs - 1}, {row}.id)" for row, runs in steps)
    return f"""
    {_added("period_tally", [values for row, runs in steps for values in _in_periods(row, runs)], _PERIOD_SUMS)}
    {_added("name_tally", [f"({row}.name_id, {_tallied(row, runs)})" for row, runs in steps], _NAME_SUMS)}
    {_added("name_day_tally", [f"({row}.name_id, {_day(row)}, {row}.status, {runs})" for row, runs in steps], _RUNS)}
    {_added("name_hour_tally", [f"({_hour(row)}, {row}.name_id, {row}.status, {runs})" for row, runs in steps], _RUNS)}
    {"" if out is None else _emptied(out)}
    INSERT INTO change (name_id, status, hour, runs, execution_id) VALUES {changes};
    {_unsegmented(out or into or "")}
"""


# In an inserted row, ``runs`` is 1 to count in and 0 to count out: -1 would violate a CHECK before the upsert.
_SIGN = "(2 * excluded.runs - 1)"
_RUNS = f"runs = runs + {_SIGN}"
_NAME_SUMS = (
    f"{_RUNS}, timed = timed + {_SIGN} * excluded.timed, duration_ms = duration_ms + {_SIGN} * excluded.duration_ms"
)
_PERIOD_SUMS = f"{_NAME_SUMS}, completed = completed + {_SIGN} * excluded.completed"


def _added(table: str, rows: list[str], sums: str) -> str:
    return f"INSERT INTO {table} VALUES {', '.join(rows)} ON CONFLICT DO UPDATE SET {sums};"


def _tallied(row: str, runs: int) -> str:
    return f"{row}.status, {runs}, ({row}.duration_ms IS NOT NULL), coalesce({row}.duration_ms, 0)"


def _in_periods(row: str, runs: int) -> list[str]:
    """The values that an execution adds to its day, to the total and to its hour."""
    values = f"{_tallied(row, runs)}, ({row}.completed_us IS NOT NULL)"
    periods = ((SPAN_DAY, _day(row)), (SPAN_ALL, 0), (SPAN_HOUR, _hour(row)))
    return [f"({span}, {period}, {values})" for span, period in periods]


def _emptied(row: str) -> str:
    """SQL that deletes the counters of an execution that are zero now."""
    # Three terms joined by OR take three look-ups; (span, period) IN (VALUES ...) would scan the table.
    periods = f"""status = {row}.status AND ((span = {SPAN_DAY} AND period = {_day(row)})
        OR (span = {SPAN_ALL} AND period = 0) OR (span = {SPAN_HOUR} AND period = {_hour(row)}))"""
    name = f"name_id = {row}.name_id AND status = {row}.status"
    return f"""
    DELETE FROM period_tally WHERE {periods} AND runs = 0;
    DELETE FROM name_tally WHERE {name} AND runs = 0;
    DELETE FROM name_day_tally WHERE {name} AND day = {_day(row)} AND runs = 0;
    DELETE FROM name_hour_tally WHERE hour = {_hour(row)} AND {name} AND runs = 0;"""


def _unsegmented(row: str) -> str:
    """SQL that drops the segment of an execution, which is out of date now."""
    first = f"({row}.id >> {SEGMENT_BITS}) * {SEGMENT_KINDS}"
    return f"DELETE FROM segment WHERE key BETWEEN {first} AND {first} + {SEGMENT_KINDS - 1};"


_SUMMED = "sum(runs), sum(timed), sum(duration_ms), sum(completed)"

COUNTERS = f"""
INSERT INTO name_hour_tally
    SELECT {_hour("execution")}, name_id, status, count(*) FROM execution GROUP BY 1, 2, 3;
INSERT INTO name_day_tally
    SELECT name_id, hour / 24, status, sum(runs) FROM name_hour_tally GROUP BY 1, 2, 3;
INSERT INTO period_tally
    SELECT {SPAN_HOUR}, {_hour("execution")}, status, count(*), count(duration_ms), coalesce(sum(duration_ms), 0),
        count(completed_us)
    FROM execution GROUP BY 2, 3;
INSERT INTO period_tally
    SELECT {SPAN_DAY}, period / 24, status, {_SUMMED} FROM period_tally WHERE span = {SPAN_HOUR} GROUP BY 2, 3;
INSERT INTO period_tally
    SELECT {SPAN_ALL}, 0, status, {_SUMMED} FROM period_tally WHERE span = {SPAN_HOUR} GROUP BY 3;
-- The plus signs keep it from an index in this order, from which every row would be looked up.
INSERT INTO name_tally
    SELECT name_id, status, count(*), count(duration_ms), coalesce(sum(duration_ms), 0)
    FROM execution GROUP BY +name_id, +status;
"""
"""Fills empty counters from the executions; used after a bulk load, when the indexes exist."""

TRIGGERS = f"""
-- The next seq is the last one and 1, so without the last one readers would take new changes for old ones.
CREATE TRIGGER change_kept BEFORE DELETE ON change WHEN OLD.seq = (SELECT max(seq) FROM change) BEGIN
    SELECT RAISE(ABORT, 'the newest change stays');
END;
CREATE TRIGGER change_trimmed AFTER INSERT ON change WHEN NEW.seq % {TRIMMED_EVERY} = 0 BEGIN
    DELETE FROM change WHERE seq <= NEW.seq - {CHANGES_KEPT};
END;

-- INSERT OR REPLACE would delete without firing the delete triggers, and the counters would lie.
CREATE TRIGGER execution_not_replaced BEFORE INSERT ON execution
WHEN EXISTS (SELECT 1 FROM execution WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'this execution is there already; update it');
END;
CREATE TRIGGER job_not_replaced BEFORE INSERT ON job
WHEN EXISTS (SELECT 1 FROM job WHERE number = NEW.number OR name = NEW.name) BEGIN
    SELECT RAISE(ABORT, 'this job is there already; update it');
END;
CREATE TRIGGER job_name_kept BEFORE UPDATE OF name_id, job_number, name ON job_name BEGIN
    SELECT RAISE(ABORT, 'the name of past executions does not change');
END;
-- Folding again (another Unicode version) changes what searches find: told to readers as a name without a count.
CREATE TRIGGER job_name_folded AFTER UPDATE OF folded ON job_name BEGIN
    INSERT INTO change (name_id) VALUES (NEW.name_id);
END;
CREATE TRIGGER execution_id_kept BEFORE UPDATE OF id ON execution WHEN NEW.id <> OLD.id BEGIN
    SELECT RAISE(ABORT, 'the id of an execution does not change');
END;

CREATE TRIGGER execution_counted_in AFTER INSERT ON execution BEGIN{_counted(into="NEW")}END;
CREATE TRIGGER execution_counted_out AFTER DELETE ON execution BEGIN{_counted(out="OLD")}END;
CREATE TRIGGER execution_counted_again
AFTER UPDATE OF name_id, status, effective_us, duration_ms, completed_us, created_us, worker_id, trace_id ON execution
WHEN OLD.name_id <> NEW.name_id OR OLD.status <> NEW.status OR OLD.effective_us <> NEW.effective_us
    OR OLD.duration_ms IS NOT NEW.duration_ms OR OLD.completed_us IS NOT NEW.completed_us
    OR OLD.created_us <> NEW.created_us OR OLD.worker_id IS NOT NEW.worker_id OR OLD.trace_id IS NOT NEW.trace_id
BEGIN{_counted(out="OLD", into="NEW")}END;

CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    INSERT INTO change (job_number) VALUES (NEW.number);
END;
CREATE TRIGGER job_removed AFTER DELETE ON job BEGIN
    INSERT INTO change (job_number) VALUES (OLD.number);
END;
-- What readers remember of a job is its definition; a start moves last_run_us and updated_us alone,
-- and matters to an interval that has no grid of its own.
CREATE TRIGGER job_changed AFTER UPDATE OF number, name, job_type, job_category, folded, description, schedule,
    interval_seconds, timeout_seconds, max_instances, enabled, anchor_us, next_run_us, created_us ON job
BEGIN
    INSERT INTO change (job_number) SELECT OLD.number UNION SELECT NEW.number;
END;
CREATE TRIGGER job_interval_moved AFTER UPDATE OF last_run_us ON job
WHEN NEW.interval_seconds IS NOT NULL AND NEW.anchor_us IS NULL AND OLD.last_run_us IS NOT NEW.last_run_us
BEGIN
    INSERT INTO change (job_number) VALUES (NEW.number);
END;
"""


def statements(script: str) -> list[str]:
    """The statements of a script, one by one.

    ``executescript`` would commit the open transaction, and a new file is made in a single one.
    """
    import sqlite3  # needed only for complete_statement

    found, begun = [], ""
    for line in script.strip().splitlines(keepends=True):
        begun += line
        # Line by line: a trigger contains semicolons, and only SQLite's own scanner knows where it ends.
        if sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    return found


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Run a script inside the open transaction."""
    for statement in statements(script):
        connection.execute(statement)


def create_tables(connection: sqlite3.Connection) -> None:
    """Create only the tables, for a bulk load that builds the rest once at the end."""
    run_script(connection, TABLES)


def finish_tables(connection: sqlite3.Connection, *, counted: bool) -> None:
    """Create indexes, counters (from the rows if `counted`) and triggers over filled tables."""
    # In this order: the counters are summed by the indexes, and triggers would count every row again.
    run_script(connection, EXECUTION_INDEXES)
    if counted:
        run_script(connection, COUNTERS)
    run_script(connection, TRIGGERS)


def apply_migrations(database: Database) -> None:
    """Bring a file to this version's schema; do nothing if it is current.

    The caller has begun a transaction (IMMEDIATE), and sqlite-utils' own steps nest in it. So two processes that open a
    new file at once, or a crash, leave either the old schema or the new one.
    """
    from sqlite_utils import Migrations  # heavy, and only writers come here

    steps = Migrations("jobstore")

    @steps(name="2_second_format")
    def _second_format(db: Database) -> None:
        if db["execution"].exists():
            _upgrade_first_format(db.conn)
        else:
            create_tables(db.conn)
            finish_tables(db.conn, counted=False)

    steps.apply(database)
    # In the same transaction as the tables: a file marked as a store always is a complete one.
    database.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _upgrade_first_format(connection: sqlite3.Connection) -> None:
    """Upgrade format 1, which had other indexes and triggers, digests in place of segments, and bounds in counters."""
    # Only what format 1 created on these tables; automatic indexes have no SQL and stay.
    made = connection.execute(
        """
        SELECT type, name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL
        AND tbl_name IN ('execution', 'job', 'job_name', 'change')
        """
    ).fetchall()
    for kind, name in made:
        connection.execute(f'DROP {kind} "{name}"')
    for column in ("id_low", "id_high", "created_low", "created_high", "completed_low", "completed_high"):
        connection.execute(f"ALTER TABLE period_tally DROP COLUMN {column}")
    connection.execute("ALTER TABLE execution ADD COLUMN enqueued_by INTEGER")
    # Its UNIQUE constraint changed, which SQLite can alter only by a new table.
    connection.execute("ALTER TABLE process RENAME TO process_1")
    connection.execute("DROP TABLE digest")
    connection.execute("DELETE FROM setting WHERE key IN ('trace_prefix', 'trace_digits')")
    for statement in statements(TABLES):
        if "CREATE TABLE segment" in statement or "CREATE TABLE process" in statement:
            connection.execute(statement)
    connection.execute(
        """
        INSERT INTO process (process_id, host, boot_id, pid_namespace, pid, process_started)
        SELECT process_id, host, boot_id, 0, pid, process_started FROM process_1
        """
    )
    connection.execute("DROP TABLE process_1")
    finish_tables(connection, counted=False)

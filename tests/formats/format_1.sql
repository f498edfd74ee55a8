-- File format 1, as jobstore wrote it until November 2026: what an upgrade begins with.

CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);

CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number > 0),
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200 AND instr(CAST(name AS BLOB), x'00') = 0 AND name NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*' AND name = trim(name, char(32,160,5760,8192,8193,8194,8195,8196,8197,8198,8199,8200,8201,8202,8232,8233,8239,8287,12288)) AND instr(name, '/') = 0 AND name NOT IN ('.', '..', 'executions') AND name GLOB '*[^0-9]*'),
    job_type TEXT NOT NULL CHECK (length(job_type) BETWEEN 1 AND 200 AND instr(CAST(job_type AS BLOB), x'00') = 0 AND job_type NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    job_category TEXT NOT NULL CHECK (length(job_category) BETWEEN 1 AND 200 AND instr(CAST(job_category AS BLOB), x'00') = 0 AND job_category NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    folded TEXT NOT NULL,               -- name, job_type, job_category, each folded, joined by line feeds
    description TEXT,
    schedule TEXT CHECK (length(schedule) BETWEEN 1 AND 200),  -- a cron expression, or
    interval_seconds INTEGER CHECK (interval_seconds BETWEEN 1 AND 3155760000),  -- an interval, or neither: external
    parameters TEXT,                    -- JSON
    timeout_seconds INTEGER CHECK (timeout_seconds > 0),
    max_instances INTEGER NOT NULL CHECK (max_instances > 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    anchor_us INTEGER CHECK (anchor_us BETWEEN -62135596800000000 AND 253402300799999999),        -- the grid of an interval
    next_run_us INTEGER CHECK (next_run_us BETWEEN -62135596800000000 AND 253402300799999999),    -- what the scheduler last said; external schedules only
    last_run_us INTEGER CHECK (last_run_us BETWEEN -62135596800000000 AND 253402300799999999),    -- start of the latest started execution
    created_us INTEGER NOT NULL CHECK (created_us BETWEEN -62135596800000000 AND 253402300799999999),
    updated_us INTEGER NOT NULL CHECK (updated_us BETWEEN -62135596800000000 AND 253402300799999999),
    CHECK (schedule IS NULL OR interval_seconds IS NULL),
    CHECK (anchor_us IS NULL OR interval_seconds IS NOT NULL),
    CHECK (next_run_us IS NULL OR (schedule IS NULL AND interval_seconds IS NULL))
) STRICT;

CREATE TABLE job_name (
    name_id INTEGER PRIMARY KEY,
    job_number INTEGER NOT NULL CHECK (job_number > 0),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200 AND instr(CAST(name AS BLOB), x'00') = 0 AND name NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*' AND name = trim(name, char(32,160,5760,8192,8193,8194,8195,8196,8197,8198,8199,8200,8201,8202,8232,8233,8239,8287,12288)) AND instr(name, '/') = 0 AND name NOT IN ('.', '..', 'executions') AND name GLOB '*[^0-9]*'),
    folded TEXT NOT NULL,
    UNIQUE (job_number, name)
) STRICT;

CREATE TABLE worker (
    worker_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE parameter_set (
    parameter_set_id INTEGER PRIMARY KEY,
    parameters TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE execution (
    id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    name_id INTEGER NOT NULL REFERENCES job_name (name_id),
    status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 4),
    effective_us INTEGER NOT NULL CHECK (effective_us BETWEEN -62135596800000000 AND 253402300799999999),  -- the start if it started, else the creation
    started_by INTEGER NOT NULL CHECK (started_by >= 0),    -- 0: not started; while it runs: its process; else 1
    created_us INTEGER NOT NULL CHECK (created_us BETWEEN -62135596800000000 AND 253402300799999999),
    completed_us INTEGER CHECK (completed_us BETWEEN -62135596800000000 AND 253402300799999999),
    duration_ms INTEGER CHECK (abs(duration_ms) < 4398046511104),
    worker_id INTEGER REFERENCES worker (worker_id),
    parameter_set_id INTEGER REFERENCES parameter_set (parameter_set_id),
    parameters TEXT,                    -- JSON, where it is not in parameter_set
    trace_id TEXT,
    result TEXT,                        -- JSON
    error TEXT,
    CHECK (started_by OR effective_us = created_us)
) STRICT;

CREATE TABLE process (
    process_id INTEGER PRIMARY KEY CHECK (process_id > 1),
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started INTEGER NOT NULL,   -- clock ticks after boot, or 0 where the system does not tell
    UNIQUE (host, boot_id, pid, process_started)
) STRICT;

CREATE TABLE period_tally (
    span INTEGER NOT NULL,
    period INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    timed INTEGER NOT NULL CHECK (timed >= 0),  -- those that have a duration
    duration_ms INTEGER NOT NULL,               -- their sum
    completed INTEGER NOT NULL CHECK (completed >= 0),  -- those that have a completion
    id_low INTEGER NOT NULL,
    id_high INTEGER NOT NULL,
    created_low INTEGER NOT NULL,
    created_high INTEGER NOT NULL,
    completed_low INTEGER,
    completed_high INTEGER,
    PRIMARY KEY (span, period, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE name_tally (
    name_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    timed INTEGER NOT NULL CHECK (timed >= 0),
    duration_ms INTEGER NOT NULL,
    PRIMARY KEY (name_id, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE name_day_tally (
    name_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    PRIMARY KEY (name_id, day, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE name_hour_tally (
    hour INTEGER NOT NULL,
    name_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    runs INTEGER NOT NULL CHECK (runs >= 0),
    PRIMARY KEY (hour, name_id, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE change (
    seq INTEGER PRIMARY KEY,
    name_id INTEGER,
    status INTEGER,
    hour INTEGER,
    runs INTEGER,
    job_number INTEGER,
    execution_id INTEGER
) STRICT;

CREATE TABLE digest (
    key INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");

CREATE INDEX execution_started ON execution (effective_us, id, name_id, status);

CREATE INDEX execution_name_started ON execution (name_id, status, effective_us);

CREATE INDEX execution_status_started ON execution (status, effective_us);

CREATE INDEX execution_duration ON execution (duration_ms, id, name_id, status) WHERE status NOT IN (2, 3) OR duration_ms IS NOT NULL;

CREATE INDEX execution_name_duration ON execution (name_id, duration_ms) WHERE status NOT IN (2, 3) OR duration_ms IS NOT NULL;

CREATE INDEX execution_completed ON execution (completed_us) WHERE status NOT IN (2, 3) OR completed_us IS NOT NULL;

CREATE INDEX execution_created ON execution (created_us);

CREATE INDEX execution_name ON execution (name_id, status);

CREATE INDEX execution_status ON execution (status) WHERE status <> 1;

CREATE INDEX execution_worker ON execution (worker_id);

CREATE INDEX execution_trace ON execution (trace_id);

CREATE INDEX job_last_run ON job (last_run_us);

CREATE INDEX job_updated ON job (updated_us);

CREATE TRIGGER change_kept BEFORE DELETE ON change WHEN OLD.seq = (SELECT max(seq) FROM change) BEGIN
    SELECT RAISE(ABORT, 'the newest change stays');
END;

CREATE TRIGGER change_trimmed AFTER INSERT ON change WHEN NEW.seq % 64 = 0 BEGIN
    DELETE FROM change WHERE seq <= NEW.seq - 16384;
END;

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

CREATE TRIGGER job_name_folded AFTER UPDATE OF folded ON job_name BEGIN
    INSERT INTO change (name_id) VALUES (NEW.name_id);
END;

CREATE TRIGGER execution_id_kept BEFORE UPDATE OF id ON execution WHEN NEW.id <> OLD.id BEGIN
    SELECT RAISE(ABORT, 'the id of an execution does not change');
END;

CREATE TRIGGER execution_counted_in AFTER INSERT ON execution BEGIN
    INSERT INTO period_tally VALUES (0, (NEW.effective_us - -62135596800000000) / 86400000000, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us), (1, 0, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us), (2, (NEW.effective_us - -62135596800000000) / 3600000000, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms, completed = completed + (2 * excluded.runs - 1) * excluded.completed,
        id_low = min(id_low, excluded.id_low), id_high = max(id_high, excluded.id_high),
        created_low = min(created_low, excluded.created_low),
        created_high = max(created_high, excluded.created_high),
        completed_low = coalesce(min(completed_low, excluded.completed_low), completed_low, excluded.completed_low),
        completed_high =
            coalesce(max(completed_high, excluded.completed_high), completed_high, excluded.completed_high);
    INSERT INTO name_tally VALUES (NEW.name_id, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0)) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms;
    INSERT INTO name_day_tally VALUES (NEW.name_id, (NEW.effective_us - -62135596800000000) / 86400000000, NEW.status, 1) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    INSERT INTO name_hour_tally VALUES ((NEW.effective_us - -62135596800000000) / 3600000000, NEW.name_id, NEW.status, 1) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    
    INSERT INTO change (name_id, status, hour, runs, execution_id) VALUES (NEW.name_id, NEW.status, (NEW.effective_us - -62135596800000000) / 3600000000, 1, NEW.id);
    DELETE FROM digest WHERE key BETWEEN (NEW.id >> 15) * 8 AND (NEW.id >> 15) * 8 + 7;
END;

CREATE TRIGGER execution_counted_out AFTER DELETE ON execution BEGIN
    INSERT INTO period_tally VALUES (0, (OLD.effective_us - -62135596800000000) / 86400000000, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us), (1, 0, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us), (2, (OLD.effective_us - -62135596800000000) / 3600000000, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms, completed = completed + (2 * excluded.runs - 1) * excluded.completed,
        id_low = min(id_low, excluded.id_low), id_high = max(id_high, excluded.id_high),
        created_low = min(created_low, excluded.created_low),
        created_high = max(created_high, excluded.created_high),
        completed_low = coalesce(min(completed_low, excluded.completed_low), completed_low, excluded.completed_low),
        completed_high =
            coalesce(max(completed_high, excluded.completed_high), completed_high, excluded.completed_high);
    INSERT INTO name_tally VALUES (OLD.name_id, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0)) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms;
    INSERT INTO name_day_tally VALUES (OLD.name_id, (OLD.effective_us - -62135596800000000) / 86400000000, OLD.status, 0) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    INSERT INTO name_hour_tally VALUES ((OLD.effective_us - -62135596800000000) / 3600000000, OLD.name_id, OLD.status, 0) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    
    DELETE FROM period_tally WHERE status = OLD.status AND ((span = 0 AND period = (OLD.effective_us - -62135596800000000) / 86400000000)
        OR (span = 1 AND period = 0) OR (span = 2 AND period = (OLD.effective_us - -62135596800000000) / 3600000000)) AND runs = 0;
    DELETE FROM name_tally WHERE name_id = OLD.name_id AND status = OLD.status AND runs = 0;
    DELETE FROM name_day_tally WHERE name_id = OLD.name_id AND status = OLD.status AND day = (OLD.effective_us - -62135596800000000) / 86400000000 AND runs = 0;
    DELETE FROM name_hour_tally WHERE hour = (OLD.effective_us - -62135596800000000) / 3600000000 AND name_id = OLD.name_id AND status = OLD.status AND runs = 0;
    INSERT INTO change (name_id, status, hour, runs, execution_id) VALUES (OLD.name_id, OLD.status, (OLD.effective_us - -62135596800000000) / 3600000000, -1, OLD.id);
    DELETE FROM digest WHERE key BETWEEN (OLD.id >> 15) * 8 AND (OLD.id >> 15) * 8 + 7;
END;

CREATE TRIGGER execution_counted_again
AFTER UPDATE OF name_id, status, effective_us, duration_ms, completed_us, created_us, worker_id, trace_id ON execution
WHEN OLD.name_id <> NEW.name_id OR OLD.status <> NEW.status OR OLD.effective_us <> NEW.effective_us
    OR OLD.duration_ms IS NOT NEW.duration_ms OR OLD.completed_us IS NOT NEW.completed_us
    OR OLD.created_us <> NEW.created_us OR OLD.worker_id IS NOT NEW.worker_id OR OLD.trace_id IS NOT NEW.trace_id
BEGIN
    INSERT INTO period_tally VALUES (0, (OLD.effective_us - -62135596800000000) / 86400000000, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us), (1, 0, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us), (2, (OLD.effective_us - -62135596800000000) / 3600000000, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0), (OLD.completed_us IS NOT NULL), OLD.id, OLD.id, OLD.created_us, OLD.created_us, OLD.completed_us, OLD.completed_us), (0, (NEW.effective_us - -62135596800000000) / 86400000000, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us), (1, 0, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us), (2, (NEW.effective_us - -62135596800000000) / 3600000000, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0), (NEW.completed_us IS NOT NULL), NEW.id, NEW.id, NEW.created_us, NEW.created_us, NEW.completed_us, NEW.completed_us) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms, completed = completed + (2 * excluded.runs - 1) * excluded.completed,
        id_low = min(id_low, excluded.id_low), id_high = max(id_high, excluded.id_high),
        created_low = min(created_low, excluded.created_low),
        created_high = max(created_high, excluded.created_high),
        completed_low = coalesce(min(completed_low, excluded.completed_low), completed_low, excluded.completed_low),
        completed_high =
            coalesce(max(completed_high, excluded.completed_high), completed_high, excluded.completed_high);
    INSERT INTO name_tally VALUES (OLD.name_id, OLD.status, 0, (OLD.duration_ms IS NOT NULL), coalesce(OLD.duration_ms, 0)), (NEW.name_id, NEW.status, 1, (NEW.duration_ms IS NOT NULL), coalesce(NEW.duration_ms, 0)) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1), timed = timed + (2 * excluded.runs - 1) * excluded.timed, duration_ms = duration_ms + (2 * excluded.runs - 1) * excluded.duration_ms;
    INSERT INTO name_day_tally VALUES (OLD.name_id, (OLD.effective_us - -62135596800000000) / 86400000000, OLD.status, 0), (NEW.name_id, (NEW.effective_us - -62135596800000000) / 86400000000, NEW.status, 1) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    INSERT INTO name_hour_tally VALUES ((OLD.effective_us - -62135596800000000) / 3600000000, OLD.name_id, OLD.status, 0), ((NEW.effective_us - -62135596800000000) / 3600000000, NEW.name_id, NEW.status, 1) ON CONFLICT DO UPDATE SET runs = runs + (2 * excluded.runs - 1);
    
    DELETE FROM period_tally WHERE status = OLD.status AND ((span = 0 AND period = (OLD.effective_us - -62135596800000000) / 86400000000)
        OR (span = 1 AND period = 0) OR (span = 2 AND period = (OLD.effective_us - -62135596800000000) / 3600000000)) AND runs = 0;
    DELETE FROM name_tally WHERE name_id = OLD.name_id AND status = OLD.status AND runs = 0;
    DELETE FROM name_day_tally WHERE name_id = OLD.name_id AND status = OLD.status AND day = (OLD.effective_us - -62135596800000000) / 86400000000 AND runs = 0;
    DELETE FROM name_hour_tally WHERE hour = (OLD.effective_us - -62135596800000000) / 3600000000 AND name_id = OLD.name_id AND status = OLD.status AND runs = 0;
    INSERT INTO change (name_id, status, hour, runs, execution_id) VALUES (OLD.name_id, OLD.status, (OLD.effective_us - -62135596800000000) / 3600000000, -1, OLD.id), (NEW.name_id, NEW.status, (NEW.effective_us - -62135596800000000) / 3600000000, 1, NEW.id);
    DELETE FROM digest WHERE key BETWEEN (OLD.id >> 15) * 8 AND (OLD.id >> 15) * 8 + 7;
END;

CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    INSERT INTO change (job_number) VALUES (NEW.number);
END;

CREATE TRIGGER job_removed AFTER DELETE ON job BEGIN
    INSERT INTO change (job_number) VALUES (OLD.number);
END;

CREATE TRIGGER job_changed AFTER UPDATE OF number, name, job_type, job_category, folded, description, schedule,
    interval_seconds, timeout_seconds, max_instances, enabled, anchor_us, next_run_us, created_us ON job
BEGIN
    INSERT INTO change (job_number) VALUES (NEW.number);
END;

CREATE TRIGGER job_interval_moved AFTER UPDATE OF last_run_us ON job
WHEN NEW.interval_seconds IS NOT NULL AND NEW.anchor_us IS NULL AND OLD.last_run_us IS NOT NEW.last_run_us
BEGIN
    INSERT INTO change (job_number) VALUES (NEW.number);
END;

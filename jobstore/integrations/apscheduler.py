"""Mirror APScheduler 3.11: record its jobs and each of their runs as they happen.

>>> from apscheduler.schedulers.background import BackgroundScheduler
>>> import jobstore, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> from jobstore.integrations import apscheduler
>>> recorder = jobstore.Recorder(f"{folder.name}/jobs.db")
>>> scheduler = BackgroundScheduler(timezone="UTC")
>>> mirror = apscheduler.mirror(scheduler, recorder)
>>> _ = scheduler.add_job(print, "cron", hour=3, id="nightly")
>>> mirror.close()
>>> recorder.close()
>>> folder.cleanup()

``docs/integrations.md`` says what is recorded and what APScheduler does not reveal. APScheduler's own *job stores*
hold its schedules; they have nothing to do with this package.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import weakref
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from jobstore.language.extras import missing

try:
    from apscheduler import events
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.schedulers.base import BaseScheduler
    from apscheduler.triggers.date import DateTrigger

    from jobstore.integrations.apscheduler_runs import Runs, attach, copy_of, detach
    from jobstore.integrations.apscheduler_triggers import translate, trigger_words
except ImportError as error:  # not installed, or APScheduler 4
    raise missing("jobstore.integrations.apscheduler", "apscheduler") from error

from jobstore.integrations.journal import Journal, is_passing, unseen
from jobstore.integrations.names import job_name, worker_id
from jobstore.integrations.outcomes import bounded
from jobstore.integrations.secrets import call_arguments as masked_arguments
from jobstore.language.errors import (
    Conflict,
    InvalidParameter,
    InvalidRecord,
    InvalidSchedule,
    JobStoreError,
    NotFound,
    shown,
)
from jobstore.store import open as open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobstore.recording.recorder import Recorder

    Word = str | Callable[[Any], str]

FLUSH_SECONDS = 10.0
SHUTDOWN_SECONDS = 2.0
"""How long the scheduler's shutdown waits for the last writes; the rest is written when the program ends."""
LOOK_SECONDS = 10.0
"""The interval at which a job store that other schedulers may share is checked for changed jobs."""
LOOK_SHARE = 50
"""How many times as long as a look takes is the shortest pause after it: large job stores are read less often."""
RETIRED_REMEMBERED = 1_000
"""The removed jobs that are disabled again in a restored store."""
_NAME_CHARACTERS, _WORDS_CHARACTERS, _DESCRIPTION_CHARACTERS = 80, 100, 300
_MADE_UP_ID = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger("jobstore.integrations")
_mirrored: weakref.WeakSet[Any] = weakref.WeakSet()


def mirror(
    scheduler: Any,
    recorder: Recorder,
    *,
    category: Word = "scheduled",
    job_type: Word = "apscheduler",
    parameters: Callable[[Any], object] | None = None,
    removed: Literal["disable", "remove"] = "disable",
) -> Mirror:
    """Record a scheduler's jobs and all their runs from now on, whether it is already running or not.

    The mirror never raises into the scheduler and never makes it wait. What cannot be recorded is logged to
    ``jobstore.integrations``.

    Args:
        scheduler: any APScheduler 3 scheduler.
        recorder: the recorder of the store. Cron jobs become cron jobs if the store has the scheduler's time zone
            (``Recorder(path, timezone="Europe/Berlin")``), else external ones.
        category: each job's category, or a function from the APScheduler job to it.
        job_type: each job's type, or a function from the APScheduler job to it.
        parameters: a function from the APScheduler job to the JSON value to record as its parameters. Default: the
            job's arguments, with likely secrets masked.
        removed: what to do with a job that the scheduler removes, such as one whose only run is over: disable it, or
            remove it from the store. Its executions stay in both cases.

    Raises:
        Conflict: the scheduler is already mirrored.
        InvalidParameter: `scheduler` is no scheduler of APScheduler 3, or `removed` neither ``"disable"`` nor
            ``"remove"``.
        StoreError: the store cannot be read.
    """
    if removed not in ("disable", "remove"):
        raise InvalidParameter(f"removed must be 'disable' or 'remove'; received {shown(removed)}")
    if not isinstance(scheduler, BaseScheduler):
        raise InvalidParameter(f"scheduler must be a scheduler of APScheduler 3; received {shown(type(scheduler))}")
    if scheduler in _mirrored:
        raise Conflict("This scheduler is already mirrored; close that mirror first")
    with open_store(recorder.path) as store:
        zone = store.timezone
    describe = _Description(zone, category, job_type, parameters or call_arguments)
    made = Mirror(scheduler, Journal(recorder), describe, removes=removed == "remove")
    _mirrored.add(scheduler)
    return made


def call_arguments(job: Any) -> object:
    """Return a job's arguments with secrets masked: keywords by name, positional ones under ``args``; None if none."""
    return masked_arguments(job.func, job.args, job.kwargs)


class _Description:
    """Translates APScheduler jobs into jobs of the store."""

    def __init__(self, zone: str, category: Word, job_type: Word, parameters: Callable[[Any], object]) -> None:
        self._zone, self._category, self._job_type, self._parameters = zone, category, job_type, parameters

    def fields(self, job: Any, now: datetime) -> dict[str, Any]:
        """Return the arguments of `Recorder.save_job`, except for the name."""
        next_run_time = getattr(job, "next_run_time", None)
        translation = translate(job.trigger, self._zone, now=now, next_run_time=next_run_time)
        description = str(job.name)
        if translation.reason is not None:
            description = bounded(description, _NAME_CHARACTERS)
            words = bounded(trigger_words(job.trigger), _WORDS_CHARACTERS)
            description = f"{description}: {words}; external: {translation.reason}"
        known_as = f" (id {bounded(repr(job.id), _NAME_CHARACTERS)})" if job_name(job.id) != job.id else ""
        return {
            "job_type": _word(self._job_type, job),
            "job_category": _word(self._category, job),
            "schedule": translation.schedule,
            "interval_seconds": translation.interval_seconds,
            "anchor_at": translation.anchor_at,
            "next_run_at": next_run_time if translation.external else None,
            "description": bounded(description, _DESCRIPTION_CHARACTERS - len(known_as)) + known_as,
            "parameters": self._parameters(job),
            "max_instances": getattr(job, "max_instances", 1),
            "enabled": next_run_time is not None,
        }


def _word(word: Word, job: Any) -> str:
    return word if isinstance(word, str) else word(job)


class Mirror:
    """The mirror of a scheduler; see `mirror`. A context manager, which need not be closed before the program ends."""

    def __init__(self, scheduler: Any, journal: Journal, describe: _Description, *, removes: bool) -> None:
        self._scheduler, self._journal, self._describe, self._removes = scheduler, journal, describe, removes
        self._lock = threading.Lock()
        self._aliases: dict[str, str | None] = {}
        self._saved: dict[str, dict[str, Any]] = {}
        self._retired: dict[str, dict[str, Any]] = {}
        self._written = journal.recorder.identity
        self._under_way: Counter[str] = Counter()
        self._removing: set[str] = set()
        self._has_warned = False
        self._closed = threading.Event()
        self._looking: threading.Thread | None = None
        scheduler.add_listener(self._hear)
        for executor in list(scheduler._executors.values()):  # there is no public list
            attach(executor, self._runs_of)
        if scheduler.running:
            self._jobs_found()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the mirror and wait until everything so far is on the disk; current runs are recorded to their end."""
        self._scheduler.remove_listener(self._hear)
        self._closed.set()
        for executor in list(self._scheduler._executors.values()):
            detach(executor)
        _mirrored.discard(self._scheduler)
        self.flush()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything so far is on the disk; False if the time runs out first."""
        return self._journal.flush(seconds)

    # --- events of the scheduler

    def _hear(self, event: Any) -> None:
        hears = _HEARD.get(event.code)
        if hears is not None:
            with unseen("An event of the scheduler"):
                self._follow()
                hears(self, event)

    def _follow(self) -> None:
        """Record every job again if another file has taken the store's path: a restored one knows older definitions."""
        identity = self._journal.recorder.identity
        if identity != self._written:
            self._written = identity
            self._journal.put(self._begin_anew)
            for job in _jobs_of(self._scheduler):
                self._save(job, job._jobstore_alias)

    def _begin_anew(self, recorder: Recorder) -> None:
        self._saved.clear()
        for job_id, fields in list(self._retired.items()):
            self._write_retired(job_id, fields, recorder)

    def _executor_added(self, event: Any) -> None:
        attach(self._scheduler._lookup_executor(event.alias), self._runs_of)

    def _job_saved(self, event: Any) -> None:
        job = self._scheduler.get_job(event.job_id, event.jobstore)
        if job is not None:
            self._save(job, event.jobstore)

    def _job_removed(self, event: Any) -> None:
        self._retire(event.job_id)

    def _job_due(self, event: Any) -> None:
        """Handle submitted or refused runs: the next run has moved, and a changed schedule may be noticed only now."""
        if event.code == events.EVENT_JOB_MAX_INSTANCES:
            self._record_refused(event)
        if _is_external(self._saved.get(event.job_id)) or self._is_shared(event.jobstore):
            self._job_saved(event)

    def _record_refused(self, event: Any) -> None:
        job = self._scheduler.get_job(event.job_id, event.jobstore)
        instances = "max_instances is reached" if job is None else f"max_instances is {job.max_instances}"
        runs = self._runs(event.job_id, job, event.scheduled_run_times, None)
        runs.close(f"Refused: this job is still running, and {instances}")

    def _jobs_added(self, event: Any) -> None:
        if self._scheduler.running:
            self._jobs_found(event.alias)

    def _jobs_gone(self, event: Any) -> None:
        for job_id, alias in list(self._aliases.items()):
            if event.alias in (None, alias):
                self._retire(job_id)

    def _shut_down(self, _event: Any) -> None:
        if not self.flush(SHUTDOWN_SECONDS):
            _log.warning("The scheduler has shut down; some of its runs are not recorded yet")

    # --- jobs

    def _jobs_found(self, alias: str | None = None) -> None:
        """Record the jobs of all job stores when the scheduler starts, or of a job store that was added."""
        if alias is None:  # an earlier process may have been killed during a run
            self._journal.put(lambda recorder: recorder.close_interrupted())
        for job in _jobs_of(self._scheduler, alias):
            self._save(job, job._jobstore_alias)
        if self._looking is None and any(map(self._is_shared, self._scheduler._jobstores)):
            self._looking = threading.Thread(target=self._look_often, name="jobstore-mirror", daemon=True)
            self._looking.start()

    def _is_shared(self, alias: str) -> bool:
        """Whether other schedulers may change the jobs of a job store, for which this scheduler gets no events."""
        store = self._scheduler._jobstores.get(alias)
        return store is not None and type(store) is not MemoryJobStore

    def _look_often(self) -> None:
        pause = LOOK_SECONDS
        while not self._closed.wait(pause):
            begun = time.monotonic()
            for alias in [alias for alias in list(self._scheduler._jobstores) if self._is_shared(alias)]:
                try:
                    self._look(alias)
                except Exception:  # noqa: BLE001 - a foreign job store, which may be unreachable
                    _log.debug("The job store %s cannot be read", alias, exc_info=True)
            is_done = self._journal.flush(pause)  # what was read is translated there
            took = time.monotonic() - begun if is_done else 0.0  # else the store is away, which says nothing
            pause = max(LOOK_SECONDS, LOOK_SHARE * took)

    def _look(self, alias: str) -> None:
        """Record the jobs that other schedulers added, changed or removed in a job store."""
        if not self._scheduler.running:
            return
        with self._lock:
            known = {job_id for job_id, known_alias in self._aliases.items() if known_alias == alias}
        jobs = _jobs_of(self._scheduler, alias)
        with self._lock:
            self._aliases.update(dict.fromkeys((job.id for job in jobs), alias))
        self._journal.put(partial(self._write_all, [copy_of(job) for job in jobs], datetime.now(UTC)))
        for job_id in known.difference(job.id for job in jobs):
            self._retire(job_id)

    def _save(self, job: Any, alias: str | None) -> None:
        """Record the job as it is now; the journal's thread translates it later."""
        self._warn_of_made_up_id(job)
        with self._lock:
            self._removing.discard(job.id)
            self._aliases[job.id] = alias
        self._journal.put(partial(self._write, copy_of(job), datetime.now(UTC)))

    def _warn_of_made_up_id(self, job: Any) -> None:
        if self._has_warned or isinstance(job.trigger, DateTrigger) or not _MADE_UP_ID.fullmatch(job.id):
            return
        self._has_warned = True
        _log.warning(
            "The job %r was added without an id, so APScheduler makes up another one at each start, and each start "
            "records a new job. Give every job an id: add_job(..., id=%r, replace_existing=True)",
            str(job.name), str(job.name),
        )  # fmt: skip

    def _write_all(self, jobs: list[Any], now: datetime, recorder: Recorder) -> None:
        for job in jobs:
            try:
                self._write(job, now, recorder)
            except (InvalidRecord, InvalidSchedule) as error:
                _log.warning("The job %s is not recorded: %s", job.id, error)

    def _write(self, job: Any, now: datetime, recorder: Recorder) -> None:
        fields = self._describe.fields(job, now)
        self._retired.pop(job.id, None)
        if fields == self._saved.get(job.id):
            return
        try:
            recorder.save_job(job_name(job.id), **fields)
        except JobStoreError as error:
            if not is_passing(error):  # else the journal tries again
                self._saved[job.id] = fields  # log it once, not at each check
            raise
        self._saved[job.id] = fields

    def _retire(self, job_id: str) -> None:
        """Disable or remove a job that the scheduler removed; removing waits until none of its runs is in progress."""
        with self._lock:
            self._aliases.pop(job_id, None)
            if self._removes and self._under_way[job_id]:
                self._removing.add(job_id)
                return
        self._journal.put(partial(self._write_retired, job_id, None))

    def _write_retired(self, job_id: str, fields: dict[str, Any] | None, recorder: Recorder) -> None:
        fields = fields or self._saved.get(job_id)
        if self._removes:
            _remove(recorder, job_name(job_id))
        elif fields is not None:
            recorder.save_job(job_name(job_id), **{**fields, "next_run_at": None, "enabled": False})
        # Last: the journal repeats the call if the store is busy.
        self._saved.pop(job_id, None)
        self._retired[job_id] = fields or {}
        while len(self._retired) > RETIRED_REMEMBERED:
            del self._retired[next(iter(self._retired))]

    # --- runs

    def _runs_of(self, job: Any, run_times: list[datetime]) -> Runs:
        with self._lock:
            self._under_way[job.id] += 1
        worker = worker_id(job.executor)
        return self._runs(job.id, copy_of(job), run_times, worker, ended=partial(self._runs_ended, job.id))

    def _runs(
        self,
        job_id: str,
        job: Any,
        run_times: list[datetime],
        worker: str | None,
        ended: Callable[[], None] = lambda: None,
    ) -> Runs:
        define = partial(self._define, job_id, job)
        return Runs(run_times, self._journal, job_name(job_id), worker_id=worker, define=define, ended=ended)

    def _define(self, job_id: str, job: Any, recorder: Recorder) -> None:
        """Save the job of a run that is not in the store: its definition was refused, or it was removed."""
        if job is None:
            raise NotFound(f"Job not found: {job_name(job_id)}")
        recorder.save_job(job_name(job_id), **self._describe.fields(job, datetime.now(UTC)))

    def _runs_ended(self, job_id: str) -> None:
        with self._lock:
            self._under_way[job_id] -= 1
            if self._under_way[job_id] > 0:
                return
            del self._under_way[job_id]
            if job_id not in self._removing:
                return
            self._removing.discard(job_id)
        self._journal.put(partial(self._write_retired, job_id, None))


def _jobs_of(scheduler: Any, alias: str | None = None) -> list[Any]:
    """List jobs as `get_jobs` does, without those that this process cannot restore.

    `get_jobs` deletes these from their job store, as if they were damaged. They may be another program's, whose modules
    are not here.
    """
    with scheduler._jobstores_lock:
        stores = [store for store in scheduler._jobstores.values() if hasattr(store, "_reconstitute_job")]
        for store in stores:
            store._reconstitute_job = partial(_restored, store._reconstitute_job)
        try:
            return [job for job in scheduler.get_jobs(alias) if job is not _ELSEWHERE]
        finally:
            for store in stores:
                del store._reconstitute_job


def _restored(restore: Callable[[Any], Any], state: Any) -> Any:
    try:
        return restore(state)
    except Exception:  # noqa: BLE001 - whatever the import of a module may raise
        return _ELSEWHERE


_ELSEWHERE = SimpleNamespace(next_run_time=None)
"""In the place of a job that cannot be restored here; job stores sort by the attribute."""


def _is_external(fields: dict[str, Any] | None) -> bool:
    return fields is None or (fields["schedule"] is None and fields["interval_seconds"] is None)


def _remove(recorder: Recorder, name: str) -> None:
    try:
        recorder.remove_job(name)
    except NotFound:
        pass
    except JobStoreError as error:
        if is_passing(error):
            raise
        _log.warning("The job %s could not be removed: %s", name, error)


_HEARD: dict[int, Callable[[Mirror, Any], None]] = {
    events.EVENT_EXECUTOR_ADDED: Mirror._executor_added,
    events.EVENT_JOB_ADDED: Mirror._job_saved,
    events.EVENT_JOB_MODIFIED: Mirror._job_saved,
    events.EVENT_JOB_REMOVED: Mirror._job_removed,
    events.EVENT_JOB_SUBMITTED: Mirror._job_due,
    events.EVENT_JOB_MAX_INSTANCES: Mirror._job_due,
    events.EVENT_SCHEDULER_STARTED: Mirror._jobs_added,
    events.EVENT_JOBSTORE_ADDED: Mirror._jobs_added,
    events.EVENT_JOBSTORE_REMOVED: Mirror._jobs_gone,
    events.EVENT_ALL_JOBS_REMOVED: Mirror._jobs_gone,
    events.EVENT_SCHEDULER_SHUTDOWN: Mirror._shut_down,
}

"""The runs of an APScheduler executor, recorded as they happen.

APScheduler's events report a run only when it is over, from several threads and without its start. So when a job is
submitted, the executor gets a copy of it whose callable records. The jobs in the scheduler and its job stores stay
unchanged, and can still be pickled.

An executor gets a job, a list of run times (several if earlier ones were delayed), and later reports by job id. For
each run time it either calls the callable or skips it, because it is too late. We learn which in three ways:

- The list of run times is a `Runs`. While the executor iterates over it, it knows the current run. If the next run
  time is requested and the callable was not called for the last one, that run was missed. For example, of the run
  times 10:00 and 10:01, with a call only after 10:01 was requested, the run of 10:00 was missed.
- The copy's id is a `RunsId`, a string that refers to its runs. So a report of the executor leads back to them, even
  if nothing ran at all.
- An executor that runs jobs in other processes gets the real callable. Its runs are recorded from their submission
  until the executor reports their outcome.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MISSED
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.job import Job

from jobstore.integrations.journal import done, unseen, wait_for
from jobstore.integrations.outcomes import error_text, kept_result, traceback_result, traceback_text_result
from jobstore.language.errors import NotFound
from jobstore.language.models import Status
from jobstore.recording.traces import current_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from jobstore.integrations.journal import Journal
    from jobstore.recording.recorder import Recorder

PATIENCE_SECONDS = 0.5
"""How long after it was due a run waits until its start, and its thread until its end, is on the disk.

By default, APScheduler gives up a run that has no thread a second after it was due.
"""

_UNRECORDED = "_jobstore_unrecorded"
"""The attribute of our own submit method that holds the executor's."""
_ASYNC_EXECUTORS = frozenset({"AsyncIOExecutor", "TornadoExecutor"})


class Run:
    """One run; each of its steps is put into the journal."""

    def __init__(self, runs: Runs, scheduled_at: datetime) -> None:
        self._runs = runs
        self._scheduled_at = scheduled_at
        self._execution_id: str | None = None
        self._trace_id: str | None = None
        self._began: float | None = None
        self._duration_ms: int | None = None
        self._process = os.getpid()
        self.is_begun = False
        self.is_over = False

    def begin(self) -> Future[None]:
        """Record that the run starts now."""
        self.is_begun = True
        self._trace_id = current_trace_id()
        at = datetime.now(UTC)
        is_started = False

        def start(recorder: Recorder) -> None:
            nonlocal is_started
            execution_id = self._enqueue(recorder)
            if not is_started:
                recorder.start(execution_id, at=at)
                is_started = True

        return self._runs.journal.put(start)

    @property
    def patience(self) -> float:
        """The seconds that are left of `PATIENCE_SECONDS`."""
        late = (datetime.now(UTC) - self._scheduled_at).total_seconds()
        return min(PATIENCE_SECONDS, max(0.0, PATIENCE_SECONDS - late))

    def time(self) -> None:
        """Start measuring the duration, which excludes the wait for the store."""
        self._began = time.monotonic()

    def succeed(self, value: object) -> Future[None]:
        """Record a successful end now."""
        ended_at = self._stop()
        return self._end(Status.SUCCESS, kept_result(value), None, ended_at)

    def raised(self, error: BaseException) -> Future[None]:
        """Record an end by an exception now; the exception's outermost frame is our own."""
        ended_at = self._stop()
        return self._end(Status.FAILURE, traceback_result(error, skipped_frames=1), error_text(error), ended_at)

    def fail(self, error: str, result: dict[str, str] | None = None) -> Future[None]:
        """Record a failure now."""
        return self._end(Status.FAILURE, result, error, self._stop())

    def never_ran(self, reason: str) -> Future[None]:
        """Record a run that was due but never started, as a failure at its scheduled time."""
        return self._end(Status.FAILURE, None, reason, self._scheduled_at)

    def _stop(self) -> datetime:
        """Stop measuring, before a large result or traceback is converted; return the time."""
        if self._began is not None:
            self._duration_ms = max(0, int((time.monotonic() - self._began) * 1000))
        return datetime.now(UTC)

    def _end(self, status: Status, result: object, error: str | None, at: datetime) -> Future[None]:
        self.is_over = True
        if os.getpid() != self._process:  # a child that the job forked leaves its end to the parent
            return done()

        def finish(recorder: Recorder) -> None:
            words: dict[str, Any] = {"result": result, "error": error, "duration_ms": self._duration_ms}
            recorder.finish(self._enqueue(recorder), status, at=at, **words)

        return self._runs.journal.put(finish)

    def _enqueue(self, recorder: Recorder) -> str:
        """Return the execution's id. The first step creates it, and its job if that was removed."""
        if self._execution_id is None:
            words: dict[str, Any] = {
                "worker_id": self._runs.worker_id, "trace_id": self._trace_id, "at": self._scheduled_at,
            }  # fmt: skip
            try:
                self._execution_id = recorder.enqueue(self._runs.name, **words)
            except NotFound:
                self._runs.define(recorder)
                self._execution_id = recorder.enqueue(self._runs.name, **words)
        return self._execution_id


class Runs(list[datetime]):
    """The run times of one submission; iterating over them sets the current run (see the module's docstring).

    Attributes:
        name: the name of the job in the store.
        define: saves that job if it does not exist.
        ended: called once, when the executor is done with all of them.
    """

    def __init__(
        self,
        run_times: list[datetime],
        journal: Journal,
        name: str,
        *,
        worker_id: str | None = None,
        define: Callable[[Recorder], None],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(run_times)
        self.journal, self.name, self.worker_id, self.define = journal, name, worker_id, define
        self._ended = ended
        self._runs = [Run(self, run_time) for run_time in run_times]
        self._current: Run | None = None

    def __iter__(self) -> Iterator[datetime]:
        for run, run_time in zip(self._runs, super().__iter__(), strict=True):
            self._current = run
            yield run_time
            if not run.is_begun:
                late = datetime.now(UTC) - run_time
                run.never_ran(f"Missed: it could not start in time ({late.total_seconds():.1f} s after it was due)")

    def recording(self, func: Callable[..., Any], *, awaited: bool) -> Callable[..., Any]:
        """Wrap the callable so that it records; `awaited` means that the executor awaits a coroutine function."""
        return self._recording_coroutine(func) if awaited else self._recording_call(func)

    def _recording_call(self, func: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            run = self._current
            if run is None or run.is_begun or run.is_over:
                return func(*args, **kwargs)
            wait_for(run.begin(), run.patience)
            run.time()
            try:
                value = func(*args, **kwargs)
            except BaseException as error:
                wait_for(run.raised(error), run.patience)
                raise
            wait_for(run.succeed(value), run.patience)
            return value

        return recorded

    def _recording_coroutine(self, func: Callable[..., Any]) -> Callable[..., Any]:
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            run = self._current
            if run is None or run.is_begun or run.is_over:
                return await func(*args, **kwargs)
            begun = run.begin()
            try:
                await asyncio.wait([asyncio.wrap_future(begun)], timeout=run.patience)
                run.time()
                value = await func(*args, **kwargs)
            except BaseException as error:
                run.raised(error)
                raise
            run.succeed(value)
            return value

        return recorded

    # --- reports of the executor

    def begin_all(self) -> None:
        """Record the start of all runs, since they are handed to another process."""
        for run in self._runs:
            run.begin()

    def reported(self, events: list[Any]) -> None:
        """Record the outcomes that another process sent back, one for each run time."""
        for run, event in zip(self._runs, events, strict=False):
            if run.is_over or event is None:
                continue
            if event.code == EVENT_JOB_EXECUTED:
                run.succeed(event.retval)
            elif event.code == EVENT_JOB_MISSED:
                run.fail("Missed: it could not start in time in its process")
            else:
                run.fail(error_text(event.exception), traceback_text_result(event.traceback or ""))

    def close(self, reason: str) -> None:
        """Handle the executor's end of the submission: runs that have not begun never will, for this reason.

        If one is still in progress, the others may follow: a thread goes on after its future was cancelled.
        """
        if not any(run.is_begun and not run.is_over for run in self._runs):
            for run in self._runs:
                if not run.is_over:
                    run.never_ran(reason)
        self._ended()

    def refused(self, reason: str) -> None:
        """Record runs that the executor did not accept."""
        self.broke(reason)
        self.close(reason)

    def broke(self, reason: str) -> None:
        """Record runs that another process began and never reported."""
        for run in self._runs:
            if run.is_begun and not run.is_over:
                run.fail(reason)


class RunsId(str):
    """A job's id that refers to the runs of its submission; pickled, it is a plain string."""

    __slots__ = ("runs",)
    runs: Runs

    def __new__(cls, job_id: str, runs: Runs) -> RunsId:  # noqa: D102
        made = super().__new__(cls, job_id)
        made.runs = runs
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


# --- executors ----------------------------------------------------------------------------------


def attach(executor: Any, runs_of: Callable[[Any, list[datetime]], Runs]) -> None:
    """Record an executor's runs from the next one on.

    Args:
        executor: an APScheduler executor.
        runs_of: returns the `Runs` for a job and its run times.
    """
    submit = executor._do_submit_job  # APScheduler has no public seam
    submit = getattr(submit, _UNRECORDED, submit)  # of an executor that was removed from its scheduler and added again
    elsewhere = not _runs_in_this_process(executor)
    awaits = bool(_class_names(executor) & _ASYNC_EXECUTORS)

    @functools.wraps(submit)
    def recorded_submit(job: Any, run_times: list[datetime]) -> None:
        prepared = _prepared(job, run_times, runs_of, elsewhere=elsewhere, awaits=awaits)
        if prepared is None:
            submit(job, run_times)
            return
        copy, runs = prepared
        try:
            submit(copy, run_times if elsewhere else runs)
        except BaseException as refusal:
            _carefully(runs.refused, f"Not run: the executor refused it: {error_text(refusal)}")
            raise

    setattr(recorded_submit, _UNRECORDED, submit)
    executor._do_submit_job = recorded_submit
    if "_run_job_success" not in vars(executor):
        _attach_reports(executor, elsewhere=elsewhere)


def _attach_reports(executor: Any, *, elsewhere: bool) -> None:
    """Pass the executor's reports about a job to its runs; the executor itself sees a plain id again."""
    success, error = executor._run_job_success, executor._run_job_error

    @functools.wraps(success)
    def recorded_success(job_id: str, events: list[Any]) -> None:
        if isinstance(job_id, RunsId):
            _carefully(job_id.runs.reported, events)
            _carefully(job_id.runs.close, "Not run: the executor skipped it")
            for event in events:
                event.job_id = str(job_id)
        success(str(job_id), events)

    @functools.wraps(error)
    def recorded_error(job_id: str, exc: BaseException, traceback: Any = None) -> None:
        if isinstance(job_id, RunsId):
            if elsewhere:
                _carefully(job_id.runs.broke, f"Its process returned no result: {error_text(exc)}")
            _carefully(job_id.runs.close, f"Not run: {error_text(exc)}")
        error(str(job_id), exc, traceback)

    executor._run_job_success = recorded_success
    executor._run_job_error = recorded_error


def detach(executor: Any) -> None:
    """Restore an executor's own submit method; current runs are recorded to their end."""
    vars(executor).pop("_do_submit_job", None)


def _class_names(executor: Any) -> set[str]:
    return {cls.__name__ for cls in type(executor).__mro__ if cls.__module__.startswith("apscheduler.executors.")}


def _runs_in_this_process(executor: Any) -> bool:
    """Whether the executor is known to run jobs in this process: all of APScheduler's own do, except for one."""
    known = _class_names(executor) - {"BaseExecutor", "BasePoolExecutor"}
    return bool(known) and not isinstance(executor, ProcessPoolExecutor)


def _prepared(
    job: Any,
    run_times: list[datetime],
    runs_of: Callable[[Any, list[datetime]], Runs],
    *,
    elsewhere: bool,
    awaits: bool,
) -> tuple[Any, Runs] | None:
    """Return the copy of the job for the executor, and its runs; None if that fails: then the job runs unrecorded."""
    with unseen(f"A run of {job.id}"):
        runs = runs_of(job, run_times)
        copy = copy_of(job)
        copy.id = RunsId(job.id, runs)
        if elsewhere:
            runs.begin_all()
        else:
            copy.func = runs.recording(job.func, awaited=awaits and _is_coroutine_function(job.func))
        return copy, runs
    return None


def copy_of(job: Any) -> Any:
    """Return a shallow copy of a job."""
    copy = object.__new__(Job)
    for slot in Job.__slots__:
        if slot != "__weakref__" and hasattr(job, slot):
            setattr(copy, slot, getattr(job, slot))
    return copy


def _is_coroutine_function(func: Any) -> bool:
    from apscheduler.util import iscoroutinefunction_partial

    return bool(iscoroutinefunction_partial(func))


def _carefully(call: Callable[..., object], *args: object) -> None:
    with unseen("A run"):
        call(*args)

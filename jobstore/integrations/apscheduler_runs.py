"""The runs of an APScheduler executor, recorded as they happen.

APScheduler's events tell of a run when it is over, from several threads and without its start. So a
job on its way to the executor is replaced there by a copy whose callable records; what the scheduler
and its job stores hold stays untouched (and can still be pickled). Three things make it exact:

- The run times go along as a list that notices which of them the executor has come to: one for which
  the callable was not called was missed.
- The copy's id is a text that knows its runs, so that what the executor reports about the job leads
  back to them, also when nothing ran at all.
- An executor that runs jobs in other processes gets the real callable. Its runs are recorded from when
  they are handed over to when their outcome comes back.
"""

from __future__ import annotations

import asyncio
import functools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MISSED
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.job import Job

from jobstore.integrations.journal import unseen, wait_for
from jobstore.integrations.outcomes import error_text, kept_result, traceback_result, traceback_text_result
from jobstore.language.errors import NotFound
from jobstore.language.models import Status
from jobstore.recording.traces import current_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from jobstore.integrations.journal import Journal
    from jobstore.recording.recorder import Recorder

PATIENCE_SECONDS = 2.0
"""How long a job waits for its start, and its thread for its end, to be on the disk; then it goes on regardless."""

_ASYNC_EXECUTORS = frozenset({"AsyncIOExecutor", "TornadoExecutor"})


class Run:
    """One run on its way into the store; its steps are put in the journal in their order."""

    def __init__(self, runs: Runs, scheduled_at: datetime) -> None:
        self._runs = runs
        self._scheduled_at = scheduled_at
        self._execution_id: str | None = None
        self._trace_id: str | None = None
        self._began: float | None = None
        self.is_begun = False
        self.is_over = False

    def begin(self) -> Future[None]:
        """It starts now."""
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

    def time(self) -> None:
        """Its own work begins now: the wait for the store is over."""
        self._began = time.monotonic()

    def succeed(self, value: object) -> Future[None]:
        """It ends now, and gave a value."""
        return self._end(Status.SUCCESS, kept_result(value), None, datetime.now(UTC))

    def raised(self, error: BaseException) -> Future[None]:
        """It ends now; the outermost frame of the exception is ours."""
        return self.fail(error_text(error), traceback_result(error, skipped_frames=1))

    def fail(self, error: str, result: dict[str, str] | None = None) -> Future[None]:
        """It ends now, in an error."""
        return self._end(Status.FAILURE, result, error, datetime.now(UTC))

    def never_ran(self, reason: str) -> Future[None]:
        """It was due and did not start: a failure at its scheduled time."""
        return self._end(Status.FAILURE, None, reason, self._scheduled_at)

    def _end(self, status: Status, result: object, error: str | None, at: datetime) -> Future[None]:
        self.is_over = True
        duration_ms = None if self._began is None else int((time.monotonic() - self._began) * 1000)

        def finish(recorder: Recorder) -> None:
            words: dict[str, Any] = {"result": result, "error": error, "duration_ms": duration_ms}
            recorder.finish(self._enqueue(recorder), status, at=at, **words)

        return self._runs.journal.put(finish)

    def _enqueue(self, recorder: Recorder) -> str:
        """The execution, made by the first step that needs it; its job is made again if it was removed."""
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
    """The run times that one submission is for; going through them tells which run it is now.

    Attributes:
        name: the name of the job in the store.
        define: saves that job, should it not be there.
        ended: is called once when all is over.
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
        """The callable that records; a coroutine function where the executor will await it."""
        return self._recording_coroutine(func) if awaited else self._recording_call(func)

    def _recording_call(self, func: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            run = self._current
            if run is None or run.is_begun or run.is_over:
                return func(*args, **kwargs)
            wait_for(run.begin(), PATIENCE_SECONDS)
            run.time()
            try:
                value = func(*args, **kwargs)
            except BaseException as error:
                wait_for(run.raised(error), PATIENCE_SECONDS)
                raise
            wait_for(run.succeed(value), PATIENCE_SECONDS)
            return value

        return recorded

    def _recording_coroutine(self, func: Callable[..., Any]) -> Callable[..., Any]:
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            run = self._current
            if run is None or run.is_begun or run.is_over:
                return await func(*args, **kwargs)
            begun = run.begin()
            try:
                await asyncio.wait([asyncio.wrap_future(begun)], timeout=PATIENCE_SECONDS)
                run.time()
                value = await func(*args, **kwargs)
            except BaseException as error:
                run.raised(error)
                raise
            run.succeed(value)
            return value

        return recorded

    # --- what the executor reports

    def begin_all(self) -> None:
        """They are handed to another process."""
        for run in self._runs:
            run.begin()

    def reported(self, events: list[Any]) -> None:
        """The outcomes that another process sent back, one for each run time."""
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
        """The executor is done with them: what has not begun by now never will, for this reason.

        Where one is under way all the same (a thread goes on when its future is cancelled), the rest may come.
        """
        if not any(run.is_begun and not run.is_over for run in self._runs):
            for run in self._runs:
                if not run.is_over:
                    run.never_ran(reason)
        self._ended()

    def refused(self, reason: str) -> None:
        """They were not taken."""
        self.broke(reason)
        self.close(reason)

    def broke(self, reason: str) -> None:
        """Another process took them and did not answer."""
        for run in self._runs:
            if run.is_begun and not run.is_over:
                run.fail(reason)


class RunsId(str):
    """A job's id that knows the runs it was submitted for; pickled, it is the text alone."""

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
        runs_of: gives the runs of a job at these times.
    """
    submit = executor._do_submit_job  # APScheduler has no public seam
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

    executor._do_submit_job = recorded_submit
    if "_run_job_success" not in vars(executor):
        _attach_reports(executor, elsewhere=elsewhere)


def _attach_reports(executor: Any, *, elsewhere: bool) -> None:
    """Lead what the executor reports of a job to its runs; it then hears of a plain id again."""
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
    """Give an executor its own way to submit back; runs that are under way are recorded to their end."""
    vars(executor).pop("_do_submit_job", None)


def _class_names(executor: Any) -> set[str]:
    return {cls.__name__ for cls in type(executor).__mro__ if cls.__module__.startswith("apscheduler.executors.")}


def _runs_in_this_process(executor: Any) -> bool:
    """APScheduler's own executors do, but for one; of others it is not known."""
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
    """The copy of the job that goes to the executor; None if that cannot be made, and the job goes as it is."""
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
    """A job like this one, which may be changed without changing it."""
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

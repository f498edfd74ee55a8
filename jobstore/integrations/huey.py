"""Mirror huey 3: record its tasks as jobs, and every attempt to run one as an execution.

>>> from huey import MemoryHuey
>>> import jobstore, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> from jobstore.integrations import huey as integration
>>> recorder = jobstore.Recorder(f"{folder.name}/jobs.db")
>>> huey = MemoryHuey(immediate=True)
>>> mirror = integration.mirror(huey, recorder)
>>> @huey.task()
... def add(a, b):
...     return a + b
>>> _ = add(1, 2)
>>> mirror.close()
>>> recorder.close()
>>> with jobstore.open(recorder.path) as store:
...     store.get_job_executions("add")["data"][0]["result"]
{'value': 3}
>>> folder.cleanup()

Create the mirror where you create the huey instance, so that every process has one: the program that enqueues a task
records that it waits, the consumer records its run and its end. A task's id is the trace id of its executions.
``docs/integrations.md`` says which signal becomes which status.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any

from jobstore.language.extras import missing

try:
    from huey import signals
    from huey.exceptions import TaskTimeout
except ImportError as error:
    raise missing("jobstore.integrations.huey", "huey") from error

from jobstore.integrations.huey_schedules import cron_of, enclosed
from jobstore.integrations.journal import Journal, unseen
from jobstore.integrations.localzone import local_timezone
from jobstore.integrations.names import job_name, worker_id
from jobstore.integrations.outcomes import bounded, error_text, kept_result, traceback_result
from jobstore.integrations.secrets import call_arguments as masked_arguments
from jobstore.language.errors import Conflict, NotFound
from jobstore.language.models import Status
from jobstore.store import open as open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobstore.language.models import ExecutionDocument
    from jobstore.recording.recorder import Recorder

    Word = str | Callable[[Any], str]

HOOK = "jobstore"
"""The name under which the mirror registers its huey hooks."""
PATIENCE_SECONDS = 2.0
"""How long a task waits for a busy store; then it goes on, and is recorded once the store can be written. The next ones
do not wait until it can."""
FLUSH_SECONDS = 10.0

_DESCRIPTION_CHARACTERS = 2000
_HUEYS_FRAMES, _OWN_FRAMES = 2, 1


def mirror(
    huey: Any,
    recorder: Recorder,
    *,
    category: Word = "scheduled",
    job_type: Word = "huey",
    parameters: Callable[[Any], object] | None = None,
) -> Mirror:
    """Record a huey instance's tasks and all their runs from now on.

    The mirror never raises into huey. What cannot be recorded is logged to ``jobstore.integrations``.

    Args:
        huey: any huey instance, including an immediate one.
        recorder: the recorder of the store.
        category: each job's category, or a function from the task class to it.
        job_type: each job's type, or a function from the task class to it.
        parameters: a function from the task to the JSON value to record as the execution's parameters. Default: the
            task's arguments, with likely secrets masked.

    Raises:
        Conflict: the instance is already mirrored.
        StoreError: the store cannot be read.
    """
    if HOOK in huey._post_execute:  # there is no public list
        raise Conflict("This huey instance is already mirrored; close that mirror first")
    return Mirror(huey, Journal(recorder), category, job_type, parameters or call_arguments)


def call_arguments(task: Any) -> object:
    """Return a task's arguments with secrets masked: keywords by name, positional ones under ``args``; None if none."""
    keywords = {key: value for key, value in task.kwargs.items() if value is not task}  # a context task gets itself
    return masked_arguments(enclosed(type(task).execute, "func"), task.args, keywords)


class _Attempt:
    """A run of a task object in this process.

    Attributes:
        task: kept alive, so that no other object can get its ``id()``.
        execution_id: set by the journal's thread.
        duration_ms: set when the task's callable has returned.
    """

    def __init__(self, task: Any) -> None:
        self.task = task
        self.execution_id: str | None = None
        self.duration_ms: int | None = None
        self.process = os.getpid()


class Mirror:
    """The mirror of a huey instance; see `mirror`. A context manager; need not be closed before the program ends."""

    def __init__(
        self,
        huey: Any,
        journal: Journal,
        category: Word,
        job_type: Word,
        parameters: Callable[[Any], object],
    ) -> None:
        self._huey, self._journal = huey, journal
        self._category, self._job_type, self._parameters = category, job_type, parameters
        self._store = open_store(journal.recorder.path)
        self._attempts: dict[int, _Attempt] = {}
        self._saved: set[type] = set()
        self._names: dict[type, str] = {}
        huey.signal()(self._hear)
        self._enqueue_there, self._execute_there = huey.enqueue, huey._execute
        huey.enqueue, huey._execute = self._enqueued, self._executed_whole
        huey.post_execute(HOOK)(self._executed)
        huey.on_startup(HOOK)(self._worker_starts)
        huey.on_shutdown(HOOK)(self.flush)  # a worker that is a process runs no exit hook of Python's
        self._save_all()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the mirror and wait until everything so far is on the disk."""
        self._huey.disconnect_signal(self._hear)
        for wrapped in ("enqueue", "_execute"):
            vars(self._huey).pop(wrapped, None)
        self._huey.unregister_post_execute(HOOK)
        self._huey.unregister_on_startup(HOOK)
        self._huey.unregister_on_shutdown(HOOK)
        self.flush()
        self._store.close()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything so far is on the disk; False if the time runs out first."""
        return self._journal.flush(seconds)

    # --- signals and hooks of huey

    def _hear(self, signal: str, task: Any, *_more: object) -> None:
        hears = _HEARD.get(signal)
        if hears is not None:
            with unseen(f"The task {task.id}"):
                self._save_job(type(task))
                hears(self, task)

    def _waits(self, task: Any) -> None:
        """Handle an enqueued or scheduled task: record it before a consumer can start it."""
        call = partial(self._write_waiting, type(task), task.id, self._parameters(task), datetime.now(UTC))
        future = self._journal.put(call)
        if not self._journal.wait(future, PATIENCE_SECONDS):
            future.cancel()

    def _enqueued(self, task: Any) -> Any:
        """Enqueue a task. If that fails after huey's signal, for a value that it cannot pickle, say, nothing waits."""
        try:
            return self._enqueue_there(task)
        except BaseException as error:
            self._journal.put(partial(self._write_not_enqueued, task.id, error_text(error), datetime.now(UTC)))
            raise

    def _executed_whole(self, task: Any, timestamp: Any) -> Any:
        """Execute a task. huey tells no hook of the end if it cannot store the result, or for `sys.exit()`."""
        try:
            return self._execute_there(task, timestamp)
        except BaseException as error:
            self._ends_badly(task, error, skipped_frames=1)
            raise

    def _starts(self, task: Any) -> None:
        """Handle the start of a task. Each message has its own task object: a task enqueued twice is two attempts."""
        attempt = self._attempts[id(task)] = _Attempt(task)
        task.execute = partial(self._execute, attempt, task.execute)
        worker, parameters = worker_id(_worker_name()), self._parameters(task)
        call = partial(self._write_start, attempt, type(task), task.id, parameters, worker, datetime.now(UTC))
        self._journal.wait(self._journal.put(call), PATIENCE_SECONDS)

    def _execute(self, attempt: _Attempt, execute: Callable[[], object]) -> object:
        """Run the task's callable. huey does not report what is not an `Exception`, such as that of `sys.exit()`."""
        del attempt.task.execute
        began = time.monotonic()
        try:
            return execute()
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            attempt.duration_ms = _milliseconds_since(began)
            self._ends_badly(attempt.task, error, skipped_frames=_OWN_FRAMES + 1)
            raise
        finally:
            attempt.duration_ms = _milliseconds_since(began)

    def _executed(self, task: Any, value: object, error: BaseException | None) -> None:
        """Handle the end of a task in huey's post-execute hook, which alone gets its value and its error."""
        if error is not None:
            self._ends_badly(task, error, skipped_frames=_HUEYS_FRAMES + _OWN_FRAMES)
            return
        with unseen(f"The end of task {task.id}"):
            self._ends(task, Status.SUCCESS, kept_result(value), None)

    def _ends_badly(self, task: Any, error: BaseException, *, skipped_frames: int) -> None:
        with unseen(f"The end of task {task.id}"):
            status = Status.TIMEOUT if isinstance(error, TaskTimeout) else Status.FAILURE
            self._ends(task, status, traceback_result(error, skipped_frames=skipped_frames), error_text(error))

    def _ends(self, task: Any, status: Status, result: object, error: str | None) -> None:
        attempt = self._attempts.pop(id(task), None)
        # A child that the task forked leaves its end to the parent.
        if attempt is not None and attempt.process == os.getpid():
            call = partial(_write_end, attempt, status, result, error, datetime.now(UTC))
            self._journal.wait(self._journal.put(call), PATIENCE_SECONDS)

    def _interrupted(self, task: Any) -> None:
        self._ends(task, Status.FAILURE, None, "Interrupted: the consumer was stopped while it ran")

    def _cancelled(self, task: Any) -> None:
        """Handle a cancelled task. If it cancelled itself, the post-execute hook reports more, so do nothing here."""
        if not _is_raised_by_task(sys.exc_info()[1]):
            self._ends(task, Status.FAILURE, None, "Cancelled: a pre-execute hook refused it")

    def _revoked(self, task: Any) -> None:
        self._never_ran(task, "Revoked before it ran")

    def _expired(self, task: Any) -> None:
        self._never_ran(task, f"Expired: it should have run before {task.expires_resolved}")

    def _never_ran(self, task: Any, reason: str) -> None:
        at = datetime.now(UTC)
        self._journal.put(partial(self._write_never_ran, type(task), task.id, self._parameters(task), reason, at))

    # --- jobs

    def _worker_starts(self) -> None:
        """Handle the start of a worker: it may replace one that died, whose run only another process can close."""
        self._journal.put(lambda recorder: recorder.close_interrupted())
        self._save_all()

    def _save_all(self) -> None:
        with unseen("The list of tasks"):
            for task_class in list(self._huey._registry._registry.values()):  # there is no public list
                self._save_job(task_class)

    def _save_job(self, task_class: type) -> None:
        if task_class not in self._saved:
            self._saved.add(task_class)
            self._journal.put(partial(self._write_job, task_class))

    def _write_job(self, task_class: type, recorder: Recorder) -> None:
        recorder.save_job(self._name(task_class), **self._fields(task_class))

    def _fields(self, task_class: Any) -> dict[str, Any]:
        description = (task_class.__doc__ or "").strip() or None
        schedule, reason = None, None
        if hasattr(task_class, "validate_datetime"):
            zone = "UTC" if self._huey.utc else local_timezone().name
            schedule, reason = cron_of(task_class, zone, self._store.timezone, datetime.now(UTC).year)
        if reason is not None:
            description = f"{description or task_class.__name__}; external: {reason}"
        timeout = task_class.default_timeout
        return {
            "job_type": self._job_type if isinstance(self._job_type, str) else self._job_type(task_class),
            "job_category": self._category if isinstance(self._category, str) else self._category(task_class),
            "schedule": schedule,
            "interval_seconds": None,
            "parameters": {"task": _identity(task_class)},
            "description": None if description is None else bounded(description, _DESCRIPTION_CHARACTERS),
            "timeout_seconds": max(1, round(timeout)) if timeout else None,
        }

    # --- in the journal's thread

    def _name(self, task_class: Any) -> str:
        """Return the job's name: the task's name, with its module if another module has a task of the same name.

        The job's parameters say which task a name belongs to. So a name never moves to another task, and every process
        finds the same name, whichever modules it has imported.
        """
        if task_class not in self._names:
            identity = _identity(task_class)
            short, long = job_name(task_class.__name__), job_name(identity)
            is_free = self._owner(short) is None and self._owner(long) is None and not self._is_shared(task_class)
            self._names[task_class] = short if is_free or self._owner(short) == identity else long
        return self._names[task_class]

    def _is_shared(self, task_class: Any) -> bool:
        registered = list(self._huey._registry._registry.values())
        return [each.__name__ for each in registered].count(task_class.__name__) > 1

    def _owner(self, name: str) -> str | None:
        """Return the task that the job of this name belongs to; None if there is none."""
        try:
            parameters = self._store.get_job(name)["parameters"]
        except NotFound:
            return None
        owner = parameters.get("task") if isinstance(parameters, dict) else None
        return owner if isinstance(owner, str) else None

    def _latest(self, task_id: str) -> ExecutionDocument | None:
        """Return the newest execution of a task, from any process."""
        page = self._store.list_job_executions(trace_id=task_id, limit=1, order_by="id", order_desc=True)
        return page["data"][0] if page["data"] else None

    def _waiting(self, task_id: str) -> str | None:
        latest = self._latest(task_id)
        return latest["id"] if latest is not None and latest["status"] == Status.PENDING else None

    def _write_waiting(
        self, task_class: type, task_id: str, parameters: object, at: datetime, recorder: Recorder
    ) -> None:
        """Record that an attempt waits, unless that is recorded, or the attempt is over since the store was busy."""
        latest = self._latest(task_id)
        if latest is not None:
            is_over = datetime.fromisoformat(latest["created_at"]) >= at
            if is_over or latest["status"] == Status.PENDING:
                return
        self._enqueue(recorder, task_class, task_id, parameters, at)

    def _enqueue(self, recorder: Recorder, task_class: type, task_id: str, parameters: object, at: datetime) -> str:
        words: dict[str, Any] = {"trace_id": task_id, "parameters": parameters, "at": at, "outlives_process": True}
        try:
            return recorder.enqueue(self._name(task_class), **words)
        except NotFound:  # the job was removed
            self._write_job(task_class, recorder)
            return recorder.enqueue(self._name(task_class), **words)

    def _write_start(
        self,
        attempt: _Attempt,
        task_class: type,
        task_id: str,
        parameters: object,
        worker: str,
        at: datetime,
        recorder: Recorder,
    ) -> None:
        execution_id = self._waiting(task_id) or self._enqueue(recorder, task_class, task_id, parameters, at)
        try:
            recorder.start(execution_id, worker_id=worker, at=at)
        except Conflict:  # another worker with a message of the same task was faster
            execution_id = self._enqueue(recorder, task_class, task_id, parameters, at)
            recorder.start(execution_id, worker_id=worker, at=at)
        attempt.execution_id = execution_id

    def _write_not_enqueued(self, task_id: str, reason: str, at: datetime, recorder: Recorder) -> None:
        waiting = self._waiting(task_id)
        if waiting is not None:
            recorder.finish(waiting, Status.FAILURE, error=f"Not enqueued: {reason}", at=at)

    def _write_never_ran(
        self, task_class: type, task_id: str, parameters: object, reason: str, at: datetime, recorder: Recorder
    ) -> None:
        execution_id = self._waiting(task_id) or self._enqueue(recorder, task_class, task_id, parameters, at)
        recorder.finish(execution_id, Status.FAILURE, error=reason, at=at)


def _write_end(
    attempt: _Attempt, status: Status, result: object, error: str | None, at: datetime, recorder: Recorder
) -> None:
    if attempt.execution_id is not None:
        words: dict[str, Any] = {"result": result, "error": error, "duration_ms": attempt.duration_ms}
        recorder.finish(attempt.execution_id, status, at=at, **words)


def _identity(task_class: type) -> str:
    """Return huey's own name for the task."""
    return f"{task_class.__module__}.{task_class.__name__}"


def _milliseconds_since(began: float) -> int:
    return max(0, int((time.monotonic() - began) * 1000))


def _worker_name() -> str:
    """Return the name of the thread, or of the process if each worker is one."""
    thread = threading.current_thread()
    return current_process().name if thread is threading.main_thread() else thread.name


def _is_raised_by_task(error: BaseException | None) -> bool:
    """Whether the exception comes from the task itself and not from a pre-execute hook."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "_run_pre_execute":
            return False
        trace = trace.tb_next
    return True


_HEARD: dict[str, Callable[[Mirror, Any], None]] = {
    signals.SIGNAL_ENQUEUED: Mirror._waits,
    signals.SIGNAL_SCHEDULED: Mirror._waits,
    signals.SIGNAL_EXECUTING: Mirror._starts,
    signals.SIGNAL_INTERRUPTED: Mirror._interrupted,
    signals.SIGNAL_CANCELED: Mirror._cancelled,
    signals.SIGNAL_REVOKED: Mirror._revoked,
    signals.SIGNAL_EXPIRED: Mirror._expired,
}

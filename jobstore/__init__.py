"""Scheduled jobs and their execution history in one SQLite file.

`open` reads a store, `Recorder` writes one, `load` and `dump` build and copy one; see ``docs/`` for the rest.

>>> import jobstore
>>> jobstore.Status.FAILURE.value
'FAILURE'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from jobstore.language.errors import (
    Conflict,
    Forbidden,
    InternalError,
    InvalidParameter,
    InvalidRecord,
    InvalidSchedule,
    JobStoreError,
    MethodNotAllowed,
    NotAStore,
    NotFound,
    ResponseTooLarge,
    SchemaTooNew,
    SchemaTooOld,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnreadable,
    Unauthorized,
)
from jobstore.language.models import (
    ExecutionDocument,
    ExecutionPage,
    HistogramDocument,
    JobDocument,
    JobPage,
    JobStateDocument,
    JobStatePage,
    Pagination,
    ScheduleType,
    StatsDocument,
    Status,
)

if TYPE_CHECKING:
    from jobstore.http.client import connect
    from jobstore.language.schemas import Execution, Job
    from jobstore.queries import (
        Queries,
        execution_histogram,
        get_execution,
        get_job,
        get_job_executions,
        job_stats,
        list_job_executions,
        list_job_states,
        list_jobs,
    )
    from jobstore.recording.recorder import Recorder
    from jobstore.recording.retention import Retention
    from jobstore.store import JobStore, open  # noqa: A004 - read as jobstore.open
    from jobstore.transfer.backup import backup, check, restore
    from jobstore.transfer.dump import dump, load
    from jobstore.transfer.export import export

__version__ = "0.1.0"

__all__ = [
    "Conflict", "Execution", "ExecutionDocument", "ExecutionPage", "Forbidden", "HistogramDocument",
    "InternalError", "InvalidParameter", "InvalidRecord", "InvalidSchedule", "Job", "JobDocument", "JobPage",
    "JobStateDocument", "JobStatePage", "JobStore", "JobStoreError", "MethodNotAllowed", "NotAStore",
    "NotFound", "Pagination", "Queries", "Recorder", "ResponseTooLarge", "Retention", "ScheduleType",
    "SchemaTooNew", "SchemaTooOld", "StatsDocument", "Status", "StoreBusy", "StoreCorrupt", "StoreError",
    "StoreFull", "StoreNotFound", "StoreUnreadable", "Unauthorized", "__version__", "backup", "check",
    "connect", "dump", "execution_histogram", "export", "get_execution", "get_job", "get_job_executions",
    "job_stats", "list_job_executions", "list_job_states", "list_jobs", "load", "open", "restore",
]  # fmt: skip

_MODULES = {
    "jobstore.http.client": ("connect",),
    "jobstore.language.schemas": ("Execution", "Job"),
    "jobstore.queries": (
        "Queries", "execution_histogram", "get_execution", "get_job", "get_job_executions",
        "job_stats", "list_job_executions", "list_job_states", "list_jobs",
    ),
    "jobstore.recording.recorder": ("Recorder",),
    "jobstore.recording.retention": ("Retention",),
    "jobstore.store": ("JobStore", "open"),
    "jobstore.transfer.backup": ("backup", "check", "restore"),
    "jobstore.transfer.dump": ("dump", "load"),
    "jobstore.transfer.export": ("export",),
}  # fmt: skip
"""Modules and their names, imported when one is first asked for: a reader needs no writer, a command neither."""
_LATE = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # or a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module 'jobstore' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LATE[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})

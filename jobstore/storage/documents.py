"""Turns rows into documents: the job API's fields in the job API's order, instants as text, JSON as values."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from jobstore.language.instants import instant_text
from jobstore.language.models import STATUS_OF_CODE, ScheduleType

if TYPE_CHECKING:
    from jobstore.language.models import ExecutionDocument, JobDocument
    from jobstore.language.records import Job
    from jobstore.storage.rows import ExecutionRow

_log = logging.getLogger("jobstore")
_STATUS_WORDS = tuple(status.value for status in STATUS_OF_CODE)
# The deepest nesting that a recorder writes. Deeper values, of other programs, could overflow the stack of a reader.
DEEPEST = 64


def execution_document(row: ExecutionRow) -> ExecutionDocument:
    """The thirteen fields of the job API's 获取所有执行记录 for one row."""
    (
        number, job_number, job_name, status, effective_us, is_started, created_us, completed_us, duration_ms,
        worker, parameters, trace_id, result, error,
    ) = row  # fmt: skip
    # Format once and use twice when a run starts as it is created: formatting costs more than comparing.
    created_at = instant_text(created_us)
    started_at = None
    if is_started:
        started_at = created_at if effective_us == created_us else instant_text(effective_us)
    return {
        "id": str(number),
        "job_id": str(job_number),
        "job_name": job_name,
        "status": _STATUS_WORDS[status],
        "started_at": started_at,
        "completed_at": instant_text(completed_us),
        "duration_ms": duration_ms,
        "result": None if result is None else json_value(result),
        "error": error,
        "trace_id": trace_id,
        "worker_id": worker,
        "parameters_snapshot": None if parameters is None else json_value(parameters),
        "created_at": created_at,  # type: ignore[typeddict-item]  # never null: the column is not
    }


def job_document(row: Job, next_run_us: int | None) -> JobDocument:
    """The sixteen fields of the job API's 获取任务列表 for one row and its next fire time."""
    return {
        "id": row.name,
        "job_type": row.job_type,
        "name": row.name,
        "job_category": row.job_category,
        "description": row.description,
        "schedule_type": schedule_type(row),
        "schedule": row.schedule,
        "interval_seconds": row.interval_seconds,
        "parameters": None if row.parameters is None else json_value(row.parameters),
        "timeout_seconds": row.timeout_seconds,
        "max_instances": row.max_instances,
        "enabled": bool(row.enabled),
        "last_run_at": instant_text(row.last_run_us),
        "next_run_at": instant_text(next_run_us),
        "created_at": instant_text(row.created_us),  # type: ignore[typeddict-item]  # never null: the column is not
        "updated_at": instant_text(row.updated_us),  # type: ignore[typeddict-item]
    }


def schedule_type(row: Job) -> str:
    """``cron``, ``interval``, or ``external`` if the job has neither."""
    if row.schedule is not None:
        return ScheduleType.CRON.value
    return ScheduleType.EXTERNAL.value if row.interval_seconds is None else ScheduleType.INTERVAL.value


def json_value(text: str) -> Any:
    """The value of JSON text; malformed text is marked as unreadable, so that it never fails a list.

    >>> json_value('{"processed": 500}')
    {'processed': 500}
    >>> json_value('{"processed": 5')
    {'unreadable': '{"processed": 5'}
    """
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError):
        return _marked(text)
    # A level takes at least two characters and one opening bracket, so nearly all texts need no walk.
    return _marked(text) if len(text) > 2 * DEEPEST and _depth_bound(text) > DEEPEST < _depth(value) else value


def _depth_bound(text: str) -> int:
    """An upper bound of the nesting: brackets inside strings count too."""
    return text.count("[") + text.count("{")


def _marked(text: str) -> dict[str, str]:
    _log.warning("a value in the store is not JSON that a recorder writes: %.80r", text)
    return {"unreadable": text[:80]}


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        below: list[Any] = []
        for item in level:
            below.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        level = below
    return deepest

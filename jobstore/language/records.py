"""Jobs and executions to be written: from arguments and documents to the columns of a row. Pure.

The values in `Job` and `Execution` are checked and have their stored form, except that worker names, job names and
parameters are still text; the writer replaces them by keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobstore.language.cron import check_schedule
from jobstore.language.errors import InvalidRecord, InvalidSchedule
from jobstore.language.fields import (
    LARGEST_DURATION_MS,
    checked_duration,
    checked_flag,
    checked_instances,
    checked_instant,
    checked_interval,
    checked_keys,
    checked_label,
    checked_name,
    checked_number,
    checked_status,
    checked_text,
    checked_timeout,
    checked_words,
    json_text,
    optional_instant,
    refuse,
)
from jobstore.language.models import EXECUTION_FIELDS, JOB_FIELDS, ScheduleType
from jobstore.language.search import fold

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_KEYS: Final = dict.fromkeys((*JOB_FIELDS, "number", "anchor_at")).keys()
EXECUTION_KEYS: Final = dict.fromkeys(EXECUTION_FIELDS).keys()


class Job(NamedTuple):
    """The columns of a job; a new one has no number yet."""

    name: str
    job_type: str
    job_category: str
    folded: str
    description: str | None
    schedule: str | None
    interval_seconds: int | None
    parameters: str | None
    timeout_seconds: int | None
    max_instances: int
    enabled: int
    anchor_us: int | None
    next_run_us: int | None
    last_run_us: int | None
    created_us: int
    updated_us: int
    number: int = 0


class Execution(NamedTuple):
    """An execution before its texts are replaced by keys."""

    id: int | None
    job_number: int | None
    job_name: str | None
    status: int
    effective_us: int
    is_started: int
    created_us: int
    completed_us: int | None
    duration_ms: int | None
    worker: str | None
    parameters: str | None
    trace_id: str | None
    result: str | None
    error: str | None


def folded_job(name: str, job_type: str, job_category: str) -> str:
    """The text that a search over jobs looks into: name, type and category, folded, one per line.

    >>> folded_job("Sync_1h", "kline", "sync").splitlines()
    ['sync_1h', 'kline', 'sync']
    """
    return f"{fold(name)}\n{fold(job_type)}\n{fold(job_category)}"


# --- a job, from the recorder's arguments ---------------------------------------------------------


def new_job(name: str, definition: Mapping[str, object], now_us: int) -> Job:
    """The row of a new job; columns that `definition` omits have their defaults."""
    return Job(**_defined(name, definition), last_run_us=None, created_us=now_us, updated_us=now_us)


def _defined(name: str, definition: Mapping[str, object]) -> dict[str, Any]:
    """The columns of a new job except its number, last run, creation and update."""
    columns = {**_DEFAULTS, **_columns(definition), **_timing(_NO_JOB, definition)}
    return {"name": name, "folded": folded_job(name, columns["job_type"], columns["job_category"]), **columns}


def changed_job(old: Job, definition: Mapping[str, object], now_us: int) -> Job:
    """The row after an update: columns that `definition` omits stay. Returns `old` itself if nothing changes.

    Raises:
        InvalidRecord: a value breaks its rule, or belongs to another kind of schedule.
        InvalidSchedule: the schedule can never be computed, or both kinds are given.
    """
    new = old._replace(**_columns(definition), **_timing(old, definition))
    new = new._replace(folded=folded_job(new.name, new.job_type, new.job_category))
    return old if new == old else new._replace(updated_us=now_us)


_TIMING: Final = frozenset({"schedule", "interval_seconds", "anchor_at", "next_run_at"})
_JOB_COLUMNS: Final[dict[str, Any]] = {
    "job_type": lambda value: checked_words(value, "job_type"),
    "job_category": lambda value: checked_words(value, "job_category"),
    "description": lambda value: checked_text(value, "description"),
    "parameters": lambda value: json_text(value, "parameters"),
    "timeout_seconds": checked_timeout,
    "max_instances": checked_instances,
    "enabled": lambda value: checked_flag(value, "enabled"),
}
_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(("job_type", "job_category"), ""),
    **dict.fromkeys(("description", "parameters", "timeout_seconds")),
    **dict.fromkeys(("max_instances", "enabled"), 1),
}
_NO_JOB: Final = Job("", "", "", "", None, None, None, None, None, 1, 1, None, None, None, 0, 0)


def _columns(definition: Mapping[str, object]) -> dict[str, Any]:
    """The given columns that depend on no other column."""
    return {name: _JOB_COLUMNS[name](value) for name, value in definition.items() if name not in _TIMING}


def _timing(old: Job, given: Mapping[str, object]) -> dict[str, Any]:
    """The four columns that say when a job runs. A new kind of schedule clears what belonged to the old kind."""
    schedule, interval_seconds = _schedule(old, given)
    kept = _kind(schedule, interval_seconds) is _kind(old.schedule, old.interval_seconds)
    anchor_us = optional_instant(given["anchor_at"], "anchor_at") if "anchor_at" in given else old.anchor_us
    next_run_us = optional_instant(given["next_run_at"], "next_run_at") if "next_run_at" in given else old.next_run_us
    if not kept:
        anchor_us = anchor_us if "anchor_at" in given else None
        next_run_us = next_run_us if "next_run_at" in given else None
    _check_timing(schedule, interval_seconds, anchor_us, next_run_us)
    return {
        "schedule": schedule,
        "interval_seconds": interval_seconds,
        "anchor_us": anchor_us,
        "next_run_us": next_run_us,
    }


def _schedule(old: Job, given: Mapping[str, object]) -> tuple[str | None, int | None]:
    """The cron expression and the interval. Giving one replaces the other; giving None removes only the one given."""
    expression, seconds = given.get("schedule"), given.get("interval_seconds")
    if expression is not None and seconds is not None:
        raise InvalidSchedule("A job has a schedule or interval_seconds, not both; leave one out")
    if expression is not None:
        return check_schedule(expression), None
    if seconds is not None:
        return None, checked_interval(seconds)
    return (
        None if "schedule" in given else old.schedule,
        None if "interval_seconds" in given else old.interval_seconds,
    )


def _check_timing(
    schedule: str | None, interval_seconds: int | None, anchor_us: int | None, next_run_us: int | None
) -> None:
    kind = _kind(schedule, interval_seconds)
    if anchor_us is not None and kind is not ScheduleType.INTERVAL:
        raise InvalidRecord(f"anchor_at is only for a job with interval_seconds; this job is {kind.value}")
    if next_run_us is not None and kind is not ScheduleType.EXTERNAL:
        raise InvalidRecord(
            f"next_run_at is only for an external schedule, others are computed; this job is {kind.value}"
        )


def _kind(schedule: str | None, interval_seconds: int | None) -> ScheduleType:
    if schedule is not None:
        return ScheduleType.CRON
    return ScheduleType.EXTERNAL if interval_seconds is None else ScheduleType.INTERVAL


# --- documents ------------------------------------------------------------------------------------


def job_from_document(document: object, now_us: int) -> Job:
    """The row of a job document; its number is 0 if not given.

    It needs ``name`` (or ``id``), ``job_type`` and ``job_category``. ``next_run_at`` is ignored unless the schedule is
    external. ``created_at`` defaults to ``updated_at``, then to `now_us`.
    """
    given = checked_keys(document, JOB_KEYS)
    number = given.get("number")
    name = _document_name(given)
    updated_us = optional_instant(given.get("updated_at"), "updated_at")
    created_us = optional_instant(given.get("created_at"), "created_at")
    if created_us is None:
        created_us = now_us if updated_us is None else updated_us
    definition = {key: given[key] for key in _DEFINING if key in given}
    definition.setdefault("job_type", None)
    definition.setdefault("job_category", None)
    if _document_kind(given) is ScheduleType.EXTERNAL:
        definition["next_run_at"] = given.get("next_run_at")
    return Job(
        **_defined(name, definition),
        last_run_us=optional_instant(given.get("last_run_at"), "last_run_at"),
        created_us=created_us,
        updated_us=created_us if updated_us is None else updated_us,
        number=0 if number is None else checked_number(number, "number"),
    )


_KINDS: Final = tuple(ScheduleType)
_DEFINING: Final = (*_JOB_COLUMNS, "schedule", "interval_seconds", "anchor_at")


def _document_name(given: Mapping[str, Any]) -> str:
    name = checked_name(given.get("name", given.get("id")))
    if given.get("id", name) != name:
        refuse("id", "equal to name", given["id"])
    return name


def _document_kind(given: Mapping[str, Any]) -> ScheduleType:
    """The kind of schedule that the two columns make; a ``schedule_type`` that contradicts it is refused."""
    kind = _kind(given.get("schedule"), given.get("interval_seconds"))
    said = given.get("schedule_type", kind.value)
    if said not in _KINDS:
        refuse("schedule_type", "cron, interval or external", said)
    if said != kind:
        raise InvalidSchedule(f"schedule_type is {said}, but schedule and interval_seconds make it {kind.value}")
    return kind


def execution_from_document(document: Any) -> Execution:
    """The row of an execution document.

    It needs ``status``, ``started_at`` or ``created_at``, and ``job_name`` or ``job_id`` (the loader checks these two).
    """
    get = checked_keys(document, EXECUTION_KEYS).get
    created_us = optional_instant(get("created_at"), "created_at")
    started_us = optional_instant(get("started_at"), "started_at")
    effective_us = created_us if started_us is None else started_us
    if effective_us is None:
        raise InvalidRecord("an execution needs started_at, or created_at while it has not started; both are missing")
    number, job_number, name = get("id"), get("job_id"), get("job_name")
    if name is not None and type(name) is not str:
        name = checked_name(name, "job_name")
    return Execution(
        None if number is None else checked_number(number, "id"),
        None if job_number is None else checked_number(job_number, "job_id"),
        name,
        checked_status(get("status")),
        effective_us,
        int(started_us is not None),
        effective_us if created_us is None else created_us,
        optional_instant(get("completed_at"), "completed_at"),
        checked_duration(get("duration_ms"), -LARGEST_DURATION_MS),
        checked_label(get("worker_id"), "worker_id"),
        json_text(get("parameters_snapshot"), "parameters_snapshot"),
        checked_label(get("trace_id"), "trace_id"),
        json_text(get("result"), "result"),
        checked_text(get("error"), "error"),
    )


def instant_or_now(at: object, now_us: int) -> int:
    """The instant that a caller of the recorder gave, or now."""
    return now_us if at is None else checked_instant(at, "at")

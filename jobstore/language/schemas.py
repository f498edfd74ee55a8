"""Pydantic models of the API's answers.

`Job` and `Execution` parse a document into datetimes and enums; dumped as JSON they give the document back, key by key.
The OpenAPI document takes its schemas from here. Unknown fields are ignored, so an old client can read a new server.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from jobstore.language.errors import Conflict, InvalidRecord, InvalidSchedule, JobStoreError
from jobstore.language.examples import EXECUTION, EXECUTION_PAGE, HISTOGRAM, JOB, JOB_PAGE, JOB_STATE_PAGE, STATS
from jobstore.language.models import (
    KNOWN_JOB_CATEGORIES,
    KNOWN_JOB_TYPES,
    ScheduleType,
    Status,
)
from jobstore.language.states import State  # noqa: TC001 - pydantic looks it up

__all__ = [
    "Bucket",
    "DurationStats",
    "Error",
    "Execution",
    "ExecutionPage",
    "Histogram",
    "Job",
    "JobPage",
    "JobState",
    "JobStatePage",
    "Pagination",
    "RecentRun",
    "Stats",
]

Count = Annotated[int, Field(ge=0)]
Number = Annotated[str, Field(pattern="^[0-9]+$")]


class _Answer(BaseModel):
    """The base class of answers: immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Job(_Answer):
    """The standing definition of a job: what runs, when, how often.

    >>> job = Job.model_validate(JOB)
    >>> job.schedule_type, job.next_run_at.hour
    (<ScheduleType.CRON: 'cron'>, 9)
    >>> job.model_dump(mode="json") == JOB
    True
    """

    model_config = ConfigDict(json_schema_extra={"examples": [JOB]})

    id: str = Field(description="The job's id, equal to its name.")
    job_type: str = Field(description=f"What kind of work it does; an open set. Known: {', '.join(KNOWN_JOB_TYPES)}.")
    name: str = Field(description="The job's name, unique.")
    job_category: str = Field(description=f"What it is for; an open set. Known: {', '.join(KNOWN_JOB_CATEGORIES)}.")
    description: str | None = Field(description="A description for people.")
    schedule_type: ScheduleType = Field(
        description="How its next run is known: a cron expression, an interval, or external for a schedule that "
        "another program keeps."
    )
    schedule: str | None = Field(description="The cron expression, in the store's time zone; null if there is none.")
    interval_seconds: int | None = Field(description="The seconds between two runs; null if there is no interval.")
    parameters: JsonValue = Field(description="The parameters of each run.")
    timeout_seconds: int | None = Field(description="The seconds after which a run counts as timed out.")
    max_instances: int = Field(description="How many runs may overlap; recorded, not enforced.")
    enabled: bool = Field(description="Whether the job is enabled.")
    last_run_at: AwareDatetime | None = Field(description="When the latest execution started.")
    next_run_at: AwareDatetime | None = Field(
        description="The next run strictly after now, computed when asked; null for a disabled job."
    )
    created_at: AwareDatetime = Field(description="When the job was created.")
    updated_at: AwareDatetime = Field(description="When the job was last saved or started.")


class Execution(_Answer):
    """One run of a job, with status, times and result.

    >>> execution = Execution.model_validate(EXECUTION)
    >>> execution.status, (execution.completed_at - execution.started_at).seconds
    (<Status.SUCCESS: 'SUCCESS'>, 150)
    >>> execution.model_dump(mode="json") == EXECUTION
    True
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXECUTION]})

    id: Number = Field(description="The execution's number, as text.")
    job_id: Number = Field(description="The number of its job, as text; it stays when the job is renamed or removed.")
    job_name: str = Field(description="The job's name at that time.")
    status: Status = Field(description="PENDING (waiting), RUNNING, or the outcome: SUCCESS, FAILURE or TIMEOUT.")
    started_at: AwareDatetime | None = Field(description="When it started; null while it waits.")
    completed_at: AwareDatetime | None = Field(description="When it ended; null until then.")
    duration_ms: int | None = Field(description="Milliseconds from start to end; null until it ends.")
    result: JsonValue = Field(description="What the run returned.")
    error: str | None = Field(description="The error message; null if there is none.")
    trace_id: str | None = Field(description="The id of its distributed trace, to find the run in the logs.")
    worker_id: str | None = Field(description="Which worker ran it.")
    parameters_snapshot: JsonValue = Field(description="The parameters it ran with.")
    created_at: AwareDatetime = Field(description="When the record was created.")


class Pagination(_Answer):
    """The position of a page among all matches."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_PAGE["pagination"]]})

    page: Annotated[int, Field(ge=1)] = Field(description="offset // limit + 1.")
    page_size: Annotated[int, Field(ge=1, le=1000)] = Field(description="The requested limit.")
    total: Count = Field(description="The exact number of matching records.")
    total_pages: Count = Field(description="The number of pages of this size; 0 if nothing matches.")
    has_next: bool = Field(description="Whether more records follow, at offset + limit.")
    has_prev: bool = Field(description="Whether there are records before this page.")


class JobPage(_Answer):
    """A page of jobs."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_PAGE]})

    data: list[Job]
    pagination: Pagination


class ExecutionPage(_Answer):
    """A page of executions."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXECUTION_PAGE]})

    data: list[Execution]
    pagination: Pagination


class DurationStats(_Answer):
    """Milliseconds over finished runs; null where there are none."""

    average: float | None = Field(description="The mean.")
    p50: int | None = Field(description="The smallest duration that at least half of the runs do not exceed.")
    p95: int | None = Field(description="The smallest duration that at least 95 % of the runs do not exceed.")
    max: int | None = Field(description="The longest.")


class Stats(_Answer):
    """Exact numbers over a window of the history, of one job or of all."""

    model_config = ConfigDict(json_schema_extra={"examples": [STATS]})

    job_id: str | None = Field(description="The number of the job; null for all jobs.")
    after: AwareDatetime | None = Field(description="The window's lower bound, inclusive.")
    before: AwareDatetime | None = Field(description="The window's upper bound, inclusive.")
    runs: Count = Field(description="Executions in the window, whatever their status.")
    by_status: dict[Status, Count] = Field(description="Executions by status; all statuses are included.")
    never_started: Count = Field(
        description="Finished executions that never started (missed, refused, revoked); counted in by_status only."
    )
    success_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Successes divided by runs that started and finished, 0 to 1; null where there are none."
    )
    duration_ms: DurationStats
    last_success_at: AwareDatetime | None = Field(description="The effective start of the latest success.")
    last_failure_at: AwareDatetime | None = Field(description="The effective start of the latest failure.")


class RecentRun(_Answer):
    """One of a job's newest executions."""

    id: Number = Field(description="The execution's number, as text.")
    status: Status = Field(description="Its status.")
    started_at: AwareDatetime | None = Field(description="When it started; null if it did not.")
    duration_ms: int | None = Field(description="Milliseconds from start to end; null until it ends.")


class JobState(_Answer):
    """A job's current state."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_STATE_PAGE["data"][0]]})

    job_id: Number = Field(description="The job's number, as text; it stays when the job is renamed.")
    name: str = Field(description="The job's name.")
    description: str | None = Field(description="A description for people.")
    job_type: str = Field(description="What kind of work it does.")
    job_category: str = Field(description="What it is for.")
    state: State = Field(
        description="lost: a run's process is gone, or it exceeded its timeout; late: it was due more than "
        "300 s ago and has not started; failing: the last finished execution is FAILURE or TIMEOUT; "
        "running, waiting: an execution is RUNNING or PENDING; new: it has never run; ok; disabled."
    )
    since: AwareDatetime = Field(
        description="When the state began: the missed time (late), the first failure in a row (failing), the first "
        "success after the last failure (ok), the start or creation of the execution in question."
    )
    failures_in_a_row: Count = Field(description="Failures and timeouts since the last success, whatever the state.")
    schedule: str | None = Field(description="The cron expression; null if there is none.")
    schedule_text: str = Field(description="The schedule in words, or the expression if words cannot say it exactly.")
    next_run_at: AwareDatetime | None = Field(description="The next run strictly after now.")
    last: Execution | None = Field(description="The newest execution.")
    recent: list[RecentRun] = Field(description="The newest 20 executions, oldest first.")
    success_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Successes divided by started executions, among the newest 100 finished ones; null if none started."
    )
    p50_ms: int | None = Field(description="The smallest duration that at least half of them do not exceed.")
    p95_ms: int | None = Field(description="The smallest duration that at least 95 % of them do not exceed.")


class JobStatePage(_Answer):
    """A page of job states."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_STATE_PAGE]})

    data: list[JobState]
    pagination: Pagination
    states: dict[State, Count] = Field(
        description="The number of jobs in each state, for the same search, type and category; all states are included."
    )


class Bucket(_Answer):
    """The executions of one hour or day."""

    start_at: AwareDatetime = Field(description="The start of the hour or day.")
    runs: Count = Field(description="Executions that started in it, whatever their status.")
    by_status: dict[Status, Count] = Field(description="Executions by status; all statuses are included.")


class Histogram(_Answer):
    """Counts of executions over time."""

    model_config = ConfigDict(json_schema_extra={"examples": [HISTOGRAM]})

    bucket: str = Field(description="The width of a bucket: 1h or 1d; auto only if there are no buckets.")
    timezone: str = Field(description="The time zone in which the days and hours begin.")
    after: AwareDatetime | None = Field(description="The window's lower bound, inclusive.")
    before: AwareDatetime | None = Field(description="The window's upper bound, inclusive.")
    buckets: list[Bucket] = Field(description="Oldest first, empty ones included; at most 400.")


_RAISED_BY_WRITING: Final = (Conflict, InvalidRecord, InvalidSchedule)
"""No query can raise these."""


def _codes(error: type[JobStoreError] = JobStoreError) -> list[Any]:
    """The error codes that an answer may carry, sorted, each once."""
    below = [code for child in error.__subclasses__() if child not in _RAISED_BY_WRITING for code in _codes(child)]
    return sorted({error.code, *below})


class Fault(_Answer):
    """What went wrong."""

    code: str = Field(
        description="A stable code for programs.",
        json_schema_extra={"enum": _codes(), "examples": ["NOT_FOUND"]},
    )
    message: str = Field(
        description="A message for people: the parameter, its rule, the value received and a remedy.",
        examples=["Job not found: invalid_job_name"],
    )


class Error(_Answer):
    """The body of every error."""

    error: Fault

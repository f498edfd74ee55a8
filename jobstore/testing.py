"""Stores and documents for tests: omitted fields are filled in, and time stands still.

`document` completes jobs and executions, `build` makes a store from them, `FrozenClock` is their clock. The pytest
fixtures in `jobstore.pytest_plugin` use these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jobstore.language.errors import InvalidRecord, shown
from jobstore.language.fields import LARGEST_DURATION_MS, checked_duration, checked_instant
from jobstore.language.instants import instant_datetime, instant_text, instant_us
from jobstore.language.models import FINISHED, KNOWN_JOB_CATEGORIES, KNOWN_JOB_TYPES, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobstore.language.address import Where
    from jobstore.store import JobStore

NOW: Final = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)
"""The default time of a frozen clock: the time of the job API's examples."""
APART: Final = timedelta(minutes=1)
"""The time between two executions whose times are not given; the last one listed is the newest."""
DURATION_MS: Final = 1500
"""The default duration of a finished execution."""

_DEFAULT_JOB: Final = {"job_type": KNOWN_JOB_TYPES[0], "job_category": KNOWN_JOB_CATEGORIES[1]}
_DEFAULT_SCHEDULE: Final = "0 * * * *"
_AGE: Final = timedelta(days=14)
_ERRORS: Final = {Status.FAILURE: "failed", Status.TIMEOUT: "timed out"}


# --- time ---------------------------------------------------------------------------------------


class FrozenClock:
    """A clock for `jobstore.open` and `jobstore.Recorder` that moves only when you move it.

    Examples:
        >>> clock = FrozenClock()
        >>> clock.advance(minutes=5)
        >>> clock()
        datetime.datetime(2026, 1, 15, 9, 5, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, now: datetime | str = NOW) -> None:
        self._now = _moment(now)

    def __call__(self) -> datetime:
        """The clock's time, as in `now`."""
        return self._now

    @property
    def now(self) -> datetime:
        """The clock's time, in UTC."""
        return self._now

    def advance(self, by: timedelta | None = None, **duration: float) -> None:
        """Move the clock by a `timedelta`, or by ``hours=``, ``seconds=`` and so on; a negative one moves it back."""
        self._now += (by or timedelta()) + timedelta(**duration)

    def set(self, now: datetime | str) -> None:
        """Set the clock to an aware datetime, or to text such as ``2026-01-15T08:00:00Z``."""
        self._now = _moment(now)

    def __repr__(self) -> str:
        return f"FrozenClock({instant_text(instant_us(self._now))!r})"


def _before(moment: datetime, period: timedelta) -> datetime:
    """The moment a period earlier, or the first one of the year 1."""
    return moment - min(period, moment - datetime(1, 1, 1, tzinfo=UTC))


def _moment(value: datetime | str) -> datetime:
    return instant_datetime(checked_instant(value, "now"))


# --- documents ----------------------------------------------------------------------------------


def document(
    jobs: Iterable[Mapping[str, Any] | str] = (),
    executions: Iterable[Mapping[str, Any]] = (),
    *,
    now: datetime | str = NOW,
    timezone: str = "UTC",
) -> dict[str, Any]:
    """The document for `jobstore.load`, with omitted fields filled in.

    A job may be a name, a document with the fields that matter, or ``{}``. By default it has the type ``kline`` and the
    category ``sync``, runs every hour and is two weeks old. Its last run is the latest of its executions.

    An execution needs ``job_name`` and ``status``. Without ``status`` it is a SUCCESS; without ``job_name`` it belongs
    to the only job. One without times started a minute after the one before it, the last one a minute ago, and took
    1500 ms if it has ended. A job that only executions name is added; for the history of a removed job, give a
    ``job_id``, too.

    Examples:
        >>> made = document(executions=[{"job_name": "sync_klines_1h", "status": "FAILURE"}])
        >>> made["jobs"][0]["name"], made["executions"][0]["started_at"], made["executions"][0]["error"]
        ('sync_klines_1h', '2026-01-15T08:59:00Z', 'failed')

    Raises:
        InvalidRecord: a document is not a dict, or lacks a field that cannot be guessed.
    """
    moment = _moment(now)
    if isinstance(jobs, str | Mapping):
        raise InvalidRecord(f"jobs must be a list of names and documents; received {shown(jobs)}")
    given_jobs = [_job_given(job, position) for position, job in enumerate(jobs, 1)]
    given = [dict(_mapping(execution, "an execution")) for execution in executions]
    made = [
        _execution(execution, given_jobs, _before(moment, APART * (len(given) - position)))
        for position, execution in enumerate(given)
    ]
    known = {job["name"] for job in given_jobs}
    implied = dict.fromkeys(each["job_name"] for each in made if "job_id" not in each and each["job_name"] not in known)
    made_jobs = [_job(job, made, moment) for job in [*given_jobs, *({"name": name} for name in implied)]]
    return {"timezone": timezone, "jobs": made_jobs, "executions": made}


def build(path: Where, contents: Mapping[str, Any], clock: FrozenClock) -> JobStore:
    """Load `contents` into a new store at `path` (a file or a database) and open it with this clock."""
    from jobstore.store import open as open_store
    from jobstore.transfer.dump import load  # imports the modules that write, which are slow to import

    load(path, contents)
    return open_store(path, clock=clock)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRecord(f"{what} must be a document; received {shown(value)}")
    return value


def _job_given(job: Mapping[str, Any] | str, position: int) -> dict[str, Any]:
    given = {"name": job} if isinstance(job, str) else dict(_mapping(job, "a job"))
    given.setdefault("name", given.get("id", f"job_{position}"))
    return given


def _job(given: dict[str, Any], executions: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """A job with its last run taken from its history, and the default schedule unless it has its own."""
    job = {**_DEFAULT_JOB, **given}
    if not given.keys() & {"schedule", "interval_seconds", "schedule_type", "anchor_at"}:
        job["schedule"] = _DEFAULT_SCHEDULE
    born = job.setdefault("created_at", instant_text(instant_us(_before(now, _AGE))))
    starts = [
        _us(each["started_at"]) for each in executions if each.get("started_at") and each["job_name"] == job["name"]
    ]
    job.setdefault("last_run_at", instant_text(max(starts, default=None)))
    job.setdefault("updated_at", instant_text(max([_us(born), *starts])))
    return job


def _execution(given: dict[str, Any], jobs: list[dict[str, Any]], begins: datetime) -> dict[str, Any]:
    """An execution with the times that its status requires."""
    made = {**given, "status": str.__str__(given.get("status", Status.SUCCESS)), "job_name": _job_name(given, jobs)}
    status = made["status"]
    begins_us = instant_us(begins)
    if given.get("completed_at") is not None and status in FINISHED:  # else it might end before it began
        begins_us = _us(given["completed_at"]) - (checked_duration(given.get("duration_ms", DURATION_MS)) or 0) * 1000
    made.setdefault("created_at", given.get("started_at") or instant_text(begins_us))
    if status != Status.PENDING:
        made.setdefault("started_at", made["created_at"])
    if status in FINISHED:
        _end(made)
        made.setdefault("error", _ERRORS.get(Status(status)))
    return made


def _job_name(given: Mapping[str, Any], jobs: list[dict[str, Any]]) -> str:
    if "job_name" not in given and len(jobs) != 1:
        raise InvalidRecord(f"an execution needs job_name unless there is exactly one job; received {dict(given)}")
    name = given["job_name"] if "job_name" in given else jobs[0]["name"]
    if not isinstance(name, str):
        raise InvalidRecord(f"job_name must be text; received {shown(name)}")
    return str.__str__(name)


def _end(made: dict[str, Any]) -> None:
    """Compute the completion from the duration, or the reverse; an execution that never started has no duration."""
    if made["started_at"] is None:
        made.setdefault("completed_at", made["created_at"])
        return
    started_us = _us(made["started_at"])
    if made.get("completed_at") is not None:
        made.setdefault("duration_ms", max(0, _us(made["completed_at"]) - started_us) // 1000)
    duration_ms = checked_duration(made.setdefault("duration_ms", DURATION_MS), -LARGEST_DURATION_MS)
    made.setdefault("completed_at", instant_text(started_us + (duration_ms or 0) * 1000))


def _us(value: Any) -> int:
    return checked_instant(value, "a time")

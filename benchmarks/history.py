"""The executions of the fleet over ninety days, as a stream of documents.

The jobs fire about 10.4 million times in that time; a smaller size keeps evenly spread ones of
these, so each size covers the same ninety days. All is arithmetic on the number of the firing:
the same size gives the same documents on every machine. 92 % are SUCCESS, 5 % FAILURE, 2 %
TIMEOUT, the rest RUNNING or PENDING; one start in five lies on a full minute; ids follow the
firing and starts are delayed by seconds to minutes, so ids are nearly in time order.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from benchmarks.fleet import (
    BEGIN_US,
    DAY_MINUTES,
    DAYS,
    DEAD,
    DEAD_AFTER_DAYS,
    FAILING,
    MINUTE_US,
    SUCCESSOR,
    FleetJob,
    fleet,
)
from jobstore.language.instants import MICROSECONDS, instant_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
FINGERPRINT = "1"
"""Raise it with every change of the data: stored data sets are then built again."""

_BITS = 0xFFFFFFFFFFFFFFFF
_WORKERS = tuple(f"worker-{index:02d}" for index in range(24))
_ERRORS = (
    "Connection timeout",
    "HTTP 429 from the exchange; retry after 30 s",
    "KeyError: 'close'",
    "the feed answered with an empty page",
    "disk quota exceeded on /var/lib/datahub",
)


class DayPlan:
    """Who fires in each minute of a day, and the place of the n-th firing of a day."""

    def __init__(self, jobs: tuple[FleetJob, ...]) -> None:
        slots: list[list[FleetJob]] = [[] for _ in range(DAY_MINUTES)]
        for job in jobs:
            if job.name != SUCCESSOR:  # it takes the dead job's slots
                for minute in range(job.phase, DAY_MINUTES, job.cadence.period):
                    slots[minute].append(job)
        self.slots = [_rotated(jobs, minute) for minute, jobs in enumerate(slots)]
        self.ends = list(accumulate(len(slot) for slot in self.slots))
        self.firings = self.ends[-1]

    def firing(self, number: int) -> tuple[int, FleetJob]:
        """The minute of the day and the job of firing ``number`` of a day."""
        minute = bisect_right(self.ends, number)
        return minute, self.slots[minute][number - self.ends[minute]]


def documents(size: int) -> Iterator[dict[str, Any]]:
    """``size`` executions as the job API gives them, oldest first by id, which counts from 1.

    >>> first = next(documents(100_000))
    >>> list(first)[:4], first["id"], len(first["trace_id"])
    (['id', 'job_id', 'job_name', 'status'], '1', 32)
    """
    jobs = fleet()
    plan = DayPlan(jobs)
    successor = next(job for job in jobs if job.name == SUCCESSOR)
    natural = DAYS * plan.firings
    if not 0 < size <= natural:
        raise ValueError(f"a size from 1 to {natural}")
    for index in range(size):
        h = (index + 1) * 0x9E3779B97F4A7C15 & _BITS
        h = (h ^ h >> 32) * 0xD6E8FEB86659FD93 & _BITS
        h ^= h >> 29
        day, number = divmod((index * natural + h % natural) // size, plan.firings)
        minute, job = plan.firing(number)
        if day >= DEAD_AFTER_DAYS and job.name == DEAD:
            job = successor
        yield _document(index + 1, h, job, BEGIN_US + (day * DAY_MINUTES + minute) * MINUTE_US)


def _document(number: int, h: int, job: FleetJob, minute_us: int) -> dict[str, Any]:
    """One execution; the bits of ``h`` decide everything."""
    status = _status(h % 1000, job)
    if h >> 10 & 15 < 3 or h >> 10 & 127 == 127:  # a fifth: on the full minute, at once
        created_us = started_us = minute_us
    else:
        created_us = minute_us + (h >> 12) % 900_000
        delay = 300 if h >> 50 & 63 == 0 else 8
        started_us = created_us + (h >> 16) % (delay * MICROSECONDS)
    started: int | None = started_us
    duration: int | None = None
    completed: int | None = None
    if status == "PENDING":
        started = None
    elif status != "RUNNING":
        duration = job.timeout_seconds * 1000 if status == "TIMEOUT" else job.base_ms * (512 + (h >> 33 & 1023)) // 512
        completed = started_us + duration * 1000
    return {
        "id": str(number),
        "job_id": str(job.number),
        "job_name": job.name,
        "status": status,
        "started_at": None if started is None else _text(started),
        "completed_at": None if completed is None else _text(completed),
        "duration_ms": duration,
        "result": _result(status, h),
        "error": _ERRORS[h % 5] if status == "FAILURE" else None,
        "trace_id": f"{h:016x}{h * 0xA24BAED4963EE407 & _BITS:016x}",
        "worker_id": None if started is None else _WORKERS[(h >> 44) % 24],
        "parameters_snapshot": job.parameters if minute_us < _CHANGE_US else job.later_parameters,
        "created_at": _text(created_us),
    }


_CHANGE_US = BEGIN_US + DAYS // 2 * DAY_MINUTES * MINUTE_US
"""When every seventh job got other parameters."""


def _text(us: int) -> str:
    """What `instant_text` gives, three times as fast where most instants share few minutes."""
    minute, rest = divmod(us, MINUTE_US)
    second, fraction = divmod(rest, MICROSECONDS)
    if fraction:
        return f"{_minute_text(minute)}{second:02d}.{fraction:06d}Z"
    return f"{_minute_text(minute)}{second:02d}Z"


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return str(instant_text(minute * MINUTE_US))[:17]


def _status(permille: int, job: FleetJob) -> str:
    if job.name == FAILING:
        return "FAILURE" if permille < 900 else "SUCCESS"
    if permille < 920:
        return "SUCCESS"
    if permille < 970:
        return "FAILURE"
    if permille < 990:
        return "TIMEOUT"
    return "RUNNING" if permille < 995 else "PENDING"


def _result(status: str, h: int) -> dict[str, Any] | None:
    """About 150 bytes of JSON for a run that ended by itself."""
    if status == "SUCCESS":
        processed = (h >> 7) % 5000
        return {
            "processed": processed,
            "inserted": processed * 9 // 10,
            "updated": processed - processed * 9 // 10,
            "skipped": h >> 60,
            "bytes": (h >> 3) % 90_000_000,
            "checkpoint": f"{h >> 24:010x}",
            "source": "rest" if h & 1 else "websocket",
            "warnings": [],
        }
    if status == "FAILURE":
        return {"error_message": _ERRORS[h % 5], "attempts": 1 + h % 3, "processed": 0, "checkpoint": f"{h >> 24:010x}"}
    return None


def _rotated(jobs: list[FleetJob], minute: int) -> tuple[FleetJob, ...]:
    """The same jobs from another one on, so that none always comes first."""
    cut = minute * 7919 % len(jobs)
    return (*jobs[cut:], *jobs[:cut])

"""The data: ten thousand scheduled jobs and their executions over ninety days, the same on every machine.

All is arithmetic on numbers. The jobs fire about 10.4 million times; a smaller size keeps evenly spread ones of these,
so each size covers the same ninety days. ``README.md`` says what shares the data has; a test holds them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any

from jobstore.language.instants import MICROSECONDS, instant_text, instant_us

SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
FINGERPRINT = "1"
"""Raise it with every change of the data: stored data sets are then built again."""
DAYS, DEAD_AFTER_DAYS = 90, 30
"""The dead job's last day is the thirtieth; its successor fires in its place from then on."""
DAY_MINUTES = 1440
MINUTE_US = 60 * MICROSECONDS
DAY_US = DAY_MINUTES * MINUTE_US
END_US = instant_us(datetime(2026, 11, 1, tzinfo=UTC))
BEGIN_US = END_US - DAYS * DAY_US

DENSE, SPARSE, FAILED = "kline", "quasar", "failed"
DEAD, SUCCESSOR = "sync_orders_dead_0048", "sync_orders_dead_0048_v2"
SLOW, FAILING = "rebuild_ledger_slow", "poll_flaky_feed"

_MIX, _BITS = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF
_TYPES = ("symbol", "balance", "order", "fill", "transfer", "ticker", "orderbook")
_CATEGORIES = ("sync", "monitor", "backfill", "cleanup")
_EXCHANGES = ("BNC", "OKX", "GIO", "KRK", "BYB", "CBS", "HTX", "BFX")
_ERRORS = (
    "Connection timeout",
    "HTTP 429 from the exchange; retry after 30 s",
    "KeyError: 'close'",
    "the feed answered with an empty page",
    "disk quota exceeded on /var/lib/datahub",
)
_CADENCES = {1: (50, 11), 10: (200, 60), 60: (300, 90), DAY_MINUTES: (9450, 2839)}
"""Minutes between two runs -> how many of ten thousand jobs, and how many of these have the dense term."""
_SPECIAL = {
    (1, 48): DEAD,
    (1, 49): SUCCESSOR,
    (10, 190): SLOW,
    (10, 191): FAILING,
    (10, 192): "retry_failed_orders_bnc",
    (60, 290): "retry_failed_fills_okx",
    (DAY_MINUTES, 9001): "report_failed_transfers",
    (DAY_MINUTES, 9002): "cleanup_FAILED_uploads",
    (DAY_MINUTES, 9003): "archive_failed_runs",
    (10, 193): "scan_quasar_feed",
    (60, 291): "sync_quasar_book",
    (60, 292): "check_quasar_lag",
}
"""(period, rank) -> name, for the jobs that a query or a test asks for by name."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its document, and what its executions need besides. It fires at ``phase`` minutes into its period."""

    number: int
    name: str
    period: int
    phase: int
    base_ms: int
    earlier_parameters: dict[str, Any]
    document: dict[str, Any]


@lru_cache(maxsize=2)
def fleet(count: int = 10_000) -> tuple[Job, ...]:
    """``count`` jobs in the order of their numbers; the cadences keep their shares.

    >>> jobs = fleet()
    >>> len(jobs), sum(DENSE in job.name for job in jobs), sum(SPARSE in job.name for job in jobs)
    (10000, 2997, 3)
    """
    ranked = [(period, rank) for period, (share, _) in _CADENCES.items() for rank in range(share * count // 10_000)]
    ranked.sort(key=lambda pair: _hash(pair[0] * 1_000_003 + pair[1]))
    return tuple(_job(number, period, rank) for number, (period, rank) in enumerate(ranked, start=1))


def job_documents(count: int = 10_000) -> Iterator[dict[str, Any]]:
    """The jobs as the job API gives them, in the order of their numbers."""
    return (job.document for job in fleet(count))


def _job(number: int, period: int, rank: int) -> Job:
    h = _hash(number)
    share, dense = _CADENCES[period]
    special = _SPECIAL.get((period, rank))
    is_dense = special is None and rank % share * dense % share < dense
    job_type = DENSE if is_dense else _TYPES[h % len(_TYPES)]
    category = _CATEGORIES[(h >> 8) % len(_CATEGORIES)]
    name = special or f"{category}_{job_type}s_{_EXCHANGES[(h >> 16) % 8].lower()}_{period}m_{rank:05d}"
    phase = rank * 28 % DAY_MINUTES if period == DAY_MINUTES else rank % period  # 360 expressions of daily jobs
    last_run = instant_text(END_US - (period - phase) * MINUTE_US)
    interval = rank // 7 % 5 == 4
    document = {
        "id": name,
        "job_type": job_type,
        "name": name,
        "job_category": category,
        "description": f"{category} of {job_type} data, kept by team {number % 17}",
        "schedule_type": "interval" if interval else "cron",
        "schedule": None if interval else _expression(period, phase),
        "interval_seconds": period * 60 if interval else None,
        "parameters": _parameters(h, 500 if number % 7 == 0 else 200),
        "timeout_seconds": 7200 if special == SLOW else (60, 300, 300, 600)[(h >> 40) % 4],
        "max_instances": 1 + number % 3,
        "enabled": special != DEAD and h % 50 != 0,
        "last_run_at": last_run,
        "next_run_at": None,
        "created_at": instant_text(BEGIN_US - number * _MIX % (30 * DAY_MINUTES) * MINUTE_US),
        "updated_at": last_run,
    }
    base_ms = 1_800_000 if special == SLOW else 40 + ((h >> 20) % 250) ** 2 // 4
    return Job(number, name, period, phase, base_ms, _parameters(h, 200), document)


def _expression(period: int, phase: int) -> str:
    """The cron expression that fires at ``phase`` minutes into the period."""
    if period == DAY_MINUTES:
        return f"{phase % 60} {phase // 60} * * *"
    return {1: "* * * * *", 10: f"{phase}-59/10 * * * *", 60: f"{phase} * * * *"}[period]


def _parameters(h: int, batch: int) -> dict[str, Any]:
    """About 150 bytes of JSON."""
    return {
        "exchanges": [_EXCHANGES[(h >> shift) % 8] for shift in (3, 9, 15)],
        "intervals": [("1m", "5m", "1h", "1d")[(h >> 21) % 4]],
        "batch_size": batch,
        "region": ("eu-west", "us-east", "ap-south", "ap-north")[(h >> 25) % 4],
        "dry_run": False,
        "retry": {"limit": h % 5, "backoff_seconds": 30},
    }


def documents(size: int) -> Iterator[dict[str, Any]]:
    """``size`` executions as the job API gives them, oldest first by id, which counts from 1.

    >>> first = next(documents(100_000))
    >>> list(first)[:4], first["id"], len(first["trace_id"])
    (['id', 'job_id', 'job_name', 'status'], '1', 32)
    """
    successor = next(job for job in fleet() if job.name == SUCCESSOR)
    slots = _slots()
    ends = list(accumulate(map(len, slots)))
    natural = DAYS * ends[-1]
    if not 0 < size <= natural:
        raise ValueError(f"a size from 1 to {natural}")
    for index in range(size):
        h = _hash(index)
        day, number = divmod((index * natural + h % natural) // size, ends[-1])
        minute = bisect_right(ends, number)
        job = slots[minute][number - ends[minute]]  # counted from the end of the minute's jobs
        if day >= DEAD_AFTER_DAYS and job.name == DEAD:
            job = successor
        yield _document(index + 1, h, job, BEGIN_US + (day * DAY_MINUTES + minute) * MINUTE_US)


def _slots() -> list[list[Job]]:
    """Who fires in each minute of a day; each minute begins with another job, so that none always comes first."""
    slots: list[list[Job]] = [[] for _ in range(DAY_MINUTES)]
    for job in fleet():
        if job.name != SUCCESSOR:  # it takes the dead job's slots
            for minute in range(job.phase, DAY_MINUTES, job.period):
                slots[minute].append(job)
    cuts = [minute * 7919 % len(jobs) for minute, jobs in enumerate(slots)]
    return [jobs[cut:] + jobs[:cut] for cut, jobs in zip(cuts, slots, strict=True)]


def _document(number: int, h: int, job: Job, minute_us: int) -> dict[str, Any]:
    """One execution; the bits of ``h`` decide everything."""
    status = _status(h % 1000, job)
    if h >> 10 & 15 < 3 or h >> 10 & 127 == 127:  # a fifth: on the full minute, at once
        created_us = started_us = minute_us
    else:
        created_us = minute_us + (h >> 12) % 900_000
        started_us = created_us + (h >> 16) % ((300 if h >> 50 & 63 == 0 else 8) * MICROSECONDS)
    started, ended = status != "PENDING", status not in ("PENDING", "RUNNING")
    duration = job.base_ms * (512 + (h >> 33 & 1023)) // 512
    if status == "TIMEOUT":
        duration = job.document["timeout_seconds"] * 1000
    is_early = minute_us < BEGIN_US + DAYS // 2 * DAY_US
    return {
        "id": str(number),
        "job_id": str(job.number),
        "job_name": job.name,
        "status": status,
        "started_at": instant_text(started_us) if started else None,
        "completed_at": instant_text(started_us + duration * 1000) if ended else None,
        "duration_ms": duration if ended else None,
        "result": _result(status, h),
        "error": _ERRORS[h % 5] if status == "FAILURE" else None,
        "trace_id": trace_id(number - 1),
        "worker_id": f"worker-{(h >> 44) % 24:02d}" if started else None,
        "parameters_snapshot": job.earlier_parameters if is_early else job.document["parameters"],
        "created_at": instant_text(created_us),
    }


def trace_id(index: int) -> str:
    """The trace of the execution whose id is one more."""
    h = _hash(index)
    return f"{h:016x}{h * 0xA24BAED4963EE407 & _BITS:016x}"


def _status(permille: int, job: Job) -> str:
    if job.name == FAILING:
        return "FAILURE" if permille < 900 else "SUCCESS"
    bounds = ((920, "SUCCESS"), (970, "FAILURE"), (990, "TIMEOUT"), (995, "RUNNING"), (1000, "PENDING"))
    return next(status for bound, status in bounds if permille < bound)


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


def _hash(value: int) -> int:
    """Sixty-four well mixed bits."""
    value = (value + 1) * _MIX & _BITS
    value = (value ^ value >> 32) * 0xD6E8FEB86659FD93 & _BITS
    return value ^ value >> 29

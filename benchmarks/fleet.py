"""Ten thousand scheduled jobs, the same ones each time: who they are and when they fire.

Fifty fire each minute, two hundred every ten minutes, three hundred each hour, the rest once a
day; one in five keeps an interval, the others share 431 distinct cron expressions. The names
hold a dense term (30 % of the jobs, a quarter of the executions), a sparse one (three jobs) and
five times ``failed``. Four jobs are there to skew the data: one dead for two months, its successor,
one that is always slow and one that nearly always fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jobstore.language.instants import MICROSECONDS, instant_text, instant_us

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = 90
DEAD_AFTER_DAYS = 30
"""The dead job's last day; its successor fires in its place from then on."""
DAY_MINUTES = 1440
MINUTE_US = 60 * MICROSECONDS
END_US = instant_us(datetime(2026, 11, 1, tzinfo=UTC))
BEGIN_US = END_US - DAYS * DAY_MINUTES * MINUTE_US

DENSE = "kline"
SPARSE = "quasar"
FAILED = "failed"
DEAD = "sync_orders_dead_0048"
SUCCESSOR = "sync_orders_dead_0048_v2"
SLOW = "rebuild_ledger_slow"
FAILING = "poll_flaky_feed"

_MIX = 0x9E3779B97F4A7C15
_TYPES = ("symbol", "balance", "order", "fill", "transfer", "ticker", "orderbook")
_CATEGORIES = ("sync", "monitor", "backfill", "cleanup")
_EXCHANGES = ("BNC", "OKX", "GIO", "KRK", "BYB", "CBS", "HTX", "BFX")
_PLACES = ("eu-west", "us-east", "ap-south", "ap-north")
_DAILY_STEP = 4
"""Daily jobs fire at every fourth minute of the day: 360 expressions."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often a class of jobs fires, and how many of ten thousand belong to it."""

    period: int
    share: int
    dense: int

    def expression(self, phase: int) -> str:
        """The cron expression that fires at ``phase`` minutes into the period."""
        if self.period == 1:
            return "* * * * *"
        if self.period == 10:
            return f"{phase}-59/10 * * * *"
        if self.period == 60:
            return f"{phase} * * * *"
        return f"{phase % 60} {phase // 60} * * *"

    def phase(self, rank: int) -> int:
        """The minute into the period of the job with this rank in its class."""
        if self.period == DAY_MINUTES:
            return rank * _DAILY_STEP * 7 % DAY_MINUTES
        return rank % self.period


CADENCES = (Cadence(1, 50, 11), Cadence(10, 200, 60), Cadence(60, 300, 90), Cadence(DAY_MINUTES, 9450, 2839))
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
class FleetJob:
    """One job, with what the generator of its executions needs to know."""

    number: int
    name: str
    job_type: str
    cadence: Cadence
    phase: int
    category: str
    parameters: dict[str, Any]
    later_parameters: dict[str, Any]
    base_ms: int
    timeout_seconds: int
    interval: bool
    enabled: bool

    def document(self) -> dict[str, Any]:
        """The job as the job API gives it, its sixteen fields in order."""
        created = BEGIN_US - (self.number * _MIX % (30 * DAY_MINUTES)) * MINUTE_US
        last_run = END_US - (self.cadence.period - self.phase) * MINUTE_US
        return {
            "id": self.name,
            "job_type": self.job_type,
            "name": self.name,
            "job_category": self.category,
            "description": f"{self.category} of {self.job_type} data, kept by team {self.number % 17}",
            "schedule_type": "interval" if self.interval else "cron",
            "schedule": None if self.interval else self.cadence.expression(self.phase),
            "interval_seconds": self.cadence.period * 60 if self.interval else None,
            "parameters": self.later_parameters,
            "timeout_seconds": self.timeout_seconds,
            "max_instances": 1 + self.number % 3,
            "enabled": self.enabled,
            "last_run_at": instant_text(last_run),
            "next_run_at": None,
            "created_at": instant_text(created),
            "updated_at": instant_text(last_run),
        }


@lru_cache(maxsize=2)
def fleet(count: int = 10_000) -> tuple[FleetJob, ...]:
    """``count`` jobs in the order of their numbers; the classes keep their shares.

    >>> jobs = fleet()
    >>> len(jobs), sum(DENSE in job.name for job in jobs), sum(SPARSE in job.name for job in jobs)
    (10000, 2997, 3)
    """
    ranked = [(cadence, rank) for cadence in CADENCES for rank in range(cadence.share * count // 10_000)]
    ranked.sort(key=lambda pair: _hash(pair[0].period * 1_000_003 + pair[1]))
    return tuple(_job(number, cadence, rank) for number, (cadence, rank) in enumerate(ranked, start=1))


def documents(count: int = 10_000) -> Iterator[dict[str, Any]]:
    """The jobs as the job API gives them, in the order of their numbers."""
    return (job.document() for job in fleet(count))


def _job(number: int, cadence: Cadence, rank: int) -> FleetJob:
    h = _hash(number)
    special = _SPECIAL.get((cadence.period, rank))
    dense = special is None and _is_dense(cadence, rank)
    job_type = DENSE if dense else _TYPES[h % len(_TYPES)]
    category = _CATEGORIES[(h >> 8) % len(_CATEGORIES)]
    slow = special == SLOW
    return FleetJob(
        number=number,
        name=special or f"{category}_{job_type}s_{_EXCHANGES[(h >> 16) % 8].lower()}_{cadence.period}m_{rank:05d}",
        job_type=job_type,
        cadence=cadence,
        phase=cadence.phase(rank),
        category=category,
        parameters=_parameters(h, 200),
        later_parameters=_parameters(h, 500 if number % 7 == 0 else 200),
        base_ms=1_800_000 if slow else 40 + ((h >> 20) % 250) ** 2 // 4,
        timeout_seconds=7200 if slow else (60, 300, 300, 600)[(h >> 40) % 4],
        interval=rank // 7 % 5 == 4,
        enabled=special != DEAD and h % 50 != 0,
    )


def _is_dense(cadence: Cadence, rank: int) -> bool:
    """Spreads ``cadence.dense`` of each ``cadence.share`` ranks evenly."""
    return rank % cadence.share * cadence.dense % cadence.share < cadence.dense


def _parameters(h: int, batch: int) -> dict[str, Any]:
    """About 150 bytes of JSON."""
    return {
        "exchanges": [_EXCHANGES[(h >> shift) % 8] for shift in (3, 9, 15)],
        "intervals": [("1m", "5m", "1h", "1d")[(h >> 21) % 4]],
        "batch_size": batch,
        "region": _PLACES[(h >> 25) % 4],
        "dry_run": False,
        "retry": {"limit": h % 5, "backoff_seconds": 30},
    }


def _hash(value: int) -> int:
    """Sixty-four well mixed bits."""
    value = (value + 1) * _MIX & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 32) * 0xD6E8FEB86659FD93 & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 29

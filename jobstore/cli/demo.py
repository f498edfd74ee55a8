"""A realistic store for a first look: sixteen jobs and four weeks of their runs, as documents for `load`.

Pure: the same time and seed give the same documents. The jobs are those of a market-data service, in the job API's
types and categories. Each shows one situation: healthy, flaky, slow, failing since yesterday, overdue, disabled, never
run, running now, queued, lost, scheduled by another program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from jobstore.language.instants import MICROSECONDS, instant_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, HOUR, DAY = 60, 3_600, 86_400
HISTORY_DAYS = 28
SEED = 7
RUNNING_SECONDS = 432
"""How long the current run of the job with `Plan.runs_now` has been running."""
EXCHANGES = ("BNC", "OKX", "GIO")
WORKERS = ("worker-01", "worker-02", "worker-03", "worker-04")
MONDAY = 4 * DAY
"""The first Monday of the epoch, in seconds: 1970 began on a Thursday."""

ERRORS = (
    "Connection timeout",
    "HTTP 429 Too Many Requests: OKX asks to wait 30 s",
    "HTTP 502 Bad Gateway from BNC",
    "Connection reset by peer (GIO)",
    "交易所 OKX 维护中，请稍后重试",
)
GAP_ERRORS = ("Order book of BTC-USDT on GIO has a gap: expected 88214, got 88219", "OKX 深度数据校验和不一致")


@dataclass(frozen=True, slots=True)
class Plan:
    """A job of the demo and the pattern of its runs.

    Attributes:
        every: seconds between starts. Together with `offset` (seconds after midnight or Monday, UTC), `weekdays` and
            `hours`, it gives the times of the job's schedule.
        typical_ms: the median duration; `spread` is the standard deviation of the duration's logarithm.
        failing: the share of runs that fail.
        timing_out: the share of runs that time out.
        errors: the error messages of failed runs.
        failing_hours: every run of the last N hours failed, with the first of `errors`.
        silent_days: no run started in the last N days.
        runs_now: the latest run is still running.
        never_ran: the job is new and has no runs.
        stuck: the unfinished status of the latest run: ``RUNNING`` if its process was lost, or ``PENDING``.
        stuck_seconds: the minimum age of that run.
    """

    name: str
    job_type: str
    job_category: str
    description: str
    every: int
    offset: int = 0
    schedule: str | None = None
    interval_seconds: int | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    timeout_seconds: int | None = 300
    enabled: bool = True
    weekdays: frozenset[int] = frozenset(range(7))
    hours: frozenset[int] = frozenset(range(24))
    typical_ms: int = 2_000
    spread: float = 0.25
    failing: float = 0.004
    timing_out: float = 0.0
    errors: tuple[str, ...] = ERRORS
    failing_hours: int = 0
    silent_days: int = 0
    runs_now: bool = False
    never_ran: bool = False
    stuck: str | None = None
    stuck_seconds: int = 0


_ALL = (("exchanges", list(EXCHANGES)),)

PLANS: tuple[Plan, ...] = (
    Plan(
        "sync_klines_1h", "kline", "sync", "Sync 1-hour klines from all exchanges", HOUR, schedule="0 * * * *",
        parameters=(("intervals", ["1h"]), *_ALL), typical_ms=148_000, spread=0.12, failing=0.015,
    ),
    Plan(
        "sync_symbols_all", "symbol", "sync", "Sync trading symbols from all exchanges", DAY, schedule="0 0 * * *",
        parameters=_ALL, timeout_seconds=600, typical_ms=61_000, failing=0.1,
    ),
    Plan(
        "sync_tickers_5m", "ticker", "sync", "行情快照，每 5 分钟一次", 5 * MINUTE, interval_seconds=5 * MINUTE,
        parameters=_ALL, timeout_seconds=60, typical_ms=1_800,
    ),
    Plan(
        "sync_balances", "balance", "sync", "同步所有账户余额", 15 * MINUTE, schedule="*/15 * * * *",
        parameters=(("accounts", "all"),), timeout_seconds=120, typical_ms=4_200, failing_hours=18,
        errors=("HTTP 401 Unauthorized: the API key for BNC has expired", *ERRORS),
    ),
    Plan(
        "sync_orders_open", "order", "sync", "Sync open orders; slow when the market moves", 30 * MINUTE,
        schedule="*/30 * * * *", parameters=_ALL, typical_ms=96_000, spread=0.45, timing_out=0.02,
    ),
    Plan(
        "sync_fills", "fill", "sync", "成交记录增量同步", 30 * MINUTE, 5 * MINUTE, schedule="5,35 * * * *",
        parameters=_ALL, typical_ms=12_500, stuck="RUNNING", stuck_seconds=40 * MINUTE,
    ),
    Plan(
        "sync_transfers", "transfer", "sync", "Deposits, withdrawals and transfers between accounts", 2 * HOUR,
        20 * MINUTE, schedule="20 */2 * * *", typical_ms=33_000, failing=0.02, stuck="PENDING",
    ),
    Plan(
        "sync_indexes", "symbol", "sync", "指数成分更新，由交易日历触发", 30 * DAY,
        parameters=_ALL, timeout_seconds=None, typical_ms=74_000, failing=0,
    ),
    Plan(
        "monitor_depth", "orderbook", "monitor", "Compare order books with the exchanges' checksums; flaky",
        10 * MINUTE, schedule="*/10 * * * *", timeout_seconds=60, typical_ms=2_600, failing=0.06,
        errors=GAP_ERRORS,
    ),
    Plan(
        "monitor_klines", "kline", "monitor", "Look for missing klines in office hours", HOUR,
        schedule="0 9-17 * * 1-5", weekdays=frozenset(range(5)), hours=frozenset(range(9, 18)), timeout_seconds=60,
        typical_ms=900, failing=0.01, errors=("3 klines of ETH-USDT 1m are missing on GIO", *ERRORS),
    ),
    Plan(
        "monitor_balances", "balance", "monitor", "余额偏差监控", HOUR, 45 * MINUTE, schedule="45 * * * *",
        timeout_seconds=120, typical_ms=5_400, silent_days=3,
    ),
    Plan(
        "monitor_tickers", "ticker", "monitor", "Added today: alert when tickers fall behind", 7 * DAY, 6 * HOUR,
        schedule="0 6 * * 1", timeout_seconds=30, never_ran=True,
    ),
    Plan(
        "backfill_fills", "fill", "backfill", "历史成交回填，每 6 小时一批", 6 * HOUR, interval_seconds=6 * HOUR,
        parameters=(("days_per_run", 30),), timeout_seconds=2 * HOUR, typical_ms=1_500_000, spread=0.3, failing=0.03,
        runs_now=True,
    ),
    Plan(
        "backfill_archive", "transfer", "backfill", "Transfers of 2024; done, so switched off", DAY, 2 * HOUR,
        schedule="0 2 * * *", parameters=(("year", 2024),), timeout_seconds=HOUR, enabled=False, typical_ms=940_000,
        silent_days=12,
    ),
    Plan(
        "cleanup_depth", "orderbook", "cleanup", "Delete order book snapshots older than 30 days", DAY, 3 * HOUR,
        schedule="0 3 * * *", parameters=(("keep_days", 30),), timeout_seconds=HOUR, typical_ms=412_000, failing=0,
    ),
    Plan(
        "cleanup_orders", "order", "cleanup", "清理一周前的失效订单", 7 * DAY, 6 * DAY + 4 * HOUR, schedule="0 4 * * 0",
        parameters=(("keep_days", 7),), timeout_seconds=HOUR, typical_ms=88_000, failing=0,
    ),
)  # fmt: skip


def document(now_us: int, seed: int = SEED) -> dict[str, Any]:
    """Return the store's document for `jobstore.load`: about 20,000 executions, the last one moments ago.

    >>> first, second = document(1_768_464_000_000_000)["jobs"][:2]
    >>> first["name"], second["name"], first["last_run_at"][:19]
    ('sync_klines_1h', 'sync_symbols_all', '2026-01-15T07:00:00')
    """
    histories = [list(_runs(plan, number, now_us, seed)) for number, plan in enumerate(PLANS, 1)]
    runs = sorted((run for history in histories for run in history), key=lambda run: (run["created_us"], run["job_id"]))
    return {
        "timezone": "UTC",
        "jobs": [_job(plan, history, now_us) for plan, history in zip(PLANS, histories, strict=True)],
        "executions": [_execution(run, str(number)) for number, run in enumerate(runs, 1)],
    }


def starts(plan: Plan, now_us: int) -> Iterator[int]:
    """Yield the job's start times within the history, in seconds, oldest first."""
    if plan.never_ran:
        return
    now = now_us // MICROSECONDS
    end = now - max(plan.silent_days * DAY, plan.stuck_seconds)
    at = _first(plan, now)
    while at < end:
        if _is_due(plan, at):
            yield at
        at += plan.every


def _first(plan: Plan, now: int) -> int:
    """Return the job's first start time within the history; an external job's comes four days in."""
    if plan.runs_now:
        return now - RUNNING_SECONDS - HISTORY_DAYS * DAY // plan.every * plan.every + plan.every
    if plan.schedule is None and plan.interval_seconds is None:
        return (now // DAY - HISTORY_DAYS + 4) * DAY + 16 * HOUR
    begin, origin = now - HISTORY_DAYS * DAY, (MONDAY if plan.every == 7 * DAY else 0) + plan.offset
    return begin + (origin - begin) % plan.every


def _is_due(plan: Plan, at: int) -> bool:
    return (at - MONDAY) // DAY % 7 in plan.weekdays and at // HOUR % 24 in plan.hours


def _runs(plan: Plan, number: int, now_us: int, seed: int) -> Iterator[dict[str, Any]]:
    random = Random(f"{seed} {plan.name}")  # noqa: S311 - demo data, reproducible on purpose
    due = list(starts(plan, now_us))
    for at in due:
        created_us = at * MICROSECONDS
        started_us = created_us + random.randrange(40_000, 900_000)
        if started_us < now_us:
            run = _run(plan, number, random, (created_us, started_us), now_us)
            yield run | _stuck(plan) if at == due[-1] else run


def _stuck(plan: Plan) -> dict[str, Any]:
    """Return the fields in which an unfinished run differs; a waiting one has no worker either."""
    if plan.stuck is None:
        return {}
    began = {"started_us": None, "worker_id": None} if plan.stuck == "PENDING" else {}
    return {"status": plan.stuck, "duration_ms": None, "result": None, "error": None} | began


def _run(plan: Plan, number: int, random: Random, moments: tuple[int, int], now_us: int) -> dict[str, Any]:
    created_us, started_us = moments
    run = {"job_id": number, "plan": plan, "created_us": created_us, "started_us": started_us}
    run |= {"trace_id": f"{random.getrandbits(48):012x}", "worker_id": random.choice(WORKERS)}
    status, error = _end(plan, random, (now_us - created_us) / MICROSECONDS)
    duration_ms = _duration_ms(plan, status, random)
    if plan.runs_now and now_us - created_us < plan.every * MICROSECONDS:
        return run | {"status": "RUNNING", "duration_ms": None, "result": None, "error": None}
    if started_us + duration_ms * 1_000 > now_us:  # it would still be running: shorten it
        duration_ms = max(1, (now_us - started_us) * 9 // 10_000)
        status, error = ("FAILURE", error) if status == "FAILURE" else ("SUCCESS", None)
    result = {"error_message": error} if status == "FAILURE" else _result(plan, random)
    return run | {
        "status": status,
        "duration_ms": duration_ms,
        "result": None if status == "TIMEOUT" else result,
        "error": error,
    }


def _end(plan: Plan, random: Random, age_seconds: float) -> tuple[str, str | None]:
    if age_seconds < plan.failing_hours * HOUR:
        return "FAILURE", plan.errors[0]
    chance = random.random()
    if chance < plan.timing_out:
        return "TIMEOUT", f"Exceeded the timeout of {plan.timeout_seconds} s; the worker was stopped"
    if chance < plan.timing_out + plan.failing:
        return "FAILURE", random.choice(plan.errors[1:] if plan.failing_hours else plan.errors)
    return "SUCCESS", None


def _duration_ms(plan: Plan, status: str, random: Random) -> int:
    usual = math.exp(random.gauss(math.log(plan.typical_ms), plan.spread))
    most = (plan.timeout_seconds or DAY) * 1_000
    if status == "TIMEOUT":
        return most + random.randrange(5, 60)
    if status == "FAILURE":
        return max(20, int(usual * random.uniform(0.1, 0.9)))
    return int(min(usual, most * 0.97))


def _result(plan: Plan, random: Random) -> dict[str, int]:
    if plan.job_category == "monitor":
        return {"checked": random.randrange(180, 240), "alerts": 0}
    if plan.job_category == "cleanup":
        deleted = random.randrange(20_000, 90_000)
        return {"deleted": deleted, "freed_mb": deleted // 310}
    processed = random.randrange(400, 600)
    inserted = processed * random.randrange(80, 95) // 100
    return {"processed": processed, "inserted": inserted, "updated": processed - inserted}


def _execution(run: dict[str, Any], number: str) -> dict[str, Any]:
    duration_ms = run["duration_ms"]
    return {
        "id": number,
        "job_id": str(run["job_id"]),
        "job_name": run["plan"].name,
        "status": run["status"],
        "started_at": instant_text(run["started_us"]),
        "completed_at": None if duration_ms is None else instant_text(run["started_us"] + duration_ms * 1_000),
        "duration_ms": duration_ms,
        "result": run["result"],
        "error": run["error"],
        "trace_id": run["trace_id"],
        "worker_id": run["worker_id"],
        "parameters_snapshot": dict(run["plan"].parameters),
        "created_at": instant_text(run["created_us"]),
    }


def _job(plan: Plan, history: list[dict[str, Any]], now_us: int) -> dict[str, Any]:
    day_us = DAY * MICROSECONDS
    age_us = 2 * HOUR * MICROSECONDS if plan.never_ran else 120 * day_us
    created_us = (now_us - age_us) // (MINUTE * MICROSECONDS) * MINUTE * MICROSECONDS
    last_us = next((run["started_us"] for run in reversed(history) if run["started_us"]), None)
    is_external = plan.schedule is None and plan.interval_seconds is None
    return {
        "id": plan.name,
        "job_type": plan.job_type,
        "name": plan.name,
        "job_category": plan.job_category,
        "description": plan.description,
        "schedule_type": "external" if is_external else "cron" if plan.schedule else "interval",
        "schedule": plan.schedule,
        "interval_seconds": plan.interval_seconds,
        "parameters": dict(plan.parameters),
        "timeout_seconds": plan.timeout_seconds,
        "max_instances": 1,
        "enabled": plan.enabled,
        "last_run_at": instant_text(last_us),
        "next_run_at": instant_text((now_us // day_us + 6) * day_us + 16 * HOUR * MICROSECONDS)
        if is_external
        else None,
        "created_at": instant_text(created_us),
        "updated_at": instant_text(last_us or created_us),
        "anchor_at": instant_text(history[-1]["created_us"]) if plan.interval_seconds else None,
    }

"""A history made to be awkward: ties, nulls, names in other scripts, a dead job, one always slow, one always failing."""

from __future__ import annotations

import random
from typing import Any

from jobstore.language.instants import instant_text

BASE_US = 1_760_000_000_000_000
HOUR_US = 3_600_000_000
DAYS = 20
JOBS = 40


def jobs(source: random.Random) -> list[dict[str, Any]]:
    documents = []
    for number in range(1, JOBS + 1):
        kind = source.random()
        stem = source.choice(["sync", "kline", "failed", "Straße", "时间", "clean"])
        document: dict[str, Any] = {
            "number": number,
            "name": f"{stem}_{source.choice('abc')}_{number}",
            "job_type": source.choice(["kline", "symbol", "Symbol"]),
            "job_category": source.choice(["sync", "cleanup"]),
            "description": source.choice([None, "x", "y"]),
            "schedule_type": "cron" if kind < 0.6 else "interval" if kind < 0.9 else "external",
            "schedule": source.choice(["0 * * * *", "*/5 * * * *", "0 0 * * *", "@daily"]) if kind < 0.6 else None,
            "interval_seconds": source.choice([60, 300, 86_400]) if 0.6 <= kind < 0.9 else None,
            "parameters": {},
            "timeout_seconds": source.choice([None, 60, 300]),
            "max_instances": source.choice([1, 2]),
            "enabled": source.random() < 0.8,
            "last_run_at": source.choice([None, instant_text(BASE_US + source.randrange(5))]),
            "next_run_at": instant_text(BASE_US * 2) if kind >= 0.95 else None,
            "created_at": instant_text(BASE_US + number // 3),
            "updated_at": instant_text(BASE_US + source.randrange(10)),
        }
        documents.append(document)
    return documents


def executions(source: random.Random, names: list[str], count: int) -> list[dict[str, Any]]:
    documents = []
    for number in range(1, count + 1):
        job = source.randrange(1, JOBS + 4)  # the last three are of jobs that are gone
        name = names[job - 1] if job <= JOBS else f"gone_sync_{job}"
        if job == 1 and source.random() < 0.3:
            name = "failed_before_it_was_renamed"
        documents.append(_execution(source, number, job, name))
    return documents


def _execution(source: random.Random, number: int, job: int, name: str) -> dict[str, Any]:
    span = 24 if job % 7 == 0 else 24 * DAYS  # every seventh job died on the first day
    effective_us = BASE_US + source.randrange(span * HOUR_US)
    if source.random() < 0.4:
        effective_us -= effective_us % 60_000_000
    if source.random() < 0.05:
        effective_us = BASE_US
    status = source.choices(["PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT"], [1, 1, 20, 5, 3])[0]
    if job == 3:
        status = "FAILURE"
    is_started = status != "PENDING" and source.random() < 0.97
    created_us = effective_us - (source.choice([0, 0, 5_000_000]) if is_started else 0)
    is_over = status in {"SUCCESS", "FAILURE", "TIMEOUT"}
    duration = source.choice([0, 1, 5, source.randrange(100_000)]) if is_over and is_started else None
    if job == 5 and duration is not None:
        duration += 1_000_000
    return {
        "id": str(number),
        "job_id": str(job),
        "job_name": name,
        "status": status,
        "started_at": instant_text(effective_us) if is_started else None,
        "completed_at": instant_text(effective_us + (duration or 0) * 1_000) if is_over else None,
        "duration_ms": duration,
        "result": {"n": number} if source.random() < 0.3 else None,
        "error": "it failed" if status == "FAILURE" else None,
        "trace_id": source.choice([None, f"t{source.randrange(50)}"]),
        "worker_id": source.choice([None, "worker-9", "worker-8", "worker-10"]),
        "parameters_snapshot": {},
        "created_at": instant_text(created_us),
    }


def world(seed: int, count: int = 3_000) -> dict[str, list[dict[str, Any]]]:
    source = random.Random(seed)
    all_jobs = jobs(source)
    return {"jobs": all_jobs, "executions": executions(source, [job["name"] for job in all_jobs], count)}

"""The seed's own jobs and executions as a store, for the doors."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import jobstore

SEED_JOBS: list[dict[str, Any]] = [
    {
        "id": "sync_klines_1h",
        "job_type": "kline",
        "name": "sync_klines_1h",
        "job_category": "sync",
        "description": "Sync 1-hour klines from all exchanges",
        "schedule_type": "cron",
        "schedule": "0 * * * *",
        "interval_seconds": None,
        "parameters": {"intervals": ["1h"], "exchanges": ["BNC", "OKX", "GIO"]},
        "timeout_seconds": 300,
        "max_instances": 1,
        "enabled": True,
        "last_run_at": "2026-01-15T08:00:00Z",
        "next_run_at": "2026-01-15T09:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-15T08:00:00Z",
    },
    {
        "id": "sync_symbols_all",
        "job_type": "symbol",
        "name": "sync_symbols_all",
        "job_category": "sync",
        "description": "Sync trading symbols from all exchanges",
        "schedule_type": "cron",
        "schedule": "0 0 * * *",
        "interval_seconds": None,
        "parameters": {"exchanges": ["BNC", "OKX", "GIO"]},
        "timeout_seconds": 600,
        "max_instances": 1,
        "enabled": True,
        "last_run_at": "2026-01-15T00:00:00Z",
        "next_run_at": "2026-01-16T00:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-15T00:00:00Z",
    },
]
SEED_EXECUTIONS: list[dict[str, Any]] = [
    {
        "id": "12345",
        "job_id": "1",
        "job_name": "sync_klines_1h",
        "status": "SUCCESS",
        "started_at": "2026-01-15T08:00:00Z",
        "completed_at": "2026-01-15T08:02:30Z",
        "duration_ms": 150000,
        "result": {"processed": 500, "inserted": 450, "updated": 50},
        "error": None,
        "trace_id": "abc123def456",
        "worker_id": "worker-01",
        "parameters_snapshot": {"intervals": ["1h"], "exchanges": ["BNC", "OKX", "GIO"]},
        "created_at": "2026-01-15T08:00:00Z",
    },
    {
        "id": "12344",
        "job_id": "2",
        "job_name": "sync_symbols_all",
        "status": "FAILURE",
        "started_at": "2026-01-15T00:00:00Z",
        "completed_at": "2026-01-15T00:01:00Z",
        "duration_ms": 60000,
        "result": {"error_message": "Connection timeout"},
        "error": "Connection timeout",
        "trace_id": "xyz789abc012",
        "worker_id": "worker-02",
        "parameters_snapshot": {"exchanges": ["BNC", "OKX", "GIO"]},
        "created_at": "2026-01-15T00:00:00Z",
    },
]


def at_half_past_eight() -> datetime:
    """A moment at which the seed's next_run_at values hold."""
    return datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def seed_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with what the seed shows; nobody writes to it."""
    path = tmp_path_factory.mktemp("seed") / "jobs.db"
    jobstore.load(path, {"jobs": SEED_JOBS, "executions": SEED_EXECUTIONS})
    return path


@pytest.fixture(scope="session")
def seed_jobs() -> list[dict[str, Any]]:
    return SEED_JOBS


@pytest.fixture(scope="session")
def seed_executions() -> list[dict[str, Any]]:
    return SEED_EXECUTIONS


@pytest.fixture(scope="session")
def seed_clock() -> Callable[[], datetime]:
    return at_half_past_eight


@pytest.fixture
def datahub(seed_path: Path):
    """The seed's store as its usage scenarios call it, at half past eight."""
    with jobstore.open(seed_path, clock=at_half_past_eight) as store:
        yield store

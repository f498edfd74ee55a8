"""The job API's own answers (响应示例), shown as examples wherever the API describes itself."""

from __future__ import annotations

from typing import Any, Final

from jobstore.language.models import pagination

Document = dict[str, Any]

JOB: Final[Document] = {
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
}
JOB_PAGE: Final[Document] = {
    "data": [
        JOB,
        {
            **JOB,
            "id": "sync_symbols_all",
            "job_type": "symbol",
            "name": "sync_symbols_all",
            "description": "Sync trading symbols from all exchanges",
            "schedule": "0 0 * * *",
            "parameters": {"exchanges": ["BNC", "OKX", "GIO"]},
            "timeout_seconds": 600,
            "last_run_at": "2026-01-15T00:00:00Z",
            "next_run_at": "2026-01-16T00:00:00Z",
            "updated_at": "2026-01-15T00:00:00Z",
        },
    ],
    "pagination": pagination(total=15, limit=50, offset=0, shown=15),
}
EXECUTION: Final[Document] = {
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
}
EXECUTION_PAGE: Final[Document] = {
    "data": [
        EXECUTION,
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
    ],
    "pagination": pagination(total=1500, limit=50, offset=0, shown=50),
}
STATS: Final[Document] = {
    "job_id": "1",
    "after": "2026-01-01T00:00:00Z",
    "before": None,
    "runs": 720,
    "by_status": {"PENDING": 0, "RUNNING": 1, "SUCCESS": 700, "FAILURE": 15, "TIMEOUT": 4},
    "never_started": 0,
    "success_rate": 0.9735744089012517,
    "duration_ms": {"average": 150250.5, "p50": 150000, "p95": 171000, "max": 300000},
    "last_success_at": "2026-01-15T08:00:00Z",
    "last_failure_at": "2026-01-14T22:00:00Z",
}
"""Our own example: the job API has no statistics."""

JOB_STATE_PAGE: Final[Document] = {
    "data": [
        {
            "job_id": "2",
            "name": "sync_symbols_all",
            "description": "Sync trading symbols from all exchanges",
            "job_type": "symbol",
            "job_category": "sync",
            "state": "failing",
            "since": "2026-01-15T00:00:00Z",
            "failures_in_a_row": 1,
            "schedule": "0 0 * * *",
            "schedule_text": "At 00:00",
            "next_run_at": "2026-01-16T00:00:00Z",
            "last": EXECUTION_PAGE["data"][1],
            "recent": [
                {"id": "12001", "status": "SUCCESS", "started_at": "2026-01-14T00:00:00Z", "duration_ms": 58000},
                {"id": "12344", "status": "FAILURE", "started_at": "2026-01-15T00:00:00Z", "duration_ms": 60000},
            ],
            "success_rate": 0.5,
            "p50_ms": 58000,
            "p95_ms": 60000,
        }
    ],
    "pagination": pagination(total=1, limit=50, offset=0, shown=1),
    "states": {
        "lost": 0, "late": 0, "failing": 1, "running": 1, "waiting": 0, "new": 0, "ok": 13, "disabled": 0,
    },
}  # fmt: skip
HISTOGRAM: Final[Document] = {
    "bucket": "1d",
    "timezone": "Asia/Shanghai",
    "after": "2026-01-13T16:00:00Z",
    "before": "2026-01-15T15:59:59Z",
    "buckets": [
        {
            "start_at": "2026-01-13T16:00:00Z",
            "runs": 24,
            "by_status": {"PENDING": 0, "RUNNING": 0, "SUCCESS": 24, "FAILURE": 0, "TIMEOUT": 0},
        },
        {
            "start_at": "2026-01-14T16:00:00Z",
            "runs": 18,
            "by_status": {"PENDING": 0, "RUNNING": 1, "SUCCESS": 16, "FAILURE": 1, "TIMEOUT": 0},
        },
    ],
}

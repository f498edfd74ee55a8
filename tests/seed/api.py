"""What the job API's document says, as data: its tables, examples, curl lines, tool calls and scenarios.

Section names are the document's own; its words in Chinese stand where a test sends them.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Request(NamedTuple):
    """A row of a table of request parameters; `place` is ``query`` or ``path``."""

    name: str
    type: str
    required: bool
    default: str
    place: str = "query"


class Endpoint(NamedTuple):
    """A section: its line of the endpoint, its permission, and its parameters in their order."""

    operation: str
    path: str
    permission: str
    requests: tuple[Request, ...]


NONE = "-"
_JOB_ID = Request("job_id", "string", required=True, default=NONE, place="path")
_PAGE = (Request("limit", "int", required=False, default="50"), Request("offset", "int", required=False, default="0"))
_SEARCH = Request("search", "string", required=False, default=NONE)
_HISTORY = (
    _SEARCH,
    *_PAGE,
    Request("order_by", "string", required=False, default="started_at"),
    Request("order_desc", "bool", required=False, default="true"),
    Request("before", "datetime", required=False, default=NONE),
    Request("after", "datetime", required=False, default=NONE),
)

ENDPOINTS = (
    Endpoint(  # 获取任务列表
        "list_jobs", "/api/v1/jobs", "read:jobs",
        (
            _SEARCH,
            *_PAGE,
            Request("order_by", "string", required=False, default="name"),
            Request("order_desc", "bool", required=False, default="false"),
        ),
    ),
    Endpoint("get_job", "/api/v1/jobs/{job_id}", "read:jobs", (_JOB_ID,)),  # 获取任务详情
    Endpoint("list_job_executions", "/api/v1/jobs/executions", "read:jobs", _HISTORY),  # 获取所有执行记录
    Endpoint(  # 获取任务执行记录
        "get_job_executions", "/api/v1/jobs/{job_id}/executions", "read:jobs", (_JOB_ID, *_HISTORY)
    ),
)  # fmt: skip

# 响应字段, of a job and of an execution.
JOB_FIELDS = {
    "id": "string", "job_type": "string", "name": "string", "job_category": "string", "description": "string",
    "schedule_type": "string", "schedule": "string", "interval_seconds": "int", "parameters": "object",
    "timeout_seconds": "int", "max_instances": "int", "enabled": "bool", "last_run_at": "datetime",
    "next_run_at": "datetime", "created_at": "datetime", "updated_at": "datetime",
}  # fmt: skip
EXECUTION_FIELDS = {
    "id": "string", "job_id": "string", "job_name": "string", "status": "string", "started_at": "datetime",
    "completed_at": "datetime", "duration_ms": "int", "result": "object", "error": "string", "trace_id": "string",
    "worker_id": "string", "parameters_snapshot": "object", "created_at": "datetime",
}  # fmt: skip

# 任务类型说明, 任务分类说明, schedule_type's two, 执行状态说明.
JOB_TYPES = ("kline", "symbol", "balance", "order", "fill", "transfer", "ticker", "orderbook")
JOB_CATEGORIES = ("backfill", "sync", "monitor", "cleanup")
SCHEDULE_TYPES = ("cron", "interval")
STATUSES = {
    "PENDING": "等待执行", "RUNNING": "执行中", "SUCCESS": "执行成功", "FAILURE": "执行失败", "TIMEOUT": "执行超时",
}  # fmt: skip

# 响应示例: the page of the first section shows two of its fifteen jobs.
JOBS: list[dict[str, Any]] = [
    {
        "id": "sync_klines_1h", "job_type": "kline", "name": "sync_klines_1h", "job_category": "sync",
        "description": "Sync 1-hour klines from all exchanges", "schedule_type": "cron", "schedule": "0 * * * *",
        "interval_seconds": None, "parameters": {"intervals": ["1h"], "exchanges": ["BNC", "OKX", "GIO"]},
        "timeout_seconds": 300, "max_instances": 1, "enabled": True, "last_run_at": "2026-01-15T08:00:00Z",
        "next_run_at": "2026-01-15T09:00:00Z", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-15T08:00:00Z",
    },
    {
        "id": "sync_symbols_all", "job_type": "symbol", "name": "sync_symbols_all", "job_category": "sync",
        "description": "Sync trading symbols from all exchanges", "schedule_type": "cron", "schedule": "0 0 * * *",
        "interval_seconds": None, "parameters": {"exchanges": ["BNC", "OKX", "GIO"]}, "timeout_seconds": 600,
        "max_instances": 1, "enabled": True, "last_run_at": "2026-01-15T00:00:00Z",
        "next_run_at": "2026-01-16T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-15T00:00:00Z",
    },
]  # fmt: skip
JOBS_PAGINATION = {
    "page": 1, "page_size": 50, "total": 15, "total_pages": 1, "has_next": False, "has_prev": False,
}  # fmt: skip

# The page of all executions shows two of 1500; the page of one job shows the first of 720.
EXECUTIONS: list[dict[str, Any]] = [
    {
        "id": "12345", "job_id": "1", "job_name": "sync_klines_1h", "status": "SUCCESS",
        "started_at": "2026-01-15T08:00:00Z", "completed_at": "2026-01-15T08:02:30Z", "duration_ms": 150000,
        "result": {"processed": 500, "inserted": 450, "updated": 50}, "error": None, "trace_id": "abc123def456",
        "worker_id": "worker-01",
        "parameters_snapshot": {"intervals": ["1h"], "exchanges": ["BNC", "OKX", "GIO"]},
        "created_at": "2026-01-15T08:00:00Z",
    },
    {
        "id": "12344", "job_id": "2", "job_name": "sync_symbols_all", "status": "FAILURE",
        "started_at": "2026-01-15T00:00:00Z", "completed_at": "2026-01-15T00:01:00Z", "duration_ms": 60000,
        "result": {"error_message": "Connection timeout"}, "error": "Connection timeout",
        "trace_id": "xyz789abc012", "worker_id": "worker-02",
        "parameters_snapshot": {"exchanges": ["BNC", "OKX", "GIO"]}, "created_at": "2026-01-15T00:00:00Z",
    },
]  # fmt: skip
EXECUTIONS_PAGINATION = {
    "page": 1, "page_size": 50, "total": 1500, "total_pages": 30, "has_next": True, "has_prev": False,
}  # fmt: skip
JOB_EXECUTIONS_PAGINATION = {
    "page": 1, "page_size": 50, "total": 720, "total_pages": 15, "has_next": True, "has_prev": False,
}  # fmt: skip

# 错误响应.
ERROR = {"error": {"code": "NOT_FOUND", "message": "Job not found: invalid_job_name"}}

# 请求示例, in the document's order, each with the words of its comment.
CURL = {
    "all jobs": "https://api.datahub.example.com/api/v1/jobs",
    "search kline": "https://api.datahub.example.com/api/v1/jobs?search=kline",
    "by name, descending": "https://api.datahub.example.com/api/v1/jobs?order_by=name&order_desc=true",
    "a job by number": "https://api.datahub.example.com/api/v1/jobs/1",
    "a job by name": "https://api.datahub.example.com/api/v1/jobs/sync_klines_1h",
    "latest executions": "https://api.datahub.example.com/api/v1/jobs/executions?limit=50",
    "failed executions": "https://api.datahub.example.com/api/v1/jobs/executions?search=failed",
    "executions in a window": "https://api.datahub.example.com/api/v1/jobs/executions"
    "?after=2026-01-01T00:00:00Z&before=2026-01-15T00:00:00Z",
    "executions of a job": "https://api.datahub.example.com/api/v1/jobs/sync_klines_1h/executions",
    "failed executions of a job": "https://api.datahub.example.com/api/v1/jobs/sync_klines_1h/executions?search=failed",
    "executions of a job since": "https://api.datahub.example.com/api/v1/jobs/sync_klines_1h/executions"
    "?after=2026-01-01T00:00:00Z",
}
CURL_LINES = {what: f'curl -X GET "{url}" \\\n  -H "Authorization: Bearer YOUR_TOKEN"' for what, url in CURL.items()}

# AI Tool 调用示例.
TOOL_CALLS: tuple[dict[str, Any], ...] = (
    {"tool": "datahub_list_jobs", "parameters": {"search": "kline", "limit": 20}},
    {"tool": "datahub_get_job", "parameters": {"job_id": "sync_klines_1h"}},
    {
        "tool": "datahub_list_job_executions",
        "parameters": {"search": "failed", "limit": 20, "after": "2026-01-01T00:00:00Z"},
    },
    {
        "tool": "datahub_get_job_executions",
        "parameters": {"job_id": "sync_klines_1h", "limit": 10, "order_desc": True},
    },
)

# 使用场景, as written there.
FAILED_RUNS = """
# 获取最近失败的任务执行
failed_executions = datahub.list_job_executions(
    search="failed",
    limit=10,
    order_desc=True
)

for exec in failed_executions["data"]:
    print(f"任务 {exec['job_name']} 失败: {exec['error']}")
    print(f"  Trace ID: {exec['trace_id']}")
    print(f"  时间: {exec['started_at']}")
"""
EFFICIENCY = """
# 获取指定任务的执行历史
executions = datahub.get_job_executions(
    job_id="sync_klines_1h",
    limit=100,
    after="2026-01-01T00:00:00Z"
)

# 计算平均执行时间
durations = [e["duration_ms"] for e in executions["data"] if e["duration_ms"]]
avg_duration = sum(durations) / len(durations) if durations else 0
print(f"平均执行时间: {avg_duration / 1000:.2f} 秒")

# 计算成功率
success_count = sum(1 for e in executions["data"] if e["status"] == "SUCCESS")
success_rate = success_count / len(executions["data"]) * 100
print(f"成功率: {success_rate:.1f}%")
"""
CONFIGURATION = """
# 获取所有同步类任务
jobs = datahub.list_jobs(search="sync")

for job in jobs["data"]:
    if job["enabled"]:
        print(f"任务: {job['name']}")
        print(f"  类型: {job['job_type']}")
        print(f"  调度: {job['schedule']}")
        print(f"  下次执行: {job['next_run_at']}")
"""

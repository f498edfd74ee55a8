"""The queries over plain lists of documents: what the engine must agree with, written as the rules are said.

No index, no counter, no integer instants: documents in, filtered, sorted and sliced as a person would.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]

ALIASES = {
    "FAILURE": "failed fail failing error 失败 执行失败",
    "SUCCESS": "succeeded successful ok 成功 执行成功",
    "TIMEOUT": "timed_out timedout 超时 执行超时",
    "RUNNING": "执行中 运行中",
    "PENDING": "queued waiting 等待 等待执行",
}
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT")


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def means(term: str, status: str) -> bool:
    """Whether a folded term means a status: a part of its name, or one of its other words."""
    words = {folded(word) for word in ALIASES[status].split()} | ({"timed out"} if status == "TIMEOUT" else set())
    return bool(term) and (term in folded(status) or term in words)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def effective(document: Document) -> datetime:
    return moment(document["started_at"] or document["created_at"])


def page(matching: list[Document], order: Any, *, order_desc: bool, limit: int, offset: int) -> Document:
    """Nulls last in both directions, ties by number in the same direction, then the slice and the six fields."""
    present = sorted((d for d in matching if order(d)[0] is not None), key=order, reverse=order_desc)
    absent = sorted((d for d in matching if order(d)[0] is None), key=lambda d: order(d)[1], reverse=order_desc)
    data = (present + absent)[offset : offset + limit]
    total = len(matching)
    return {
        "data": data,
        "pagination": {
            "page": offset // limit + 1,
            "page_size": limit,
            "total": total,
            "total_pages": (total + limit - 1) // limit,
            "has_next": offset + len(data) < total,
            "has_prev": offset > 0,
        },
    }


def execution_order(field: str) -> Any:
    def key(document: Document) -> tuple[Any, int]:
        value = document[field]
        if field in {"id", "job_id"}:
            value = int(value)
        elif field == "started_at":
            value = effective(document)
        elif field in {"completed_at", "created_at"} and value is not None:
            value = moment(value)
        return value, int(document["id"])

    return key


def job_order(field: str, numbers: dict[str, int]) -> Any:
    def key(document: Document) -> tuple[Any, int]:
        value = document[field]
        if field.endswith("_at") and value is not None:
            value = moment(value)
        return value, numbers[document["name"]]

    return key


def executions(
    history: list[Document],
    *,
    job_number: str | None = None,
    search: str | None = None,
    limit: int = 50,
    offset: int = 0,
    order_by: str = "started_at",
    order_desc: bool = True,
    before: datetime | None = None,
    after: datetime | None = None,
    status: list[str] | None = None,
    trace_id: str | None = None,
) -> Document:
    """`list_job_executions`, or `get_job_executions` where a job's number is given."""
    term = folded((search or "").strip())

    def found(document: Document) -> bool:
        if not term:
            return True
        if means(term, document["status"]):
            return True
        return job_number is None and term in folded(document["job_name"])

    matching = [
        document
        for document in history
        if (job_number is None or document["job_id"] == job_number)
        and found(document)
        and (status is None or document["status"] in status)
        and (trace_id is None or document["trace_id"] == trace_id)
        and (after is None or effective(document) >= after)
        and (before is None or effective(document) <= before)
    ]
    return page(matching, execution_order(order_by), order_desc=order_desc, limit=limit, offset=offset)


def jobs(
    documents: list[Document],
    numbers: dict[str, int],
    *,
    search: str | None = None,
    limit: int = 50,
    offset: int = 0,
    order_by: str = "name",
    order_desc: bool = False,
    job_type: str | None = None,
    job_category: str | None = None,
    enabled: bool | None = None,
) -> Document:
    """`list_jobs` over documents that already have their `next_run_at`."""
    term = folded((search or "").strip())
    matching = [
        document
        for document in documents
        if any(term in folded(document[field]) for field in ("name", "job_type", "job_category"))
        and (job_type is None or document["job_type"] == job_type)
        and (job_category is None or document["job_category"] == job_category)
        and (enabled is None or document["enabled"] == enabled)
    ]
    return page(matching, job_order(order_by, numbers), order_desc=order_desc, limit=limit, offset=offset)


def utc(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + (datetime.resolution * us)

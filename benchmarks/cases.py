"""The queries that are measured, each with its goal at ten million executions.

A case gives the keywords of round 0, 1, 2, ...: the same shape of question about another job, day
or place, so that no candidate can answer from memory. Deep pages begin at 90 % of what matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks.fleet import DAY_MINUTES, DEAD, DENSE, END_US, FAILED, FAILING, MINUTE_US, SLOW, SPARSE, fleet
from benchmarks.measure import VARIANTS
from jobstore.language.instants import instant_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Keywords = dict[str, Any]

LIST, OF_JOB = "list_job_executions", "get_job_executions"


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    query: Callable[[int], Keywords]
    most: float | None
    """The goal, in floors."""
    faster: float | None = None
    """The goal, as how many times faster than naive."""
    method: str = LIST
    deep: bool = False


BUSY = [job.name for job in fleet() if job.cadence.period == 1 and "dead" not in job.name][:VARIANTS]
"""Jobs that fire each minute, so that every size has a page of them."""


def _job(number: int) -> str:
    return BUSY[number % len(BUSY)]


def _window(number: int, days: int, *, aligned: bool = False) -> Keywords:
    """``days`` days that end some days before the data does, at no full hour unless aligned."""
    end = END_US - (2 + number) * DAY_MINUTES * MINUTE_US - (0 if aligned else 433 * MINUTE_US + 17_123_456)
    after = end - days * DAY_MINUTES * MINUTE_US
    return {"after": instant_text(after), "before": instant_text(end - 1 if aligned else end)}


CASES = (
    Case("latest 50 of all", lambda _: {}, 1.15, 200),
    Case("one job's latest", lambda n: {"job_id": _job(n)}, 1.15, None, OF_JOB),
    Case("one job's failures", lambda n: {"job_id": _job(n), "status": "FAILURE"}, 1.15, None, OF_JOB),
    Case("search=failed, latest", lambda _: {"search": FAILED}, 2, 2500),
    Case("name search, dense", lambda _: {"search": DENSE}, 1.25, 3000),
    Case("name search, sparse", lambda _: {"search": SPARSE}, 1.6, 3000),
    Case("window of one day", lambda n: _window(n, 1), 1.7),
    Case("window of 45 days", lambda n: _window(n, 45), 1.7, 300),
    Case("90 % deep: all", lambda _: {}, 1.9, None, deep=True),
    Case("90 % deep: search=timeout", lambda _: {"search": "timeout"}, 1.5, None, deep=True),
    Case("90 % deep: one job", lambda n: {"job_id": _job(n)}, 1.2, None, OF_JOB, deep=True),
    Case("90 % deep: dense name search", lambda _: {"search": DENSE}, 3, None, deep=True),
    Case("90 % deep: search=failed", lambda _: {"search": FAILED}, 5, None, deep=True),
    Case("order by duration_ms", lambda _: {"order_by": "duration_ms"}, 1.3),
    Case("order by job_name", lambda _: {"order_by": "job_name", "order_desc": False}, 1.3),
    Case("dense search, aligned window", lambda n: {"search": DENSE, **_window(n, 20, aligned=True)}, 5),
    Case("dense search, unaligned window", lambda n: {"search": DENSE, **_window(n, 20)}, 5),
)
"""Named in the goal, in its order."""

_ORDERS = (
    "id", "job_id", "job_name", "status", "started_at", "completed_at", "duration_ms", "trace_id", "worker_id",
    "created_at",
)  # fmt: skip

_FILTERS: dict[str, tuple[str, Callable[[int], Keywords]]] = {
    "all": (LIST, lambda _: {}),
    "FAILURE": (LIST, lambda _: {"status": "FAILURE"}),
    "SUCCESS": (LIST, lambda _: {"status": "SUCCESS"}),
    "failed": (LIST, lambda _: {"search": FAILED}),
    "dense": (LIST, lambda _: {"search": DENSE}),
    "sparse": (LIST, lambda _: {"search": SPARSE}),
    "slow job's name": (LIST, lambda _: {"search": SLOW}),
    "dead job's name": (LIST, lambda _: {"search": DEAD}),
    "day": (LIST, lambda n: _window(n, 1)),
    "45 days": (LIST, lambda n: _window(n, 45)),
    "dense+FAILURE": (LIST, lambda _: {"search": DENSE, "status": "FAILURE"}),
    "dense+day": (LIST, lambda n: {"search": DENSE, **_window(n, 1)}),
    "dense+45 days": (LIST, lambda n: {"search": DENSE, **_window(n, 45)}),
    "failed+SUCCESS": (LIST, lambda _: {"search": FAILED, "status": "SUCCESS"}),
    "failed+45 days": (LIST, lambda n: {"search": FAILED, **_window(n, 45)}),
    "sparse+FAILURE": (LIST, lambda _: {"search": SPARSE, "status": "FAILURE"}),
    "sparse+45 days": (LIST, lambda n: {"search": SPARSE, **_window(n, 45)}),
    "FAILURE+day": (LIST, lambda n: {"status": "FAILURE", **_window(n, 1)}),
    "FAILURE+45 days": (LIST, lambda n: {"status": "FAILURE", **_window(n, 45)}),
    "SUCCESS+45 days": (LIST, lambda n: {"status": "SUCCESS", **_window(n, 45)}),
    "dead job+last month": (LIST, lambda n: {"search": DEAD, **_window(n, 25)}),
    "job": (OF_JOB, lambda n: {"job_id": _job(n)}),
    "job+FAILURE": (OF_JOB, lambda n: {"job_id": _job(n), "status": "FAILURE"}),
    "job+failed+45 days": (OF_JOB, lambda n: {"job_id": _job(n), "search": FAILED, **_window(n, 45)}),
    "job+45 days": (OF_JOB, lambda n: {"job_id": _job(n), **_window(n, 45)}),
    "slow job": (OF_JOB, lambda _: {"job_id": SLOW}),
    "dead job": (OF_JOB, lambda _: {"job_id": DEAD}),
    "failing job+SUCCESS": (OF_JOB, lambda _: {"job_id": FAILING, "status": "SUCCESS"}),
}
"""What a query can ask for, alone and in pairs, with the skewed jobs among them."""


def sweep() -> Iterator[Case]:
    """Every order in both directions over every filter, at the first page and 90 % deep."""
    for filtered, (method, query) in _FILTERS.items():
        for order, descending, deep in product(_ORDERS, (True, False), (False, True)):
            name = f"{filtered} by {order} {'desc' if descending else 'asc'}{', 90 % deep' if deep else ''}"
            ordered = {"order_by": order, "order_desc": descending}
            yield Case(name, partial(_ordered, query, ordered), None, None, method, deep)


def _ordered(query: Callable[[int], Keywords], order: Keywords, number: int) -> Keywords:
    return {**query(number), **order}


def ordered_cases() -> list[Case]:
    """The first page in every order, of all, of a status, of a dense search and of a job."""
    guarded = ("all", "FAILURE", "dense", "job")
    return [case for case in sweep() if not case.deep and case.name.partition(" by ")[0] in guarded]

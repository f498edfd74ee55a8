"""Counts over time: whole hours from counters; where a bucket boundary cuts an hour, an index range."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from jobstore.engine.executions import select_all, select_of_job
from jobstore.engine.window import count_before, extreme_start, is_small
from jobstore.language.buckets import bucket_starts
from jobstore.language.instants import instant_text
from jobstore.language.models import STATUS_CODES, STATUSES
from jobstore.storage.rows import marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from jobstore.engine.memory import Memory
    from jobstore.engine.selection import Part, Selection
    from jobstore.language.models import Bucket, HistogramDocument
    from jobstore.language.query import HistogramQuery


def execution_histogram(
    connection: sqlite3.Connection, memory: Memory, query: HistogramQuery, _now_us: int
) -> HistogramDocument:
    """The executions of a selection, counted by hour or day and by status."""
    if query.job_id is None:
        selection = select_all(connection, memory, query)
    else:
        selection = select_of_job(connection, memory, query, memory.job_number(connection, query.job_id))
    bucket, buckets = query.bucket, []
    span = _span(connection, selection, query)
    if span is not None:
        bucket, starts = bucket_starts(query.bucket, query.timezone, *span)
        buckets = _buckets(connection, selection, starts, span)
    return {
        "bucket": bucket,
        "timezone": query.timezone,
        "after": instant_text(query.after_us),
        "before": instant_text(query.before_us),
        "buckets": buckets,
    }


def _span(connection: sqlite3.Connection, selection: Selection, query: HistogramQuery) -> tuple[int, int] | None:
    """The window, extended to the first or last execution where a bound is missing; None if it is empty."""
    after_us, before_us, total = query.after_us, query.before_us, selection.total
    if total and after_us is None:
        after_us = extreme_start(connection, selection, "min", 0)
    if total and before_us is None:
        before_us = extreme_start(connection, selection, "max", total - 1)
    if after_us is None or before_us is None:
        return None
    return (after_us, before_us) if after_us <= before_us else None


def _buckets(
    connection: sqlite3.Connection, selection: Selection, starts: list[int], span: tuple[int, int]
) -> list[Bucket]:
    """The counts between each start and the next, inside the span."""
    # The window cuts the first and the last bucket; its last microsecond is inclusive.
    cuts = [span[0], *starts[1:], span[1] + 1]
    counts = {status.value: _counts(connection, selection.only((STATUS_CODES[status],)), cuts) for status in STATUSES}
    return [
        {
            "start_at": instant_text(start_us) or "",
            "runs": sum(runs[place] for runs in counts.values()),
            "by_status": {status: runs[place] for status, runs in counts.items()},
        }
        for place, start_us in enumerate(starts)
    ]


def _counts(connection: sqlite3.Connection, selection: Selection, cuts: list[int]) -> list[int]:
    """The executions of a selection between each cut and the next."""
    before = [0] * len(cuts)
    for part in selection.parts:
        # For few executions, read all starts once; each cut is then a search in memory.
        if is_small(part):
            moments = sorted(_moments(connection, part))
            counted = [bisect_left(moments, cut) for cut in cuts]
        else:
            counted = [count_before(connection, part, cut) for cut in cuts]
        before = [one + other for one, other in zip(before, counted, strict=True)]
    return [later - earlier for earlier, later in pairwise(before)]


def _moments(connection: sqlite3.Connection, part: Part) -> Iterator[int]:
    """Every effective start of a small part (see `is_small`), unordered."""
    names = sorted(part.names or ())
    sql = f"""
    SELECT effective_us FROM execution INDEXED BY execution_name_started
    WHERE name_id IN ({marks(names)}) AND status IN ({",".join(map(str, part.statuses))})
    """
    return (us for (us,) in connection.execute(sql, names))

"""The query over job states, most urgent first."""

from __future__ import annotations

from bisect import bisect_left
from heapq import nlargest, nsmallest
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from jobstore.engine.catalogue import next_run_us
from jobstore.engine.histories import count_failures
from jobstore.engine.standings import Key
from jobstore.language.instants import MIN_US, instant_text
from jobstore.language.models import STATUS_OF_CODE, pagination
from jobstore.language.schedule_text import schedule_text
from jobstore.language.states import ATTENTION
from jobstore.storage.documents import execution_document
from jobstore.storage.rows import fetch_jobs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from jobstore.engine.histories import Newest, Run
    from jobstore.engine.memory import Memory
    from jobstore.engine.standings import Standings
    from jobstore.language.models import ExecutionDocument, JobStateDocument, JobStatePage, RecentRun
    from jobstore.language.query import JobStatesQuery
    from jobstore.language.records import Job

    _Valued = tuple[Any, int, Key]

# A page that ends within the first 1/PICKED of the jobs is selected by a heap, without sorting them all.
PICKED = 20


def list_job_states(connection: sqlite3.Connection, memory: Memory, query: JobStatesQuery, now_us: int) -> JobStatePage:
    """A page of states: order and counts from memory, then a few row look-ups for each job on the page."""
    standings = memory.standings(connection, now_us)
    found = memory.jobs(connection).matching(connection, query.jobs)
    keys = standings.order if found is None else standings.keys(found)
    selected = keys
    if query.state is not None:
        # In order of rank: each state is a contiguous range of the attention order, so the keys stay sorted.
        selected = [key for rank in sorted(map(ATTENTION.__getitem__, query.state)) for key in _of_rank(keys, rank)]
    numbers = [key.number for key in _page(connection, memory, standings, query, selected, now_us)]
    return {
        "data": _documents(connection, memory, standings, numbers, query.lang, now_us),
        "pagination": pagination(len(selected), query.limit, query.offset, len(numbers)),
        "states": {state.value: len(_of_rank(keys, rank)) for state, rank in ATTENTION.items()},
    }


def _of_rank(keys: list[Key], rank: int) -> list[Key]:
    """The keys of one state: a contiguous range of the attention order."""
    begin, end = (bisect_left(keys, Key(each, MIN_US - 1, "", 0)) for each in (rank, rank + 1))
    return keys[begin:end]


def _page(
    connection: sqlite3.Connection,
    memory: Memory,
    standings: Standings,
    query: JobStatesQuery,
    selected: list[Key],
    now_us: int,
) -> list[Key]:
    end = query.offset + query.limit
    if query.order_by == "attention":
        return (selected[::-1] if query.order_desc else selected)[query.offset : end]
    if query.order_by == "next_run_at":
        of_number = {key.number: key for key in selected}
        next_runs = memory.jobs(connection).next_runs(connection)
        numbers = next_runs.page(
            of_number.keys(), now_us, descending=query.order_desc, offset=query.offset, take=query.limit
        )
        return [of_number[number] for number in numbers]
    value = _order(connection, standings, query.order_by, selected)
    valued = [(value(key), key.number, key) for key in selected]
    present = [each for each in valued if each[0] is not None]
    absent = [] if len(present) == len(valued) else [each for each in valued if each[0] is None]
    # Sorted separately: null does not compare with a number, and comes last in both directions.
    absent.sort(key=itemgetter(1), reverse=query.order_desc)
    found = _first(present, end, descending=query.order_desc)
    return [key for _, _, key in (found + absent if end > len(present) else found)[query.offset : end]]


def _first(valued: list[_Valued], most: int, *, descending: bool) -> list[_Valued]:
    """At least the first `most` in order: a page near the front by a heap, a deep one by sorting all."""
    if most * PICKED < len(valued):
        return (nlargest if descending else nsmallest)(most, valued)
    return sorted(valued, reverse=descending)


def _order(
    connection: sqlite3.Connection, standings: Standings, order_by: str, selected: list[Key]
) -> Callable[[Key], Any]:
    """The function that gives the value to order by."""
    if order_by == "name":
        return attrgetter("name")
    if order_by == "last_run_at":
        return lambda key: standings.facts(key.number).last_run_us
    # Last: rates cost a hundred index entries for each job, and only two orders need them.
    rates = standings.rates(connection, [key.number for key in selected])
    if order_by == "success_rate":
        return lambda key: rates[key.number].success_rate
    return lambda key: rates[key.number].p95_ms


def _documents(
    connection: sqlite3.Connection, memory: Memory, standings: Standings, numbers: list[int], lang: str, now_us: int
) -> list[JobStateDocument]:
    newest = standings.newest(connection, numbers)
    last_ids = [newest[number].runs[0].id for number in numbers if newest[number].runs]
    last = {row[0]: execution_document(row) for row in memory.rows(connection, last_ids)}
    return [
        _document(
            standings.key(row.number),
            row,
            newest[row.number],
            last,
            # Nearly always 0, without a statement.
            _failures(connection, memory, standings, row.number) if newest[row.number].is_failing else 0,
            next_run_us(memory, row, now_us),
            lang,
        )
        for row in fetch_jobs(connection, numbers)
    ]


def _failures(connection: sqlite3.Connection, memory: Memory, standings: Standings, number: int) -> int:
    if number not in standings.failures:
        standings.failures[number] = count_failures(connection, memory.of_job(connection, number))
    return standings.failures[number]


def _document(
    key: Key,
    row: Job,
    newest: Newest,
    last: dict[int, ExecutionDocument],
    failures: int,
    next_us: int | None,
    lang: str,
) -> JobStateDocument:
    return {
        "job_id": str(row.number),
        "name": row.name,
        "description": row.description,
        "job_type": row.job_type,
        "job_category": row.job_category,
        "state": key.state.value,
        "since": instant_text(key.since_us),  # type: ignore[typeddict-item]  # never null
        "failures_in_a_row": failures,
        "schedule": row.schedule,
        "schedule_text": schedule_text(row.interval_seconds if row.schedule is None else row.schedule, lang),
        "next_run_at": instant_text(next_us),
        "last": last[newest.runs[0].id] if newest.runs else None,
        "recent": [_run(run) for run in reversed(newest.runs)],
        "success_rate": newest.rates.success_rate,
        "p50_ms": newest.rates.p50_ms,
        "p95_ms": newest.rates.p95_ms,
    }


def _run(run: Run) -> RecentRun:
    return {
        "id": str(run.id),
        "status": STATUS_OF_CODE[run.status].value,
        "started_at": instant_text(run.effective_us) if run.is_started else None,
        "duration_ms": run.duration_ms,
    }

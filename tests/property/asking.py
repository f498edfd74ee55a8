"""Random queries to a world, asked of Python and of HTTP, and what the oracle says to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.language.instants import MAX_US
from jobstore.language.models import EXECUTION_ORDERS, JOB_ORDERS, STATE_ORDERS
from jobstore.language.schedule_text import schedule_text
from tests.property import oracle, worlds
from tests.wsgi import PATHS, ask, segment, target

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tests.property.worlds import World

Query = dict[str, Any]
TERMS = (
    None, None, "", " ", "sync", "SYNC", "Failed", "fail", "失败", " 执行超时 ", "timed out", "timed_out", "ing", "e", "%", "_",
    "*", '"', "\\", "ß", "ss", "SS", "i", "İ", "fi", "ﬁ", "ｋ", "K", "kline\nsync", "x%", "1", "８", "\ufdfa", "é", "zzz",
)  # fmt: skip


@dataclass
class Clock:
    """A clock that tests set."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


def in_python(store: jobstore.JobStore, operation: str, query: Query) -> Any:
    """The document, or the code and message of the refusal."""
    try:
        return getattr(store, operation)(**query)
    except jobstore.JobStoreError as error:
        return (error.code, error.message)


def refused(code: str, message: str) -> tuple[str, str]:
    """A refusal as it is told: one line, without marks that hide."""
    return code, jobstore.JobStoreError(message).message


def over_http(app: Any, operation: str, query: Query) -> Any:
    """The same from the HTTP door, as it stands in the body."""
    pairs = [(name, text_of(value)) for name, value in query.items() if value is not None]
    path = PATHS[operation]
    if "{}" in path:
        _, value = pairs.pop(0)  # the reference comes first
        path = path.format(segment(value))
    answer = ask(app, target(path, pairs), token=None)
    if answer.status == 200:
        return answer.json
    error = answer.json["error"]
    return (error["code"], error["message"])


def text_of(value: Any) -> str:
    """A value of Python's as a query string has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else oracle.written(value)


def same(one: Any, other: Any) -> bool:
    """Whether two documents are the same JSON, the order of the fields included; or two refusals are, where told."""
    if isinstance(other, tuple) and other[1] is None:
        return isinstance(one, tuple) and one[0] == other[0]
    return json.dumps(one) == json.dumps(other)


# Random queries.


def job_queries(source: random.Random, world: World) -> Iterator[Query]:
    """Every order in both directions, with random filters."""
    for order_by in JOB_ORDERS:
        for order_desc in (False, True):
            yield {
                "search": term(source, world),
                **page(source, len(world.jobs)),
                "order_by": order_by,
                "order_desc": order_desc,
                "job_type": source.choice([None, None, None, *worlds.TYPES]),
                "job_category": source.choice([None, None, None, *worlds.CATEGORIES]),
                "enabled": source.choice([None, None, True, False]),
            }


def execution_queries(source: random.Random, world: World) -> Iterator[Query]:
    """Every order in both directions, with random filters."""
    for order_by in EXECUTION_ORDERS:
        for order_desc in (False, True):
            yield {
                "search": term(source, world),
                **page(source, len(world.executions)),
                "order_by": order_by,
                "order_desc": order_desc,
                **window(source),
                "status": source.choice([None, None, None, ["FAILURE"], ["TIMEOUT", "PENDING"], "SUCCESS"]),
                "trace_id": source.choice([None, None, None, None, *worlds.TRACES]),
            }


def state_queries(source: random.Random, world: World) -> Iterator[Query]:
    """Every order in both directions, with random filters."""
    for order_by in STATE_ORDERS:
        for order_desc in (False, True):
            yield {
                "search": term(source, world),
                **page(source, len(world.jobs)),
                "order_by": order_by,
                "order_desc": order_desc,
                "state": source.choice([None, None, ["late"], ["failing", "lost", "late"], ["ok", "new"], "running"]),
                "job_type": source.choice([None, None, None, *worlds.TYPES]),
                "job_category": source.choice([None, None, None, *worlds.CATEGORIES]),
                "lang": source.choice(["en", "en", "zh"]),
            }


def histogram_query(source: random.Random, world: World) -> Query:
    """A random window, often of days or hours, in a zone that may change its clocks inside it."""
    bounds = window(source)
    if source.random() < 0.5:
        begin_us = worlds.moment(source)
        end_us = begin_us + source.choice([0, 1, 3 * worlds.HOUR, 5 * worlds.DAY, 30 * worlds.DAY, 380 * worlds.DAY])
        bounds = {"after": oracle.utc(begin_us), "before": oracle.utc(min(end_us, MAX_US))}
    return {
        "job_id": None if source.random() < 0.5 else job_ref(source, world),
        "search": term(source, world),
        "status": source.choice([None, None, ["FAILURE"], ["TIMEOUT", "PENDING"], "SUCCESS"]),
        **bounds,
        "bucket": source.choice(["auto", "auto", "1h", "1d"]),
        "timezone": source.choice(BUCKET_ZONES),
    }


BUCKET_ZONES = (
    *worlds.ZONES, "America/Havana", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Etc/GMT+12",
)  # fmt: skip


def page(source: random.Random, count: int) -> Query:
    limit = source.choice([1, 2, 5, 50, 1000])
    return {"limit": limit, "offset": source.choice([0, 0, 1, limit, count - 1, count, count + 1, 2**63 - 1]) % 2**63}


def term(source: random.Random, world: World) -> str | None:
    """A fixed term, or a part of a name of the world, perhaps in another case."""
    if source.random() < 0.6 or not world.names:
        return source.choice(TERMS)
    name = source.choice(world.names)
    begin = source.randrange(len(name))
    part = name[begin : begin + source.choice([1, 2, 3, 200])]
    return source.choice([part, part.upper(), part.lower(), part.casefold(), part.swapcase()])[:200]


def window(source: random.Random) -> Query:
    bounds = [oracle.utc(worlds.moment(source)) if source.random() < 0.4 else None for _ in range(2)]
    after, before = sorted(bounds, key=lambda at: at.timestamp()) if None not in bounds else bounds  # type: ignore[union-attr]
    return {"after": after, "before": before}


def job_ref(source: random.Random, world: World) -> str | int:
    """A job's name or number, a former name, or what is neither."""
    numbers = world.numbers
    if numbers and source.random() < 0.7:
        name = source.choice([*numbers])
        ways: list[str | int] = [name, name, numbers[name], str(numbers[name]), f"00{numbers[name]}"]
        return source.choice(ways)
    others: list[str | int] = [*worlds.NAMES, 0, 1, 999, 2**63 - 1, 2**64, "１", "+1", "-1", " ", "0", "9" * 200]
    return source.choice(others)


# What the oracle says.


def expected(world: World, operation: str, query: Query, now: datetime) -> Any:
    """The document that the rules ask for, or the refusal; of some refusals the code alone."""
    query = dict(query)
    reference = query.pop("job_id", None)
    number = None if reference is None else oracle.job_number(world.numbers, reference)
    if reference is not None and number is None:
        return refused("NOT_FOUND", f"Job not found: {reference}")
    if isinstance(query.get("status"), str):
        query["status"] = [query["status"]]
    return _TOLD[operation](world, None if number is None else str(number), query, now)


def _execution(world: World, execution_id: str | int) -> Any:
    text = str(execution_id)
    wanted = str(int(text)) if text.isascii() and text.isdigit() else ""
    found = [run for run in world.executions if run["id"] == wanted]
    return found[0] if found else refused("NOT_FOUND", f"Execution not found: {text}")


def _job(world: World, number: str | None, now: datetime) -> Any:
    return next(job_document(world, job, now) for job in world.jobs if str(job["number"]) == number)


def _jobs(world: World, query: Query, now: datetime) -> Any:
    return oracle.jobs([job_document(world, job, now) for job in world.jobs], world.numbers, **query)


_TOLD: dict[str, Callable[[World, str | None, Query, datetime], Any]] = {
    "list_jobs": lambda world, _, query, now: _jobs(world, query, now),
    "get_job": lambda world, number, _, now: _job(world, number, now),
    "list_job_executions": lambda world, _, query, now: oracle.executions(world.executions, **query),
    "get_job_executions": lambda world, number, query, now: oracle.executions(
        world.executions, job_number=number, **query
    ),
    "job_stats": lambda world, number, query, now: oracle.stats(world.executions, job_number=number, **query),
    "get_execution": lambda world, _, query, now: _execution(world, **query),
    "list_job_states": lambda world, _, query, now: job_states(world, query, now),
    "execution_histogram": lambda world, number, query, now: (
        oracle.histogram(world.executions, job_number=number, **query) or ("INVALID_PARAMETER", None)
    ),
}


def job_states(world: World, query: Query, now: datetime, gone: frozenset[str] = frozenset()) -> Any:
    """The page of states that the rules ask for; `gone`: executions whose process is known to be gone."""
    query = dict(query)
    lang = query.pop("lang", "en")
    if isinstance(query.get("state"), str):
        query["state"] = [query["state"]]
    documents = []
    for job in world.jobs:
        runs = [run for run in world.executions if run["job_id"] == str(job["number"])]
        words = schedule_text(job["schedule"] or job["interval_seconds"], lang)
        documents.append(oracle.state_document(job, runs, world.timezone, now, words, gone))
    return oracle.job_states(documents, {str(job["number"]): job for job in world.jobs}, **query)


def job_document(world: World, job: worlds.Document, now: datetime) -> worlds.Document:
    """The sixteen fields of a job at a moment."""
    fires = oracle.next_run(job, world.timezone, now)
    kind = "cron" if job["schedule"] else "interval" if job["interval_seconds"] else "external"
    return {
        "id": job["name"],
        "job_type": job["job_type"],
        "name": job["name"],
        "job_category": job["job_category"],
        "description": job["description"],
        "schedule_type": kind,
        **{field: job[field] for field in FIELDS},
        "next_run_at": None if fires is None else oracle.written(fires),
        "created_at": job["created_at"],
        "updated_at": job["updated_at"],
    }


FIELDS = (
    "schedule", "interval_seconds", "parameters", "timeout_seconds", "max_instances", "enabled", "last_run_at",
)  # fmt: skip

"""The queries over plain lists of documents: what the engine must agree with, written as the rules are said.

No index, no counter, no integer instants: documents in, filtered, sorted and sliced as a person would.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

Document = dict[str, Any]

ALIASES = {
    "FAILURE": "failed fail failing error 失败 执行失败",
    "SUCCESS": "succeeded successful ok 成功 执行成功",
    "TIMEOUT": "timed_out timedout 超时 执行超时",
    "RUNNING": "执行中 运行中",
    "PENDING": "queued waiting 等待 等待执行",
}
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "FAILURE", "TIMEOUT")


@cache
def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def means(term: str, status: str) -> bool:
    """Whether a folded term means a status: a part of its name, or one of its other words."""
    words = {folded(word) for word in ALIASES[status].split()} | ({"timed out"} if status == "TIMEOUT" else set())
    return bool(term) and (term in folded(status) or term in words)


@cache
def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def effective(document: Document) -> datetime:
    return moment(document["started_at"] or document["created_at"])


def page(matching: list[Document], order: Any, *, order_desc: bool, limit: int, offset: int) -> Document:
    """Nulls last in both directions, ties by number in the same direction, then the slice and the six fields."""
    placed = [(*order(document), document) for document in matching]
    present = sorted((each for each in placed if each[0] is not None), key=lambda each: each[:2], reverse=order_desc)
    absent = sorted((each for each in placed if each[0] is None), key=lambda each: each[1], reverse=order_desc)
    data = [document for *_, document in (present + absent)[offset : offset + limit]]
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
        and (status is None or document["status"] in status)
        and (trace_id is None or document["trace_id"] == trace_id)
        and found(document)
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


def job_number(numbers: dict[str, int], reference: str | int) -> int | None:
    """The job that a name or a number names: the exact name first, then ASCII digits."""
    text = str(reference)
    if text in numbers:
        return numbers[text]
    is_number = text.isascii() and text.isdigit() and int(text) in numbers.values()
    return int(text) if is_number else None


def stats(
    history: list[Document],
    *,
    job_number: str | None = None,
    before: datetime | None = None,
    after: datetime | None = None,
) -> Document:
    """`job_stats`, counted and sorted as it is said."""
    runs = [
        document
        for document in history
        if (job_number is None or document["job_id"] == job_number)
        and (after is None or effective(document) >= after)
        and (before is None or effective(document) <= before)
    ]
    finished = [run for run in runs if run["status"] in {"SUCCESS", "FAILURE", "TIMEOUT"}]
    never_started = sum(run["started_at"] is None for run in finished)
    finished = [run for run in finished if run["started_at"] is not None]
    durations = sorted(run["duration_ms"] for run in finished if run["duration_ms"] is not None)

    def not_exceeded_by(percent: int) -> int | None:
        enough = (d for d in durations if 100 * sum(other <= d for other in durations) >= percent * len(durations))
        return next(enough, None)

    def last(status: str) -> str | None:
        starts = [run for run in runs if run["status"] == status]
        latest = max(starts, key=effective, default=None)
        return None if latest is None else latest["started_at"] or latest["created_at"]

    succeeded = sum(run["status"] == "SUCCESS" for run in finished)
    return {
        "job_id": job_number,
        "after": None if after is None else written(after),
        "before": None if before is None else written(before),
        "runs": len(runs),
        "by_status": {status: sum(run["status"] == status for run in runs) for status in STATUSES},
        "never_started": never_started,
        "success_rate": succeeded / len(finished) if finished else None,
        "duration_ms": {
            "average": sum(durations) / len(durations) if durations else None,
            "p50": not_exceeded_by(50),
            "p95": not_exceeded_by(95),
            "max": durations[-1] if durations else None,
        },
        "last_success_at": last("SUCCESS"),
        "last_failure_at": last("FAILURE"),
    }


def written(at: datetime) -> str:
    """RFC 3339 in UTC: seconds, and six digits of fraction where there is one."""
    text = at.astimezone(UTC).isoformat(timespec="microseconds" if at.microsecond else "seconds")
    return text.replace("+00:00", "Z")


# --- next_run_at ------------------------------------------------------------------------------------

ALIASED = {"@hourly": "0 * * * *", "@daily": "0 0 * * *"}
END = datetime.max.replace(tzinfo=UTC)


def next_run(job: Document, zone: str, now: datetime) -> datetime | None:
    """When a job (with its `anchor_at`) runs next, as the rules say it."""
    if not job["enabled"]:
        return None
    if job["schedule"] is not None:
        return next_cron(job["schedule"], zone, now)
    if job["interval_seconds"] is None:
        announced = job["next_run_at"] and moment(job["next_run_at"])
        return announced if announced and announced > now else None
    anchor = moment(job["anchor_at"] or job["last_run_at"] or job["created_at"])
    step = timedelta(seconds=job["interval_seconds"])
    count = max(1, (now - anchor) // step + 1)
    return anchor + count * step if count <= (END - anchor) // step else None


@cache
def next_cron(expression: str, zone: str, now: datetime) -> datetime | None:
    """The first firing after now of a plain expression: every wall time of a day is tried, day after day."""
    fields = ALIASED.get(expression, expression).split()
    minutes, hours = (_values(field, 0, last) for field, last in zip(fields, (59, 23), strict=False))
    is_fixed = not any(field.startswith("*") for field in fields[:2])
    tz = ZoneInfo(zone)
    today = now.date().toordinal()  # in UTC: elsewhere it may be the day before or after
    for day in range(max(today - 1, 1), min(today + 800, date.max.toordinal() + 1)):
        if not _is_day(fields, date.fromordinal(day)):
            continue
        walls = [datetime.combine(date.fromordinal(day), time(hour, minute)) for hour in hours for minute in minutes]
        fires = sorted(fire for wall in walls for fire in _instants(wall, tz, is_fixed=is_fixed) if fire > now)
        if fires:
            return fires[0]
    return None


def _values(field: str, first: int, last: int) -> list[int]:
    """The numbers of a field: lists of ``*``, ``*/n``, ``a`` and ``a-b``."""
    found: list[int] = []
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        found += range(int(low), int(high or low) + 1, int(step or 1))
    return found


def _is_day(fields: list[str], day: date) -> bool:
    return (
        (fields[2] == "*" or day.day in _values(fields[2], 1, 31))
        and (fields[3] == "*" or day.month in _values(fields[3], 1, 12))
        and (fields[4] == "*" or day.isoweekday() % 7 in _values(fields[4], 0, 6))
    )


@cache
def _instants(wall: datetime, tz: ZoneInfo, *, is_fixed: bool) -> list[datetime]:
    """When the wall shows this time: once, twice, or (in the gap of a clock set forward) never."""
    try:
        shown = [wall.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1)]
        real = sorted({each for each in shown if each.astimezone(tz).replace(tzinfo=None) == wall})
    except OverflowError:
        return []
    if not is_fixed:
        return real
    return real[:1] or [_end_of_gap(min(shown), max(shown), tz)]


def _end_of_gap(low: datetime, high: datetime, tz: ZoneInfo) -> datetime:
    """The first minute with the new offset."""
    offset = high.astimezone(tz).utcoffset()
    at = low
    while at.astimezone(tz).utcoffset() != offset:
        at += timedelta(minutes=1)
    return at


# --- states and histograms --------------------------------------------------------------------------

STATES = ("lost", "late", "failing", "running", "waiting", "new", "ok", "disabled")
"""In attention order."""
FAILED = {"FAILURE", "TIMEOUT"}


def newest_first(runs: list[Document]) -> list[Document]:
    return sorted(runs, key=lambda run: (effective(run), int(run["id"])), reverse=True)


def state(
    job: Document, runs: list[Document], zone: str, now: datetime, gone: frozenset[str] = frozenset()
) -> tuple[str, str]:
    """The state of a job (with its `anchor_at`) and since when; `gone`: executions whose process is gone."""
    last_run = job["last_run_at"] and moment(job["last_run_at"])
    touched = max(moment(job["created_at"]), moment(job["updated_at"]), *([last_run] if last_run else []))
    running = [run for run in runs if run["status"] == "RUNNING"]
    waiting = [run for run in runs if run["status"] == "PENDING"]
    lost = [run for run in running if run["id"] in gone or _overran(run, job["timeout_seconds"], now)]
    due = None if running or waiting else next_run(job, zone, touched)
    streak = _streak(runs)
    rules: list[tuple[str, bool, list[datetime | None]]] = [
        ("disabled", not job["enabled"], [touched]),
        ("lost", bool(lost), [effective(run) for run in lost]),
        ("late", due is not None and now - due > timedelta(seconds=300), [due]),
        ("running", bool(running), [effective(run) for run in running]),
        ("waiting", bool(waiting), [effective(run) for run in waiting]),
        ("failing", bool(streak) and streak[0]["status"] in FAILED, [effective(run) for run in streak]),
        ("ok", last_run is not None, [effective(run) for run in streak] or [last_run]),
        ("new", True, [moment(job["created_at"])]),
    ]
    name, since = next((name, moments) for name, holds, moments in rules if holds)
    return name, written(min(each for each in since if each is not None))


def _overran(run: Document, timeout_seconds: int | None, now: datetime) -> bool:
    return timeout_seconds is not None and now - effective(run) > timedelta(seconds=timeout_seconds + 60)


def _streak(runs: list[Document]) -> list[Document]:
    """The newest finished executions that all succeeded, or all failed, newest first."""
    finished = [run for run in newest_first(runs) if run["status"] not in {"RUNNING", "PENDING"}]
    streak: list[Document] = []
    for run in finished:
        if (run["status"] in FAILED) != (finished[0]["status"] in FAILED):
            break
        streak.append(run)
    return streak


def state_document(
    job: Document, runs: list[Document], zone: str, now: datetime, words: str, gone: frozenset[str] = frozenset()
) -> Document:
    name, since = state(job, runs, zone, now, gone)
    newest = newest_first(runs)
    ran = [run for run in newest if run["status"] not in {"RUNNING", "PENDING"}][:100]
    ran = [run for run in ran if run["started_at"] is not None]
    durations = sorted(run["duration_ms"] for run in ran if run["duration_ms"] is not None)
    streak = _streak(runs)
    fires = next_run(job, zone, now)

    def not_exceeded_by(percent: int) -> int | None:
        enough = (d for d in durations if 100 * sum(other <= d for other in durations) >= percent * len(durations))
        return next(enough, None)

    return {
        "job_id": str(job["number"]),
        "name": job["name"],
        "description": job["description"],
        "job_type": job["job_type"],
        "job_category": job["job_category"],
        "state": name,
        "since": since,
        "failures_in_a_row": len(streak) if streak and streak[0]["status"] in FAILED else 0,
        "schedule": job["schedule"],
        "schedule_text": words,
        "next_run_at": None if fires is None else written(fires),
        "last": newest[0] if newest else None,
        "recent": [
            {field: run[field] for field in ("id", "status", "started_at", "duration_ms")} for run in newest[19::-1]
        ],
        "success_rate": sum(run["status"] == "SUCCESS" for run in ran) / len(ran) if ran else None,
        "p50_ms": not_exceeded_by(50),
        "p95_ms": not_exceeded_by(95),
    }


def job_states(
    documents: list[Document],
    jobs_by_number: dict[str, Document],
    *,
    search: str | None = None,
    limit: int = 50,
    offset: int = 0,
    order_by: str = "attention",
    order_desc: bool = False,
    state: list[str] | None = None,
    job_type: str | None = None,
    job_category: str | None = None,
) -> Document:
    """`list_job_states` over the state documents of all jobs."""
    term = folded((search or "").strip())
    matching = [
        document
        for document in documents
        if any(term in folded(document[field]) for field in ("name", "job_type", "job_category"))
        and (job_type is None or document["job_type"] == job_type)
        and (job_category is None or document["job_category"] == job_category)
    ]

    def order(document: Document) -> tuple[Any, int]:
        number = int(document["job_id"])
        if order_by == "attention":
            return (STATES.index(document["state"]), moment(document["since"]), document["name"]), number
        value = jobs_by_number[document["job_id"]][order_by] if order_by == "last_run_at" else document[order_by]
        return (moment(value) if value is not None and order_by.endswith("_at") else value), number

    selected = [document for document in matching if state is None or document["state"] in state]
    answer = page(selected, order, order_desc=order_desc, limit=limit, offset=offset)
    answer["states"] = {each: sum(document["state"] == each for document in matching) for each in STATES}
    return answer


def histogram(
    history: list[Document],
    *,
    job_number: str | None = None,
    search: str | None = None,
    status: list[str] | None = None,
    before: datetime | None = None,
    after: datetime | None = None,
    bucket: str = "auto",
    timezone: str = "UTC",
) -> Document | None:
    """`execution_histogram`; None where there would be more than 400 buckets."""
    runs = executions(history, job_number=job_number, search=search, status=status, limit=len(history) + 1)["data"]
    moments = sorted(map(effective, runs))
    first, last = after, before
    if moments:
        first, last = first or moments[0], last or moments[-1]
    starts: list[datetime] = []
    if first is not None and last is not None and first <= last:
        widths = {"auto": ["1h", "1d"]}.get(bucket, [bucket])
        tried = [(width, bucket_starts(width, timezone, first, last)) for width in widths]
        fitting = [(width, found) for width, found in tried if found is not None]
        if not fitting:
            return None
        bucket, starts = fitting[0]
    counts = []
    for place, start in enumerate(starts):
        inside = [
            run
            for run in runs
            if start <= effective(run) and (place + 1 == len(starts) or effective(run) < starts[place + 1])
            and first <= effective(run) <= last  # type: ignore[operator]  # there are buckets
        ]  # fmt: skip
        by_status = {each: sum(run["status"] == each for run in inside) for each in STATUSES}
        counts.append({"start_at": written(start), "runs": len(inside), "by_status": by_status})
    return {
        "bucket": bucket,
        "timezone": timezone,
        "after": None if after is None else written(after),
        "before": None if before is None else written(before),
        "buckets": counts,
    }


def bucket_starts(width: str, zone: str, first: datetime, last: datetime) -> list[datetime] | None:
    """The whole hours or the first moments of days that the zone's clock shows; None for more than 400."""
    if last - first > timedelta(days=430) or (width == "1h" and last - first > timedelta(days=20)):
        return None
    if (
        first.year < 10 or last.year > 9990
    ):  # the wall's date may lie outside of the calendar: 400 years away it is alike
        away = timedelta(days=146_097 if first.year < 10 else -146_097)
        alike = bucket_starts(width, zone, first + away, last + away)
        earliest = MIN + away if first.year < 10 else MIN
        return alike and [max(start, earliest) - away for start in alike]
    tz = ZoneInfo(zone)
    found: set[datetime] = set()
    for day in range(first.toordinal() - 2, last.toordinal() + 3):
        for hour in range(24) if width == "1h" else [0]:
            # The first moment of a day is when a schedule at midnight fires.
            wall = datetime.combine(date.fromordinal(day), time(hour))
            found.update(_instants(wall, tz, is_fixed=width == "1d"))
    begun = max(start for start in found if start <= first)
    starts = [begun, *sorted(start for start in found if begun < start <= last)]
    return starts if len(starts) <= 400 else None


MIN = datetime.min.replace(tzinfo=UTC)

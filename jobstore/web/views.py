"""The five views: which public queries each one asks, and what its template shows of the answers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from jobstore.language.errors import InvalidParameter, NotFound, shown
from jobstore.language.instants import instant_datetime, instant_text, instant_us
from jobstore.language.models import FINISHED, KNOWN_JOB_CATEGORIES, KNOWN_JOB_TYPES, STATUSES
from jobstore.language.rules import Kind, Parameter
from jobstore.language.schedule import next_cron_us
from jobstore.language.states import STATES, WRONG
from jobstore.web import charts
from jobstore.web.phrases import first_line, rounded, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobstore.web.links import Links
    from jobstore.web.phrases import Phrases

_WITH_OFFSET = re.compile(r"[0-9]:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:[Zz]|[+ -][0-9]{2}:[0-9]{2})$")
PAGE_SIZE, LANES, MOST_BARS = 50, 50, 800
RANGES: Final = {"1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
EXECUTION_RANGES: Final = (*RANGES, "all")
TIMELINE_RANGES: Final = ("1h", "6h", "24h", "7d")
FAILED: Final = ("FAILURE", "TIMEOUT")
_DENSE_LANE, _HOURLY, _LONGEST = 60, timedelta(days=2), timedelta(days=90)
"""Bars in a lane; with more, they would touch each other and say nothing."""
_LARGEST_FIRST = frozenset({"last_run_at", "p95_ms"})
"""Orders in which one looks for the newest or the slowest."""
_TREND_RUNS = 20
_TREND_NOISE = 0.1


@dataclass(frozen=True)
class Look:
    """One look at one view.

    Attributes:
        store: what answers the public queries.
        links: where the reader is.
        phrases: how the page speaks.
        store_zone: the zone that schedules are read in.
    """

    store: Any
    links: Links
    phrases: Phrases
    store_zone: str = "UTC"

    @property
    def now(self) -> datetime:
        """The moment of the look."""
        return self.phrases.now


# Jobs ----------------------------------------------------------------------------------------------


def jobs(look: Look) -> dict[str, Any]:
    """All jobs, those that need attention first."""
    ask, page = look.links, look.links.page()
    order = ask.one("order_by") or "attention"
    answer = look.store.list_job_states(
        search=ask.one("search"), limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE, order_by=order,
        order_desc=ask.flag("order_desc") if ask.one("order_desc") else order in _LARGEST_FIRST,
        state=ask.several("state") or None, job_type=ask.one("job_type"), job_category=ask.one("job_category"),
        lang=look.phrases.lang,
    )  # fmt: skip
    rows = answer["data"]
    counts = {state: answer["states"].get(state, 0) for state in STATES}
    return {
        "title": look.phrases.say("Jobs"),
        "rows": [_job_row(look, each) for each in rows],
        "counts": counts,
        "all": sum(counts.values()),
        "trouble": sum(counts[state] for state in WRONG),
        "chosen": ask.several("state"),
        "order": order,
        "types": sorted({*KNOWN_JOB_TYPES, *(each["job_type"] for each in rows)}),
        "categories": sorted({*KNOWN_JOB_CATEGORIES, *(each["job_category"] for each in rows)}),
        "is_filtered": any(ask.one(name) for name in ("search", "state", "job_type", "job_category")),
        "pages": _pages(look, answer["pagination"]),
    }


def _job_row(look: Look, state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": state,
        "link": look.links.job(state["name"]),
        "strip": charts.strip(state["recent"]),
        "label": strip_label(look.phrases, state["recent"]),
        "runs": look.links.to("executions", job=state["name"], range="all"),
        "is_late": state["state"] == "late",
    }


def strip_label(phrases: Phrases, recent: Sequence[Mapping[str, Any]]) -> str:
    """A strip in words."""
    if not recent:
        return phrases.say("No runs yet")
    counts = charts.outcomes(recent)
    parts = [f"{phrases.number(counts[each])} {phrases.say(STATUS_WORDS[each]).lower()}" for each in counts]
    newest = phrases.say(STATUS_WORDS[recent[-1]["status"]]).lower()
    return phrases.say("Last {n} run: {parts}|Last {n} runs: {parts}; newest {newest}", n=len(recent),
                       parts=", ".join(parts), newest=newest)  # fmt: skip


STATUS_WORDS: Final = {
    "SUCCESS": "Succeeded", "FAILURE": "Failed", "TIMEOUT": "Timed out", "RUNNING": "Running", "PENDING": "Waiting",
}  # fmt: skip


# One job -------------------------------------------------------------------------------------------


def job(look: Look, name: str) -> dict[str, Any]:
    """One job: since when it fails, whether it slows down, what comes next."""
    store, phrases = look.store, look.phrases
    found = store.get_job(name)
    state = _state_of(store, found, phrases.lang)
    runs = store.get_job_executions(found["name"], limit=200)
    failures = store.get_job_executions(found["name"], limit=200, status=list(FAILED))
    today = phrases.moment(look.now).replace(hour=0, minute=0, second=0, microsecond=0)
    days = store.execution_histogram(
        job_id=found["name"], after=today - timedelta(days=29), before=look.now, bucket="1d", timezone=_zone(look)
    )
    timeout_ms = None if found["timeout_seconds"] is None else found["timeout_seconds"] * 1000
    return {
        "title": visible(found["name"]),
        "job": found,
        "state": state,
        "runs": [_run_row(look, each) for each in runs["data"][:20]],
        "total": runs["pagination"]["total"],
        "all_runs": look.links.to("executions", job=found["name"], range="all"),
        "next": next_runs(found, look.store_zone, 5),
        "days": _bars(look, days, STATUSES, {"job": found["name"]}, bucket_days=True),
        "dots": charts.dots(runs["data"], timeout_ms),
        "trend": trend(runs["data"]),
        "errors": distinct_errors(failures["data"]),
        "alarm": failures["data"][0] if state and state["failures_in_a_row"] and failures["data"] else None,
        "failures": failures["pagination"]["total"],
        "failures_read": len(failures["data"]),
        "all_failures": look.links.to("executions", job=found["name"], range="all", status=list(FAILED)),
    }


def _state_of(store: Any, found: Mapping[str, Any], lang: str) -> Mapping[str, Any] | None:
    """The job's entry among the states: the search narrows to it, and rarely to a few more."""
    offset = 0
    while True:
        page = store.list_job_states(
            search=found["name"], limit=PAGE_SIZE, offset=offset, order_by="name", job_type=found["job_type"],
            job_category=found["job_category"], lang=lang,
        )  # fmt: skip
        for each in page["data"]:
            if each["name"] == found["name"]:
                return dict(each)
        if not page["pagination"]["has_next"]:
            return None
        offset += PAGE_SIZE


def next_runs(found: Mapping[str, Any], zone: str, count: int) -> list[datetime]:
    """The next times of a schedule, beginning with the one that the job itself names."""
    at = found["next_run_at"]
    times: list[datetime] = []
    while at is not None and len(times) < count:
        times.append(datetime.fromisoformat(at) if isinstance(at, str) else at)
        at = _after(found, zone, times[-1])
    return times


def _after(found: Mapping[str, Any], zone: str, at: datetime) -> datetime | None:
    if found["schedule_type"] == "interval" and found["interval_seconds"]:
        return at + timedelta(seconds=found["interval_seconds"])
    if found["schedule_type"] != "cron":
        return None
    us = next_cron_us(found["schedule"], zone, instant_us(at))
    return None if us is None else instant_datetime(us)


def trend(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Whether the newest runs take longer than those before, by their medians; ``None`` while there are too few."""
    lengths = [each["duration_ms"] for each in runs if each["status"] == "SUCCESS" and each["duration_ms"] is not None]
    newest, before = lengths[:_TREND_RUNS], lengths[_TREND_RUNS : 5 * _TREND_RUNS]
    if len(newest) < _TREND_RUNS or len(before) < _TREND_RUNS:
        return None
    now, then = sorted(newest)[len(newest) // 2], sorted(before)[len(before) // 2]
    change = (now - then) / max(then, 1)
    verdict = "same" if abs(change) < _TREND_NOISE else "slower" if change > 0 else "faster"
    return {"verdict": verdict, "percent": abs(round(change * 100)), "now": now, "then": then, "n": len(before)}


def distinct_errors(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The different first lines of errors, the most frequent first, each with its newest run."""
    newest: dict[str, Mapping[str, Any]] = {}
    counts: Counter[str] = Counter()
    for each in failures:
        line = first_line(each["error"])
        counts[line] += 1
        newest.setdefault(line, each)
    return [{"line": line, "count": count, "run": newest[line]} for line, count in counts.most_common(8)]


# Executions ----------------------------------------------------------------------------------------


def executions(look: Look) -> dict[str, Any]:
    """What ran in a window: counts, a histogram, and the runs with the first line of their errors."""
    ask, page = look.links, look.links.page()
    span, bounds = window(look, "24h", EXECUTION_RANGES)
    chosen = ask.several("status")
    # The name that the job has now: the address may have had its number.
    one_job = None if ask.one("job") is None else look.store.get_job(ask.one("job"))["name"]
    shared = {"search": ask.one("search"), **bounds}
    narrow = {**shared, "trace_id": ask.one("trace_id")}
    order = ask.one("order_by") or "started_at"
    answer = _list(
        look.store, one_job, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE, status=chosen or None, order_by=order,
        order_desc=not ask.flag("order_asc"), **narrow,
    )  # fmt: skip
    histogram = None if narrow["trace_id"] else _histogram(look, one_job, shared)
    counts = _counts(look.store, one_job, narrow, histogram)
    return {
        "title": look.phrases.say("Executions"),
        "rows": [_run_row(look, each) for each in answer["data"]],
        "counts": counts,
        "all": sum(counts.values()),
        "chosen": chosen,
        "order": order,
        "job": one_job,
        "span": span,
        "ranges": EXECUTION_RANGES,
        "bounds": _local(look, bounds),
        "chart": histogram and _bars(look, histogram, chosen or STATUSES, {}),
        "pages": _pages(look, answer["pagination"]),
    }


def window(look: Look, default: str, ranges: Iterable[str]) -> tuple[str, dict[str, datetime]]:
    """The range that was chosen, by its name or as ``own``, and its bounds as the queries take them."""
    given = {name: look.links.one(name) for name in ("after", "before")}
    own = {name: _instant(look, name, text) for name, text in given.items() if text}
    span = "own" if own else look.links.one("range") or default
    if span != "own" and span not in ranges:
        raise InvalidParameter(f"range must be one of {', '.join(ranges)}; received {shown(span)}")
    return span, {"after": look.now - timedelta(seconds=RANGES[span])} if span in RANGES else own


def _instant(look: Look, name: str, text: str) -> datetime:
    """What a form's field or an address says; without an offset it is a time in the page's zone."""
    moment = instant_datetime(Parameter(name, Kind.INSTANT, "").check(text, text))
    return moment if _WITH_OFFSET.search(text) else moment.replace(tzinfo=look.phrases.zone)


def _text(moment: datetime) -> str:
    return str(instant_text(instant_us(moment)))


def _local(look: Look, bounds: Mapping[str, datetime]) -> dict[str, str]:
    """The bounds as the fields of a form take them."""
    return {
        name: f"{look.phrases.moment(bounds[name]):%Y-%m-%dT%H:%M:%S}" if name in bounds else ""
        for name in ("after", "before")
    }


def _list(store: Any, one_job: str | None, **keywords: object) -> dict[str, Any]:
    if one_job is None:
        return dict(store.list_job_executions(**keywords))
    return dict(store.get_job_executions(one_job, **keywords))


def _histogram(look: Look, one_job: str | None, shared: Mapping[str, Any]) -> dict[str, Any] | None:
    if "after" not in shared:
        return None  # of all time there may be more days than marks
    try:
        return dict(look.store.execution_histogram(job_id=one_job, timezone=_zone(look), **shared))
    except InvalidParameter:
        return None  # a window too long for its buckets; the list still answers


def _counts(store: Any, one_job: str | None, narrow: Mapping[str, Any], histogram: Any) -> dict[str, int]:
    """How many of each status; from the histogram where there is one, else by the totals of five lists."""
    if histogram:
        return {each: sum(bucket["by_status"][each] for bucket in histogram["buckets"]) for each in STATUSES}
    lists = {each: _list(store, one_job, limit=1, status=each.value, **narrow) for each in STATUSES}
    return {each: found["pagination"]["total"] for each, found in lists.items()}


def _zone(look: Look) -> str:
    return str(look.phrases.zone)


def _bars(
    look: Look, histogram: Mapping[str, Any], statuses: Iterable[str], where: Mapping[str, str], *,
    bucket_days: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The bars of a histogram, each with the address of its own runs."""
    found, most = charts.bars(histogram["buckets"], statuses)
    starts = [datetime.fromisoformat(each["bucket"]["start_at"]) for each in found]
    is_days = bucket_days or histogram["bucket"] == "1d"
    first, last = (histogram[name] and datetime.fromisoformat(histogram[name]) for name in ("after", "before"))
    for place, bar in enumerate(found):
        end = starts[place + 1] - timedelta(microseconds=1) if place + 1 < len(starts) else last
        bounds = {
            "after": _text(max(first or starts[place], starts[place])),
            "before": end and _text(min(last or end, end)),
        }
        bar["link"] = look.links.to("executions", **{**where, **bounds}) if where else look.links.changed(
            range=None, **bounds)  # fmt: skip
        bar["at"] = starts[place]
        moment = look.phrases.moment(starts[place])
        bar["label"] = f"{moment:%m-%d}" if is_days else f"{moment:%m-%d %H:%M}"
    return {"bars": found, "most": most, "total": sum(each["total"] for each in found), "is_days": is_days}


def _run_row(look: Look, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "link": look.links.execution(run["id"]),
        # By its number, since the name may be an older one; where the job is gone, its history is found by this name.
        "job": look.links.job(run["job_id"], was=run["job_name"]),
        "line": first_line(run["error"]),
    }


# One execution -------------------------------------------------------------------------------------


def execution(look: Look, number: str, log_url: str | None) -> dict[str, Any]:
    """One run in full, what is different now, and its neighbours."""
    run = look.store.get_execution(number)
    try:
        found = look.store.get_job(run["job_id"])
    except NotFound:
        found = None
    here = run["started_at"] or run["created_at"]
    earlier = later = None
    if found:
        ask = look.store.get_job_executions
        key = _key(run)
        earlier = _first(ask(found["name"], before=here, limit=10)["data"], lambda each: _key(each) < key)
        later = _first(
            ask(found["name"], after=here, limit=10, order_desc=False)["data"], lambda each: _key(each) > key
        )
    return {
        "title": look.phrases.say("Execution {id}", id=run["id"]),
        "run": run,
        "job": found,
        "link": look.links.job(run["job_id"]) if found else None,
        "past": look.links.to("executions", search=run["job_name"], range="all"),
        "earlier": earlier and look.links.execution(earlier["id"]),
        "later": later and look.links.execution(later["id"]),
        "changes": found and differences(run["parameters_snapshot"], found["parameters"]),
        "log": log_url and run["trace_id"] and log_url.replace("{trace_id}", quote(run["trace_id"], safe="")),
        "same_trace": run["trace_id"] and look.links.to("executions", trace_id=run["trace_id"], range="all"),
        "is_finished": run["status"] in FINISHED,
    }


def _key(run: Mapping[str, Any]) -> tuple[datetime, int]:
    return datetime.fromisoformat(run["started_at"] or run["created_at"]), int(run["id"])


def _first(rows: Iterable[Any], holds: Any) -> Any:
    return next((each for each in rows if holds(each)), None)


def differences(then: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """What a run's parameters and its job's parameters now do not share: name, then, now.

    >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3})
    [('b', 2, 3)]
    """
    if not isinstance(then, dict) or not isinstance(now, dict):
        return [] if then == now else [("", then, now)]
    names = [*then, *(name for name in now if name not in then)]
    return [(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


# Timeline ------------------------------------------------------------------------------------------


def timeline(look: Look) -> dict[str, Any]:
    """A lane for each job: what ran, what runs, what comes."""
    ask = look.links
    span, bounds = window(look, "6h", TIMELINE_RANGES)
    now = look.now
    begin = bounds.get("after", bounds.get("before", now) - timedelta(days=1))
    end = bounds.get("before", now + max(now - begin, timedelta(0)) / 5)
    if not timedelta(0) <= end - begin <= _LONGEST:
        raise InvalidParameter(f"A timeline is from after to before, at most {_LONGEST.days} days")
    states = look.store.list_job_states(
        search=ask.one("search"), limit=LANES, state=ask.several("state") or None, job_type=ask.one("job_type"),
        job_category=ask.one("job_category"), lang=look.phrases.lang,
    )  # fmt: skip
    edges = (begin.timestamp(), max(end, begin + timedelta(seconds=1)).timestamp())
    runs = _runs_by_job(look, states["data"], begin, min(end, now))
    return {
        "title": look.phrases.say("Timeline"),
        "lanes": [_lane(look, each, runs[each["job_id"]], edges) for each in states["data"]],
        "ticks": _ticks(look, begin, end, edges),
        "now_x": charts.across(now.timestamp(), *edges) if begin <= now <= end else None,
        "span": span,
        "ranges": TIMELINE_RANGES,
        "total": states["pagination"]["total"],
        "bounds": _local(look, {"after": begin, "before": end}),
    }


def _runs_by_job(
    look: Look, states: Sequence[Mapping[str, Any]], begin: datetime, end: datetime
) -> dict[str, list[Any] | dict[str, Any]]:
    """The runs of each lane, or its histogram where they are too many to tell apart.

    One page has them all, as a rule. Where they are more, the newest 20 that come with each state are often enough.
    """
    bounds = {"after": begin, "before": max(begin, end)}
    is_whole = look.store.list_job_executions(limit=1, **bounds)["pagination"]["total"] <= MOST_BARS
    found: dict[str, Any] = {each["job_id"]: [] for each in states}
    for run in look.store.list_job_executions(limit=MOST_BARS, **bounds)["data"] if is_whole else ():
        found.get(run["job_id"], []).append(run)
    for each in states:
        runs = found[each["job_id"]] if is_whole else _recent_since(each["recent"], begin, end)
        if runs is None or len(runs) > _DENSE_LANE:
            runs = look.store.execution_histogram(
                job_id=each["job_id"], timezone=_zone(look), bucket="1h" if end - begin < _HOURLY else "1d", **bounds
            )
        found[each["job_id"]] = runs
    return found


def _recent_since(recent: Sequence[Mapping[str, Any]], begin: datetime, end: datetime) -> list[Any] | None:
    """The runs of a window among the newest ones; ``None`` where it holds more than these."""
    moments = [(datetime.fromisoformat(each["started_at"]), each) for each in recent if each["started_at"]]
    if len(recent) >= charts.STRIP_MARKS and all(at >= begin for at, _ in moments):
        return None
    return [each for at, each in moments if begin <= at <= end]


def _lane(look: Look, state: Mapping[str, Any], runs: Any, edges: tuple[float, float]) -> dict[str, Any]:
    lane: dict[str, Any] = {
        "state": state,
        "link": look.links.job(state["name"]),
        "bars": [],
        "buckets": [],
        "next": None,
    }
    shown = runs if isinstance(runs, list) else []
    last = state["last"]
    if last and last["status"] not in FINISHED and all(run["id"] != last["id"] for run in shown):
        shown = [*shown, last]  # it began before the window, or waits, or is inside a bucket
    lane["bars"] = [_bar(look, run, edges) for run in shown]
    lane["buckets"] = [] if isinstance(runs, list) else _buckets(runs, edges)
    if state["next_run_at"] is not None:
        at = datetime.fromisoformat(state["next_run_at"]).timestamp()
        if at <= edges[1]:
            lane["next"] = charts.across(at, *edges)
    return lane


def _bar(look: Look, run: Mapping[str, Any], edges: tuple[float, float]) -> dict[str, Any]:
    at = run["started_at"] or run["created_at"]
    start = datetime.fromisoformat(at).timestamp()
    now = look.now.timestamp()
    end = start + (run["duration_ms"] or 0) / 1000 if run["status"] in FINISHED else now
    x, right = charts.across(start, *edges), charts.across(max(start, end), *edges)
    return {"x": x, "w": max(0.25, round(right - x, 3)), "kind": charts.CLASSES[run["status"]], "run": run, "at": at,
            "link": look.links.execution(run["id"])}  # fmt: skip


def _buckets(histogram: Mapping[str, Any], edges: tuple[float, float]) -> list[dict[str, Any]]:
    starts = [datetime.fromisoformat(each["start_at"]).timestamp() for each in histogram["buckets"]]
    ends = [*starts[1:], datetime.fromisoformat(histogram["before"]).timestamp()]
    most = max((each["runs"] for each in histogram["buckets"]), default=0) or 1
    found = []
    for each, start, end in zip(histogram["buckets"], starts, ends, strict=True):
        x, right = charts.across(start, *edges), charts.across(end, *edges)
        bad = each["by_status"]["FAILURE"] + each["by_status"]["TIMEOUT"]
        if each["runs"]:
            size = {"h": round(4 + 14 * each["runs"] / most, 1), "bad_h": round(4 + 14 * bad / most, 1) if bad else 0}
            found.append({"x": x, "w": max(0.2, round(right - x - 0.1, 3)), "runs": each["runs"], "bad": bad} | size)
    return found


_MOST_TICKS = 12
_STEPS = [timedelta(minutes=each) for each in (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)]


def _ticks(look: Look, begin: datetime, end: datetime, edges: tuple[float, float]) -> list[dict[str, Any]]:
    step = next((each for each in _STEPS if (end - begin) / each <= 9), timedelta(days=max(1, (end - begin).days // 8)))  # noqa: PLR2004 - labels side by side
    at = rounded(look.phrases.moment(begin), step) + step
    ticks: list[dict[str, Any]] = []
    while at < end and len(ticks) < _MOST_TICKS:
        text = f"{at:%m-%d}" if (at.hour, at.minute) == (0, 0) else f"{at:%H:%M}"
        ticks.append({"x": charts.across(at.timestamp(), *edges), "text": text})
        at += step
    return ticks


# Pages of a list -----------------------------------------------------------------------------------


def _pages(look: Look, pagination: Mapping[str, Any]) -> dict[str, Any]:
    page, last = pagination["page"], max(1, pagination["total_pages"])
    first = (page - 1) * pagination["page_size"] + 1
    return {
        "page": page,
        "last": last,
        "total": pagination["total"],
        "first_row": first,
        "last_row": min(first + pagination["page_size"] - 1, pagination["total"]),
        "previous": look.links.changed(page=min(page - 1, last)) if page > 1 else None,
        "next": look.links.changed(page=page + 1) if pagination["has_next"] else None,
        "first": look.links.changed() if page > 1 else None,
        "final": look.links.changed(page=last) if page < last else None,
    }

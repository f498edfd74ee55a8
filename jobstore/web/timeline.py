"""The timeline: a lane for each job with its past, current and next runs."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jobstore.language.errors import InvalidParameter
from jobstore.language.models import FINISHED, STATUSES
from jobstore.web import charts
from jobstore.web.phrases import rounded
from jobstore.web.views import Look, local_bounds, window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TIMELINE_RANGES: Final = ("1h", "6h", "24h", "7d")
LANES, MOST_BARS = 50, 800
OPEN: Final = [each for each in STATUSES if each not in FINISHED]
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
"""A year from the ends of the calendar, so that what is added or taken off is a time as well."""
_DENSE_LANE, _HOURLY, _LONGEST = 60, timedelta(days=2), timedelta(days=90)
"""A lane with more than `_DENSE_LANE` runs shows a histogram: by hour in a window below `_HOURLY`, else by day."""


def timeline(look: Look) -> dict[str, Any]:
    """Return the template data for the timeline."""
    ask = look.links
    span, bounds = window(look, "6h", TIMELINE_RANGES)
    now = look.now
    if not all(_FIRST <= each <= _LAST for each in bounds.values()):
        raise InvalidParameter(f"A timeline lies in the years {_FIRST.year} to {_LAST.year}")
    begin = bounds.get("after", bounds.get("before", now) - timedelta(days=1))
    next_minute = look.minute + timedelta(minutes=1)
    end = bounds.get("before", next_minute + max(look.minute - begin, timedelta(0)) / 5)
    if not timedelta(0) <= end - begin <= _LONGEST:
        raise InvalidParameter(f"A timeline is from after to before, at most {_LONGEST.days} days")
    states = look.store.list_job_states(
        search=ask.one("search"), limit=LANES, state=ask.several("state") or None, job_type=ask.one("job_type"),
        job_category=ask.one("job_category"), lang=look.phrases.lang,
    )  # fmt: skip
    edges = (begin.timestamp(), max(end, begin + timedelta(seconds=1)).timestamp())
    bounds = {"after": begin, "before": max(begin, min(end, next_minute))}
    is_whole = look.store.list_job_executions(limit=1, **bounds)["pagination"]["total"] <= MOST_BARS
    runs = _runs_by_job(look, states["data"], bounds, is_whole=is_whole)
    reaching = _reaching(look, bounds, is_whole=is_whole)
    return {
        "title": look.phrases.say("Timeline"),
        "lanes": [_lane(look, each, runs[each["job_id"]], reaching[each["job_id"]], edges) for each in states["data"]],
        "ticks": _ticks(look, begin, end, edges),
        "now_x": charts.across(now.timestamp(), *edges) if begin <= now <= end else None,
        "span": span,
        "is_filtered": look.has_job_filter,
        "ranges": TIMELINE_RANGES,
        "total": states["pagination"]["total"],
        "bounds": local_bounds(look, {"after": begin, "before": end}),
    }


def _runs_by_job(
    look: Look, states: Sequence[Mapping[str, Any]], bounds: Mapping[str, datetime], *, is_whole: bool
) -> dict[str, list[Any] | dict[str, Any]]:
    """Return each job's runs in the window, or a histogram of them if there are too many to tell apart.

    Usually one query lists all runs of the window. If there are more than `MOST_BARS`, use the newest 20 runs that each
    job's state already has, if they cover the window, else ask for the job's histogram.
    """
    begin, end = bounds["after"], bounds["before"]
    found: dict[str, Any] = {each["job_id"]: [] for each in states}
    for run in look.store.list_job_executions(limit=MOST_BARS, **bounds)["data"] if is_whole else ():
        found.get(run["job_id"], []).append(run)
    for each in states:
        runs = found[each["job_id"]] if is_whole else _recent_since(each["recent"], begin, end)
        if runs is None or len(runs) > _DENSE_LANE:
            runs = look.store.execution_histogram(
                job_id=each["job_id"], timezone=look.zone, bucket="1h" if end - begin < _HOURLY else "1d", **bounds
            )
        found[each["job_id"]] = runs
    return found


def _reaching(look: Look, bounds: Mapping[str, datetime], *, is_whole: bool) -> Mapping[str, list[Any]]:
    """Return each job's open runs and, where every run of the window is drawn, those from before it that ended last."""
    asked: list[dict[str, Any]] = [{"status": OPEN, "before": bounds["before"], "order_desc": False}]
    if is_whole:
        asked.append({"before": bounds["after"], "order_by": "completed_at"})
    found = defaultdict(list)
    for each in asked:
        for run in look.store.list_job_executions(limit=MOST_BARS, **each)["data"]:
            found[run["job_id"]].append(run)
    return found


def _recent_since(recent: Sequence[Mapping[str, Any]], begin: datetime, end: datetime) -> list[Any] | None:
    """Return the window's runs among a job's newest ones; ``None`` if the window may hold more than these."""
    moments = [(datetime.fromisoformat(each["started_at"]), each) for each in recent if each["started_at"]]
    if len(recent) >= charts.STRIP_MARKS and all(at >= begin for at, _ in moments):
        return None
    return [each for at, each in moments if begin <= at <= end]


def _lane(
    look: Look, state: Mapping[str, Any], runs: Any, reaching: Sequence[Any], edges: tuple[float, float]
) -> dict[str, Any]:
    lane: dict[str, Any] = {
        "state": state,
        "link": look.links.job(state["name"]),
        "bars": [],
        "buckets": [],
        "next": None,
    }
    shown = runs if isinstance(runs, list) else []
    others = _others(look, [*state["recent"], *reaching], shown, edges)
    lane["bars"] = [_bar(look, run, edges) for run in [*shown, *others]]
    lane["buckets"] = [] if isinstance(runs, list) else _buckets(runs, edges)
    if state["next_run_at"] is not None:
        at = datetime.fromisoformat(state["next_run_at"]).timestamp()
        if at <= edges[1]:
            lane["next"] = charts.across(at, *edges)
    return lane


def _others(
    look: Look, runs: Iterable[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]], edges: tuple[float, float]
) -> list[Any]:
    """Return those of a job's runs that began before the window and reach into it, and open ones without a bar."""
    others = {run["id"]: run for run in runs}
    for run in shown:
        others.pop(run["id"], None)
    found = []
    for run in others.values():
        if run["started_at"] or run.get("created_at"):  # of the newest that wait, a state does not say since when
            start, end = _ends(look, run)
            is_open = run["status"] not in FINISHED
            if start <= edges[1] and end > edges[0] and (start < edges[0] or is_open):
                found.append(run)
    return found[:_DENSE_LANE]


def _ends(look: Look, run: Mapping[str, Any]) -> tuple[float, float]:
    """Return when a run began and ended, as timestamps; until it ends, now is its end."""
    start = datetime.fromisoformat(run["started_at"] or run["created_at"]).timestamp()
    end = start + (run["duration_ms"] or 0) / 1000 if run["status"] in FINISHED else look.now.timestamp()
    return start, end


def _bar(look: Look, run: Mapping[str, Any], edges: tuple[float, float]) -> dict[str, Any]:
    at = run["started_at"] or run["created_at"]
    start, end = _ends(look, run)
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

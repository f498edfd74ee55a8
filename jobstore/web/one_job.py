"""The view of one job: since when it fails, whether it slows down, when it runs next."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobstore.language.instants import MAX_US, MICROSECONDS, instant_datetime, instant_us
from jobstore.language.models import STATUSES
from jobstore.language.schedule import next_cron_us
from jobstore.queries import find_state
from jobstore.web import charts
from jobstore.web.phrases import first_line
from jobstore.web.views import FAILED, Look, bars, run_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TREND_RUNS = 20
_TREND_NOISE = 0.1


def job(look: Look, name: str) -> dict[str, Any]:
    """Return the template data for one job."""
    store, phrases = look.store, look.phrases
    found = store.get_job(name)
    state = find_state(store, found, phrases.lang)
    runs = store.get_job_executions(found["name"], limit=200)
    failures = store.get_job_executions(found["name"], limit=200, status=list(FAILED))
    today = phrases.moment(look.now).replace(hour=0, minute=0, second=0, microsecond=0)
    days = store.execution_histogram(
        job_id=found["name"], after=today - timedelta(days=29), before=today + timedelta(days=1, microseconds=-1),
        bucket="1d", timezone=look.zone,
    )  # fmt: skip
    timeout_ms = None if found["timeout_seconds"] is None else found["timeout_seconds"] * 1000
    return {
        "title": found["name"],
        "job": found,
        "state": state,
        "runs": [run_row(look, each) for each in runs["data"][:20]],
        "total": runs["pagination"]["total"],
        "all_runs": look.links.to("executions", job=found["name"], range="all"),
        "next": next_runs(found, look.store_zone, 5),
        "days": bars(look, days, STATUSES, {"job": found["name"]}, bucket_days=True),
        "dots": charts.dots(runs["data"], timeout_ms),
        "trend": trend(runs["data"]),
        "errors": distinct_errors(failures["data"]),
        "alarm": failures["data"][0] if state and state["failures_in_a_row"] and failures["data"] else None,
        "failures": failures["pagination"]["total"],
        "failures_read": len(failures["data"]),
        "all_failures": look.links.to("executions", job=found["name"], range="all", status=list(FAILED)),
    }


def next_runs(found: Mapping[str, Any], zone: str, count: int) -> list[datetime]:
    """Return up to `count` next times of a schedule, starting with the job's ``next_run_at``."""
    at = found["next_run_at"]
    times: list[datetime] = []
    while at is not None and len(times) < count:
        times.append(datetime.fromisoformat(at) if isinstance(at, str) else at)
        at = _after(found, zone, times[-1])
    return times


def _after(found: Mapping[str, Any], zone: str, at: datetime) -> datetime | None:
    if found["schedule_type"] == "interval" and found["interval_seconds"]:
        us = instant_us(at) + found["interval_seconds"] * MICROSECONDS
        return instant_datetime(us) if us <= MAX_US else None
    if found["schedule_type"] != "cron":
        return None
    us = next_cron_us(found["schedule"], zone, instant_us(at))
    return None if us is None else instant_datetime(us)


def trend(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Compare the median duration of the newest 20 successes with that of the 80 before; ``None`` if too few.

    A change of less than 10 % counts as the same.
    """
    lengths = [each["duration_ms"] for each in runs if each["status"] == "SUCCESS" and each["duration_ms"] is not None]
    newest, before = lengths[:_TREND_RUNS], lengths[_TREND_RUNS : 5 * _TREND_RUNS]
    if len(newest) < _TREND_RUNS or len(before) < _TREND_RUNS:
        return None
    now, then = sorted(newest)[len(newest) // 2], sorted(before)[len(before) // 2]
    change = (now - then) / max(then, 1)
    verdict = "same" if abs(change) < _TREND_NOISE else "slower" if change > 0 else "faster"
    return {"verdict": verdict, "percent": abs(round(change * 100)), "now": now, "then": then, "n": len(before)}


def distinct_errors(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the eight most frequent first lines of errors, most frequent first, each with its newest run."""
    newest: dict[str, Mapping[str, Any]] = {}
    counts: Counter[str] = Counter()
    for each in failures:
        line = first_line(each["error"])
        counts[line] += 1
        newest.setdefault(line, each)
    return [{"line": line, "count": count, "run": newest[line]} for line, count in counts.most_common(8)]

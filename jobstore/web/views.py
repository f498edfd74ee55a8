"""The views of jobs, executions and one execution, and what all views share: from query answers to template data."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from jobstore.language.errors import InvalidParameter, NotFound, shown
from jobstore.language.instants import instant_datetime, instant_text, instant_us
from jobstore.language.models import FINISHED, KNOWN_JOB_CATEGORIES, KNOWN_JOB_TYPES, STATUSES
from jobstore.language.rules import Kind, Parameter
from jobstore.language.states import STATES, WRONG
from jobstore.web import charts
from jobstore.web.links import BOUNDS
from jobstore.web.phrases import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobstore.web.links import Links
    from jobstore.web.phrases import Phrases

_WITH_OFFSET = re.compile(r"[0-9]:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:[Zz]|[+ -][0-9]{2}:[0-9]{2})$")
PAGE_SIZE: Final = 50
RANGES: Final = {"1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
EXECUTION_RANGES: Final = (*RANGES, "all")
FAILED: Final = ("FAILURE", "TIMEOUT")
_LARGEST_FIRST = frozenset({"last_run_at", "p95_ms"})
"""Orders that are descending by default."""


@dataclass(frozen=True)
class Look:
    """What a view needs to build its template data.

    Attributes:
        store: the store, for the public queries.
        links: the current address.
        phrases: language, time zone and current time of the page.
        store_zone: the time zone of cron expressions.
    """

    store: Any
    links: Links
    phrases: Phrases
    store_zone: str = "UTC"

    @property
    def now(self) -> datetime:
        """The current time."""
        return self.phrases.now

    @property
    def minute(self) -> datetime:
        """The beginning of the current minute: in a link, the time itself would make each answer a new one."""
        return self.now.replace(second=0, microsecond=0)

    @property
    def zone(self) -> str:
        """The name of the page's time zone."""
        return str(self.phrases.zone)

    @property
    def has_job_filter(self) -> bool:
        """Whether the address selects some of the jobs."""
        return any(self.links.one(name) for name in ("search", "state", "job_type", "job_category"))


# Jobs ----------------------------------------------------------------------------------------------


def jobs(look: Look) -> dict[str, Any]:
    """Return the template data for the list of jobs; by default, those that need attention come first."""
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
        "is_filtered": look.has_job_filter,
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
    """Describe a strip chart in words, for screen readers."""
    if not recent:
        return phrases.say("No runs yet")
    counts = Counter(each["status"] for each in recent)
    parts = [f"{phrases.number(counts[each])} {phrases.say(STATUS_WORDS[each]).lower()}" for each in counts]
    newest = phrases.say(STATUS_WORDS[recent[-1]["status"]]).lower()
    return phrases.say("Last {n} run: {parts}|Last {n} runs: {parts}; newest {newest}", n=len(recent),
                       parts=", ".join(parts), newest=newest)  # fmt: skip


STATUS_WORDS: Final = {
    "SUCCESS": "Succeeded", "FAILURE": "Failed", "TIMEOUT": "Timed out", "RUNNING": "Running", "PENDING": "Waiting",
}  # fmt: skip


# Executions ----------------------------------------------------------------------------------------


def executions(look: Look) -> dict[str, Any]:
    """Return the template data for the executions in a window: the runs, their counts and a histogram."""
    ask, page = look.links, look.links.page()
    span, bounds = window(look, "24h", EXECUTION_RANGES)
    chosen = ask.several("status")
    # The address may have the job's number or an older name.
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
        "rows": [run_row(look, each) for each in answer["data"]],
        "counts": counts,
        "all": sum(counts.values()),
        "chosen": chosen,
        "order": order,
        "job": one_job,
        "span": span,
        "ranges": EXECUTION_RANGES,
        "bounds": local_bounds(look, bounds),
        "exact": exact_bounds(look, bounds) if span == "own" else {},
        "chart": histogram and bars(look, histogram, chosen or STATUSES, {}),
        "pages": _pages(look, answer["pagination"]),
    }


def window(look: Look, default: str, ranges: Iterable[str]) -> tuple[str, dict[str, datetime]]:
    """Return the chosen range's name (``own`` for given bounds) and its bounds as query parameters."""
    given = {name: look.links.one(name) for name in BOUNDS}
    own = {name: _instant(look, name, text) for name, text in given.items() if text}
    span = "own" if own else look.links.one("range") or default
    if span != "own" and span not in ranges:
        raise InvalidParameter(f"range must be one of {', '.join(ranges)}; received {shown(span)}")
    return span, {"after": look.minute - timedelta(seconds=RANGES[span])} if span in RANGES else own


def _instant(look: Look, name: str, text: str) -> datetime:
    """Parse a time from the address; without an offset, it is in the page's time zone."""
    moment = instant_datetime(Parameter(name, Kind.INSTANT, "").check(text, text))
    if _WITH_OFFSET.search(text):
        return moment
    try:
        return instant_datetime(instant_us(moment.replace(tzinfo=look.phrases.zone)))
    except ValueError:
        raise InvalidParameter(
            f"{name} must be a time in the years 1 to 9999 of UTC; received {shown(text)}, in {look.zone}"
        ) from None


def _text(moment: datetime) -> str:
    return str(instant_text(instant_us(moment)))


def local_bounds(look: Look, bounds: Mapping[str, datetime]) -> dict[str, str]:
    """Return the bounds as values of ``datetime-local`` fields."""
    return {name: _local(look.phrases, bounds[name]) if name in bounds else "" for name in BOUNDS}


def _local(phrases: Phrases, moment: datetime) -> str:
    return phrases.moment(moment).replace(tzinfo=None).isoformat(timespec="seconds")


def exact_bounds(look: Look, bounds: Mapping[str, datetime]) -> dict[str, str]:
    """Return the bounds that their fields cannot hold, as hidden fields: with microseconds, or in a repeated hour."""
    return {
        f"exact_{name}": _text(moment)
        for name, moment in bounds.items()
        if _instant(look, name, _local(look.phrases, moment)) != moment
    }


def with_exact_bounds(there: Links, phrases: Phrases) -> Links:
    """Return the links with the exact bounds from a form's hidden fields, unless the reader changed the field."""
    query = dict(there.query)
    for name in BOUNDS:
        exact = query.pop(f"exact_{name}", None)
        if exact is not None and name in query:
            moment = instant_datetime(Parameter(f"exact_{name}", Kind.INSTANT, "").check(exact[-1], exact[-1]))
            filled_in = _local(phrases, moment)
            if query[name][-1] in {filled_in, filled_in.removesuffix(":00")}:  # a browser may leave out the seconds
                query[name] = (_text(moment),)
    return replace(there, query=query)


def _list(store: Any, one_job: str | None, **keywords: object) -> dict[str, Any]:
    if one_job is None:
        return dict(store.list_job_executions(**keywords))
    return dict(store.get_job_executions(one_job, **keywords))


def _histogram(look: Look, one_job: str | None, shared: Mapping[str, Any]) -> dict[str, Any] | None:
    if "after" not in shared:
        return None  # the whole history may have more days than a chart has room for
    try:
        return dict(look.store.execution_histogram(job_id=one_job, timezone=look.zone, **shared))
    except InvalidParameter:
        return None  # too many buckets for the window: show the list without a chart


def _counts(store: Any, one_job: str | None, narrow: Mapping[str, Any], histogram: Any) -> dict[str, int]:
    """Count the runs by status: from the histogram if there is one, else from the totals of five lists."""
    if histogram:
        return {each: sum(bucket["by_status"][each] for bucket in histogram["buckets"]) for each in STATUSES}
    lists = {each: _list(store, one_job, limit=1, status=each.value, **narrow) for each in STATUSES}
    return {each: found["pagination"]["total"] for each, found in lists.items()}


def bars(
    look: Look, histogram: Mapping[str, Any], statuses: Iterable[str], where: Mapping[str, str], *,
    bucket_days: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return the bars of a histogram, each with a link to the runs it counts."""
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


def run_row(look: Look, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's row: links to it and to its job, and the first line of its error."""
    return {
        "run": run,
        "link": look.links.execution(run["id"]),
        # Link by number, since the run may have an older name. If the job was deleted, `was` finds its history.
        "job": look.links.job(run["job_id"], was=run["job_name"]),
        "line": first_line(run["error"]),
    }


# One execution -------------------------------------------------------------------------------------


def execution(look: Look, number: str, log_url: str | None) -> dict[str, Any]:
    """Return the template data for one run: all fields, changes to its job since, and links to its neighbours."""
    run = look.store.get_execution(number)
    try:
        found = look.store.get_job(run["job_id"])
    except NotFound:
        found = None
    here = run["started_at"] or run["created_at"]
    earlier = later = None
    if found:
        key = _key(run)
        earlier = _first(look, found["name"], lambda each: _key(each) < key, before=here)
        later = _first(look, found["name"], lambda each: _key(each) > key, after=here, order_desc=False)
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


def _first(look: Look, name: str, holds: Callable[[Any], bool], **which: object) -> Any:
    """Return the first of a job's runs that meets a condition. Usually it is among the first ten."""
    offset, limit, has_next, found = 0, 10, True, None
    while found is None and has_next:
        page = look.store.get_job_executions(name, limit=limit, offset=offset, **which)
        found = next((each for each in page["data"] if holds(each)), None)
        offset, limit, has_next = offset + limit, 1_000, page["pagination"]["has_next"]
    return found


def differences(then: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Compare a run's parameters with its job's current ones; return (name, then, now) for each difference.

    >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3})
    [('b', 2, 3)]
    """
    if not isinstance(then, dict) or not isinstance(now, dict):
        return [] if then == now else [("", then, now)]
    names = [*then, *(name for name in now if name not in then)]
    return [(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


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

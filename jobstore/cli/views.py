"""Documents as lines of text: the tables of jobs and executions, the cards of one job and of statistics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from jobstore.cli import phrases
from jobstore.cli.phrases import plain
from jobstore.cli.tables import Cell, Column, cut_lines, lines, wrapped
from jobstore.language.instants import MICROSECONDS
from jobstore.language.models import STATUSES, ExecutionDocument, JobDocument, Pagination, StatsDocument, Status
from jobstore.language.schedule_text import schedule_text as schedule_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobstore.cli.screen import Screen

ABSENT = Cell("-", "dim")
BAR_CELLS = 40
SHARE_CELLS = 36
"""The width of the text before a bar."""

STATUS_STYLES = {
    "SUCCESS": ("✓", "green"),
    "FAILURE": ("✗", "bold red"),
    "TIMEOUT": ("✗", "bold yellow"),
    "RUNNING": ("▶", "cyan"),
    "PENDING": ("…", "dim"),
}
STATE_STYLES = {
    "ok": ("✓", "green"),
    "failing": ("✗", "bold red"),
    "lost": ("✗", "bold yellow"),
    "running": ("▶", "cyan"),
    "waiting": ("…", "dim"),
    "late": ("!", "bold magenta"),
    "disabled": ("○", "dim"),
    "new": ("·", "dim"),
}


class JobRow(NamedTuple):
    """A job's document with its state and the store's time zone."""

    job: JobDocument
    state: str
    timezone: str


# Jobs.


_WORDS_MOST = 36


def job_lines(rows: Sequence[JobRow], screen: Screen) -> list[Text]:
    """Return the table of jobs."""
    cells = [_job(row, screen) for row in rows]
    if not screen.is_terminal:
        return _piped(("JOB", "STATE", "TYPE", "CATEGORY", "LAST_RUN", "NEXT_RUN", "SCHEDULE", "DESCRIPTION"), cells)
    columns = (
        Column("JOB", least=12, most=34),
        Column("STATE"),
        Column("TYPE", rank=2, most=14),
        Column("CATEGORY", rank=3, most=14),
        Column("SCHEDULE", most=24),
        Column(f"WHEN ({rows[0].timezone})" if rows else "WHEN", rank=5, most=_WORDS_MOST),
        Column("LAST RUN", right=True, rank=1),
        Column("NEXT RUN", right=True),
        Column(f"AT ({phrases.zone_name(screen.zone, screen.now_us)})", rank=4),
        Column("DESCRIPTION", rank=6, least=24),
    )
    return lines(columns, [list(row.values()) for row in cells], screen.width)


def _piped(titles: Sequence[str], rows: Sequence[Mapping[str, Cell]]) -> list[Text]:
    """Return a table for programs: no cell is empty, which would hide a column from them."""
    cells = [[Cell(row[title].text or "-") for title in titles] for row in rows]
    return lines([Column(title) for title in titles], cells, None)


def _job(row: JobRow, screen: Screen) -> dict[str, Cell]:
    job, state = row.job, row.state
    words = _words(job) if screen.is_terminal else ""  # slow to import what makes them
    faint = "dim" if state == "disabled" else ""
    return {
        "JOB": Cell(plain(job["name"]), faint or "bold"),
        "STATE": marked(state, STATE_STYLES, screen),
        "TYPE": Cell(plain(job["job_type"]), faint),
        "CATEGORY": Cell(plain(job["job_category"]), faint),
        "SCHEDULE": Cell(schedule_text(job), faint),
        "WHEN": Cell(words if len(words) <= _WORDS_MOST else "", "dim"),  # half a sentence would mislead
        "LAST_RUN": moment(job["last_run_at"], screen, "magenta" if state == "late" else faint),
        "NEXT_RUN": moment(job["next_run_at"], screen, faint),
        "AT": _at(job["next_run_at"], screen),
        "DESCRIPTION": Cell(plain(job["description"] or ""), "dim"),
    }


def _words(job: JobDocument) -> str:
    """Return a cron expression in words, or "" if words cannot express it."""
    expression = job["schedule"] or ""
    words = schedule_in_words(expression) if expression else ""
    return "" if words == expression else words


def schedule_text(job: JobDocument) -> str:
    """Return a job's cron expression, its interval in words, or ``external``."""
    if job["schedule"] is not None:
        return plain(job["schedule"])
    return phrases.every(job["interval_seconds"]) if job["interval_seconds"] is not None else "external"


# Executions.


def execution_lines(executions: Sequence[ExecutionDocument], screen: Screen, *, of_one_job: bool = False) -> list[Text]:
    """Return the table of executions."""
    cells = [_execution(each, screen) for each in executions]
    if not screen.is_terminal:
        return _piped(("ID", "JOB", "STATUS", "STARTED", "TOOK", "WORKER", "TRACE", "ERROR_OR_RESULT"), cells)
    columns = [
        Column("ID", right=True),
        *([] if of_one_job else [Column("JOB", least=12, most=34)]),
        Column("STATUS"),
        Column(f"STARTED ({phrases.zone_name(screen.zone, screen.now_us)})"),
        Column("AGO", right=True, rank=1),
        Column("TOOK", right=True),
        Column("WORKER", rank=7, most=20),
        Column("TRACE", rank=8, most=36),
        Column("ERROR OR RESULT", rank=6, least=40),
    ]
    rows = [[cell for title, cell in row.items() if title != "JOB" or not of_one_job] for row in cells]
    return lines(columns, rows, screen.width)


def _execution(execution: ExecutionDocument, screen: Screen) -> dict[str, Cell]:
    start = phrases.instant(execution["started_at"])
    since = start if start is not None else phrases.instant(execution["created_at"])
    shown, faint = phrases.instant(_due(execution)), "" if start is not None else "dim"
    return {
        "ID": Cell(execution["id"], "dim"),
        "JOB": Cell(plain(execution["job_name"]), "bold"),
        "STATUS": marked(execution["status"], STATUS_STYLES, screen),
        "STARTED": ABSENT if shown is None else Cell(_clock(shown, screen), faint),
        "AGO": ABSENT if since is None else Cell(_since(execution, since, screen.now_us), "dim"),
        "TOOK": _took(execution, start, screen),
        "WORKER": Cell(plain(execution["worker_id"] or "-"), "dim"),
        "TRACE": Cell(plain(execution["trace_id"] or "-"), "dim"),
        "ERROR_OR_RESULT": outcome(execution),
    }


def _due(execution: ExecutionDocument) -> str | None:
    """Return when a run started, or when it was due if it ended without starting (missed, refused or revoked)."""
    return execution["started_at"] or (execution["created_at"] if execution["completed_at"] else None)


def _since(execution: ExecutionDocument, since_us: int, now_us: int) -> str:
    if execution["status"] == Status.PENDING:
        return f"queued {phrases.span((now_us - since_us) / MICROSECONDS)}"
    return phrases.distance(since_us, now_us)


def _clock(us: int, screen: Screen) -> str:
    return phrases.clock_time(us, screen.zone, screen.now_us) if screen.is_terminal else phrases.stamp(us, screen.zone)


def _took(execution: ExecutionDocument, start_us: int | None, screen: Screen) -> Cell:
    if execution["duration_ms"] is not None:
        return Cell(phrases.took(execution["duration_ms"]))
    is_running = screen.is_terminal and execution["status"] == Status.RUNNING
    if is_running and start_us is not None and start_us <= screen.now_us:
        return Cell(f"{phrases.took((screen.now_us - start_us) // MICROSECONDS * 1_000)}…", "cyan")
    return ABSENT


def outcome(execution: ExecutionDocument) -> Cell:
    """Return the error, which moves under the row if its column is too narrow, else the result."""
    if execution["error"]:
        return Cell(
            plain(execution["error"]), STATUS_STYLES[execution["status"]][1].removeprefix("bold "), beneath=True
        )
    return Cell("" if execution["result"] is None else brief_json(execution["result"]), "dim")


def brief_json(value: Any) -> str:
    """Format a value as one line of JSON; an object without nested values loses its punctuation.

    >>> brief_json({"processed": 500, "inserted": 450}), brief_json({"intervals": ["1h"]}), brief_json(None)
    ('processed=500 inserted=450', '{"intervals": ["1h"]}', 'null')
    """
    if isinstance(value, dict) and value and not any(isinstance(each, dict | list) for each in value.values()):
        return plain(" ".join(f"{key}={_bare(each)}" for key, each in value.items()))
    return plain(json.dumps(value, ensure_ascii=False))


def _bare(value: Any) -> str:
    bare = isinstance(value, str) and value and " " not in value
    return str(value) if bare else json.dumps(value, ensure_ascii=False)


# One job.


def job_card(row: JobRow, stats: StatsDocument, screen: Screen) -> list[Text]:
    """Return a job's card: all of its fields, and statistics of its runs."""
    job = row.job
    state = marked(row.state, STATE_STYLES, screen)
    head = Text.assemble((plain(job["name"]), "bold"), "  ", (state.text, state.style))
    found = [head, *([Text(plain(job["description"]), "dim")] if job["description"] else []), Text()]
    return cut_lines(found + fact_lines(_job_facts(row, stats, screen), screen.width), screen.width)


def fact_lines(facts: Sequence[tuple[str, str]], width: int | None = None) -> list[Text]:
    """Return lines for each (name, value), with the values aligned, and wrapped to the width of the screen if given."""
    aligned = max(len(name) for name, _ in facts)
    indent = aligned + 4
    found: list[Text] = []
    for name, value in facts:
        first, *more = [Text(value)] if width is None else wrapped(Cell(value), indent, width)
        found.append(Text.assemble("  ", (name.ljust(aligned), "dim"), "  ", first))
        found += [Text.assemble(" " * indent, line) for line in more]
    return found


def _job_facts(row: JobRow, stats: StatsDocument, screen: Screen) -> list[tuple[str, str]]:
    job = row.job
    return [
        ("type", f"{plain(job['job_type'])} / {plain(job['job_category'])}"),
        ("schedule", _schedule_in_full(row)),
        ("next run", when(job["next_run_at"], screen) if job["enabled"] else "never: the job is disabled"),
        ("last run", when(job["last_run_at"], screen)),
        ("runs", _runs(stats)),
        ("took", _durations(stats)),
        ("limits", _limits(job)),
        ("parameters", "-" if job["parameters"] is None else plain(json.dumps(job["parameters"], ensure_ascii=False))),
        ("created", when(job["created_at"], screen)),
        ("updated", when(job["updated_at"], screen)),
    ]  # fmt: skip


def _limits(job: JobDocument) -> str:
    timeout = job["timeout_seconds"]
    least = "no timeout" if timeout is None else f"timeout {phrases.length(timeout)}"
    return f"{least}, {phrases.count(job['max_instances'], 'instance')} at once"


def _schedule_in_full(row: JobRow) -> str:
    job = row.job
    if job["schedule"] is None:
        return schedule_text(job) if job["interval_seconds"] is not None else "external: another program keeps it"
    words = _words(job)
    meaning = f"{words}; {row.timezone}" if words else row.timezone
    return f"{plain(job['schedule'])}  ({meaning})"


def _runs(stats: StatsDocument) -> str:
    if not stats["runs"]:
        return "none"
    shares = [f"{stats['by_status'][status]:,} {status}" for status in STATUSES if stats["by_status"][status]]
    return f"{stats['runs']:,}: {', '.join(shares)}"


def _durations(stats: StatsDocument) -> str:
    spent = stats["duration_ms"]
    if spent["average"] is None:
        return "-"
    figures = (round(spent["average"]), spent["p50"], spent["p95"], spent["max"])
    named = zip(("average", "p50", "p95", "max"), figures, strict=True)
    return " · ".join(f"{name} {phrases.took(value)}" for name, value in named if value is not None)


# Statistics.


def stats_card(stats: StatsDocument, name: str | None, screen: Screen) -> list[Text]:
    """Return the statistics of one job (`name`) or of all jobs (None), with a bar for each status."""
    runs = stats["runs"]
    found = [Text.assemble((plain(name or "all jobs"), "bold"), (f"  {_window(stats, screen)}", "dim")), Text()]
    found += [_share(status, stats["by_status"][status], runs, screen) for status in STATUSES]
    rate = stats["success_rate"]
    missed = f"{stats['never_started']:,} (missed, refused or revoked)" if stats["never_started"] else ""
    facts = [
        ("runs", f"{runs:,}"),
        *([("never started", missed)] if missed else []),
        ("success rate", "-" if rate is None else f"{rate * 100:.2f} % of finished runs"),
        ("took", _durations(stats)),
        ("last success", when(stats["last_success_at"], screen)),
        ("last failure", when(stats["last_failure_at"], screen)),
    ]
    return cut_lines([*found, Text(), *fact_lines(facts, screen.width)], screen.width)


def _window(stats: StatsDocument, screen: Screen) -> str:
    bounds = [(word, stats[name]) for word, name in (("from", "after"), ("to", "before"))]  # type: ignore[literal-required]
    said = [f"{word} {when(bound, screen)}" for word, bound in bounds if bound]
    return " ".join(said) or "the whole history"


def _share(status: str, runs: int, total: int, screen: Screen) -> Text:
    share = runs / total if total else 0.0
    mark = marked(status, STATUS_STYLES, screen)
    room = min(BAR_CELLS, (screen.width or 0) - SHARE_CELLS)
    bar = "█" * max(1, round(share * room)) if runs and screen.marks and room > 0 else ""
    line = Text.assemble("  ", (mark.text.ljust(9), mark.style), f"  {runs:>11,}  {share * 100:>5.1f} %")
    return line.append(f"  {bar}", mark.style) if bar else line


# Common.


def marked(word: str, styles: Mapping[str, tuple[str, str]], screen: Screen) -> Cell:
    """Return a status or state as a cell, with its mark if the screen can show it."""
    mark, style = styles[word]
    return Cell(f"{mark} {word}" if screen.marks and screen.colour else word, style)


def _at(text: str | None, screen: Screen) -> Cell:
    us = phrases.instant(text)
    return Cell("") if us is None else Cell(phrases.clock_time(us, screen.zone, screen.now_us), "dim")


def when(text: str | None, screen: Screen) -> str:
    """Format an instant in full, with its distance from now."""
    us = phrases.instant(text)
    if us is None:
        return "-"
    zone = phrases.zone_name(screen.zone, us)
    return f"{phrases.clock_time(us, screen.zone)} {zone}  ({phrases.distance(us, screen.now_us)})"


def moment(text: str | None, screen: Screen, style: str = "") -> Cell:
    """Return an instant as a cell: the distance from now on a terminal, else RFC 3339."""
    us = phrases.instant(text)
    if us is None:
        return ABSENT
    return Cell(phrases.distance(us, screen.now_us) if screen.is_terminal else phrases.stamp(us, screen.zone), style)


def page_line(pagination: Pagination, offset: int, shown: int, noun: str) -> str:
    """Say which of how many rows a page shows, and how to get the next ones.

    >>> page_line({"page": 1, "page_size": 50, "total": 1500, "total_pages": 30, "has_next": True,
    ...            "has_prev": False}, 0, 50, "execution")
    'rows 1-50 of 1,500; next: --offset 50'
    """
    total = pagination["total"]
    if not total:
        return f"no {noun}s match"
    if not shown:
        return f"no rows from --offset {offset} on; there are {total:,}"
    if not pagination["has_next"] and not offset:
        return phrases.count(total, noun)
    following = f"; next: --offset {offset + shown}" if pagination["has_next"] else ""
    return f"rows {offset + 1:,}-{offset + shown:,} of {total:,}{following}"

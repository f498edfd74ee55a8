"""Random stores in documents: names in every script, ties, nulls, removed jobs, renamed histories, odd times.

Hypothesis chooses how large a world is, its seed and some of its names, so a failing one shrinks.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from jobstore.language.instants import MAX_US, MIN_US, instant_text

Document = dict[str, Any]

NAMES = (
    "sync_klines_1h", "sync_symbols_all", "SYNC", "sync", "failed", "failed_job", "FAILURE", "retry on timeout",
    "pending", "ok", "等待执行", "失败", "超时", "K线 同步", "時間", "Straße", "STRASSE", "ß", "İstanbul", "istanbul",
    "ﬁle", "file", "ｋｌｉｎｅ", "K", "ſync", "Ⅷ", "①", "½", "é", "e\u0301", "Ω", "\u2126", "\ufdfa", "🚀", "a\u200bb",
    "%", "_", "a%b", "a_b", "axb", '"', "'", "`", "\\", "*", "?", "#", "&", "+", "a+b", "a b", ";", "--", "x'; DROP TABLE job",
    "x", "x" * 200, "ß" * 200, "１２", "12a", "0x1", "1_000", "+5", "-1", "1.5", "null", "true", "rowid", "عربي", "日本", "ǆ",
    "..x", ".x", "Executions", "executions2", "ing", "ure",
)  # fmt: skip
CRON = (
    "0 * * * *", "*/5 * * * *", "0 0 * * *", "30 2 * * *", "15 */2 * * *", "0 9 * * 1-5", "@daily", "@hourly",
    "0 0 1 * *", "59 23 31 12 *", "* * * * *", "0,30 8-10 * * *",
)  # fmt: skip
ZONES = ("UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
INTERVALS = (1, 60, 90, 3_600, 86_400, 3_155_760_000)
TYPES = ("kline", "symbol", "Kline", "ｋｌｉｎｅ", "order", "失败", "x%")
CATEGORIES = ("sync", "backfill", "cleanup", "Sync", "_")
BASE_US = 1_774_746_000_000_000
"""2026-03-29T01:00:00Z, when Berlin's clocks jump."""
SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
TRACES = (None, None, "t1", "t2", "T1", "t%", "追踪", '"')
WORKERS = (None, "worker-1", "worker-10", "worker-9", "Worker-1", "工人")
STATUSES = ("PENDING", "RUNNING", "SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "TIMEOUT")
VALUES: tuple[Any, ...] = (None, {}, {"n": 1}, [], [1.5, None, True, "x"], "text", 0, {"键": {"a": [1]}}, 1e300, -0.0)
"""JSON of every kind."""


@dataclass(frozen=True, repr=False)
class World:
    """A store in documents, and what its queries are asked with; its repr makes it again."""

    made_by: str
    seed: int
    timezone: str
    jobs: list[Document]
    executions: list[Document]

    def __repr__(self) -> str:
        return self.made_by

    @property
    def document(self) -> Document:
        """As `load` takes it."""
        return {"timezone": self.timezone, "jobs": self.jobs, "executions": self.executions}

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each job that there is, by name."""
        return {job["name"]: job["number"] for job in self.jobs}

    @property
    def names(self) -> list[str]:
        """Every name in it, of jobs and in the history."""
        return sorted({job["name"] for job in self.jobs} | {run["job_name"] for run in self.executions})


def is_name(text: str) -> bool:
    """The rule of job names, as a person would say it."""
    return (
        1 <= len(text) <= 200
        and not re.search("[\x00-\x1f\x7f-\x9f/\ud800-\udfff]", text)
        and text == text.strip()
        and text not in {".", "..", "executions"}
        and not re.fullmatch("[0-9]+", text)
    )


@st.composite
def worlds(draw: st.DrawFn, most_jobs: int = 12, most_executions: int = 60) -> World:
    extra = draw(st.lists(st.text(min_size=1, max_size=8).filter(is_name), max_size=3))
    seed = draw(st.integers(0, 2**32))
    # Sampled, since integers would be small most of the time.
    jobs, executions = draw(st.sampled_from(range(most_jobs + 1))), draw(st.sampled_from(range(most_executions + 1)))
    return world(seed, jobs, executions, extra)


def world(seed: int, jobs: int, executions: int, extra: list[str] | None = None) -> World:
    source = random.Random(seed)
    names = list(dict.fromkeys([*(extra or []), *source.sample(NAMES, k=min(jobs, len(NAMES)))]))[:jobs]
    numbers = source.sample(range(1, 2 * jobs + 2), k=len(names))  # with gaps: others were removed
    documents = [_job(source, number, name) for number, name in zip(numbers, names, strict=True)]
    documents.sort(key=lambda job: int(job["number"]))
    history = _history(source, dict(zip(numbers, names, strict=True)), executions)
    made_by = f"world({seed}, {jobs}, {executions}, {extra!r})"
    return World(made_by, seed, source.choice(ZONES), documents, history)


def moment(source: random.Random) -> int:
    """An instant that has often been given before, or lies on an edge of an hour, a day or time itself."""
    kind = source.random()
    if kind < 0.02:
        return source.choice([MIN_US, MAX_US, 0, -1, MIN_US + HOUR])
    near = BASE_US + source.choice([-90 * DAY, -DAY, 0, 0, 0, 0, HOUR]) + source.randrange(6) * HOUR // 2
    if kind < 0.5:
        return near
    return near + source.choice([-1, 1, SECOND, -SECOND, 500_000, source.randrange(DAY)])


def _job(source: random.Random, number: int, name: str) -> Document:
    kind = source.choice(["cron", "cron", "interval", "interval", "external"])
    anchor_us = moment(source) if kind == "interval" and source.random() < 0.5 else None
    return {
        "number": number,
        "name": name,
        "job_type": source.choice(TYPES),
        "job_category": source.choice(CATEGORIES),
        "description": source.choice([None, "", "x", "描述"]),
        "schedule": source.choice(CRON) if kind == "cron" else None,
        "interval_seconds": source.choice(INTERVALS) if kind == "interval" else None,
        "parameters": source.choice(VALUES),
        "timeout_seconds": source.choice([None, 1, 300]),
        "max_instances": source.choice([1, 1, 2]),
        "enabled": source.random() < 0.8,
        "last_run_at": source.choice([None, instant_text(moment(source))]),
        "next_run_at": source.choice([None, instant_text(moment(source))]) if kind == "external" else None,
        "created_at": instant_text(moment(source)),
        "updated_at": instant_text(moment(source)),
        "anchor_at": instant_text(anchor_us),
    }


def _history(source: random.Random, names: dict[int, str], count: int) -> list[Document]:
    """Executions of the jobs under this name and former ones, and of two jobs that are gone."""
    gone = [max(names, default=0) + extra for extra in (1, 2)]
    known = [*names, *gone]
    former = {number: source.sample(NAMES, k=2) for number in known}
    ids = source.sample(range(1, 3 * count + 2), k=count)
    documents = []
    for execution_id in ids:
        number = source.choice(known)
        is_former = number in gone or source.random() < 0.2
        name = source.choice(former[number]) if is_former else names[number]
        documents.append(_execution(source, execution_id, number, name))
    return documents


def _execution(source: random.Random, execution_id: int, number: int, name: str) -> Document:
    status = source.choice(STATUSES)
    is_over = status in {"SUCCESS", "FAILURE", "TIMEOUT"}
    created_us = moment(source)
    is_started = status == "RUNNING" or (is_over and source.random() < 0.9)
    started_us = source.choice([created_us, moment(source)]) if is_started else None
    return {
        "id": str(execution_id),
        "job_id": str(number),
        "job_name": name,
        "status": status,
        "started_at": instant_text(started_us),
        "completed_at": instant_text(moment(source)) if is_over and source.random() < 0.95 else None,
        "duration_ms": source.choice([None, 0, 0, 1, 1, 5, 60_000, source.randrange(10**6)]) if is_over else None,
        "result": source.choice(VALUES),
        "error": source.choice([None, "", "it failed"]),
        "trace_id": source.choice(TRACES),
        "worker_id": source.choice(WORKERS),
        "parameters_snapshot": source.choice(VALUES),
        "created_at": instant_text(created_us),
    }

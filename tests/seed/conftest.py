"""Two stores: what the document shows and nothing else, and the whole of which its pages show the beginning."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.wsgi import create_app
from tests.seed import api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOBS_IN_ALL, EXECUTIONS_IN_ALL, EXECUTIONS_OF_THE_FIRST = 15, 1500, 720
START_OF_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def at_half_past_eight() -> datetime:
    """A moment at which the examples' next_run_at hold."""
    return datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


def other_jobs() -> list[dict[str, Any]]:
    """Thirteen more jobs, of every type and category, with names that come after the two."""
    return [
        {
            "name": f"tend_{number:02d}",
            "job_type": api.JOB_TYPES[number % len(api.JOB_TYPES)],
            "job_category": api.JOB_CATEGORIES[number % len(api.JOB_CATEGORIES)],
            "interval_seconds": 60 * number,
            "parameters": {},
            "created_at": "2026-01-01T00:00:00Z",
        }
        for number in range(3, JOBS_IN_ALL + 1)
    ]


def earlier_executions() -> list[dict[str, Any]]:
    """What makes 1500 of the two, and 720 of the first job; all succeeded, or timed out, before 14 January."""
    count = EXECUTIONS_IN_ALL - len(api.EXECUTIONS)
    documents = []
    for number in range(count):
        job = 1 if number < EXECUTIONS_OF_THE_FIRST - 1 else 2 + number % 14
        at = datetime.fromtimestamp(START_OF_YEAR.timestamp() + 700 * number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        documents.append({
            "id": str(number + 1),
            "job_id": str(job),
            "job_name": (api.JOBS[job - 1] if job <= len(api.JOBS) else other_jobs()[job - 3])["name"],
            "status": "TIMEOUT" if number % 100 == 99 else "SUCCESS",
            "started_at": at,
            "completed_at": at,
            "duration_ms": 1000,
            "created_at": at,
        })  # fmt: skip
    return documents


@pytest.fixture(scope="session")
def shown_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples show."""
    path = tmp_path_factory.mktemp("shown") / "jobs.db"
    jobstore.load(path, {"jobs": api.JOBS, "executions": api.EXECUTIONS})
    return path


@pytest.fixture(scope="session")
def whole_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole that the pages of the examples were cut from: 15 jobs, 1500 executions, 720 of the first job."""
    path = tmp_path_factory.mktemp("whole") / "jobs.db"
    document = {"jobs": [*api.JOBS, *other_jobs()], "executions": [*earlier_executions(), *reversed(api.EXECUTIONS)]}
    jobstore.load(path, document)
    return path


@pytest.fixture
def datahub(shown_path: Path) -> Iterator[jobstore.JobStore]:
    """The store as the scenarios call it."""
    with jobstore.open(shown_path, clock=at_half_past_eight) as store:
        yield store


@pytest.fixture
def whole(whole_path: Path) -> Iterator[jobstore.JobStore]:
    with jobstore.open(whole_path, clock=at_half_past_eight) as store:
        yield store


@pytest.fixture
def app(datahub: jobstore.JobStore) -> Any:
    """The HTTP door to what the examples show."""
    return create_app(datahub, tokens={"YOUR_TOKEN": {"read:jobs"}, "NO_PERMISSION": set()})


@pytest.fixture
def whole_app(whole: jobstore.JobStore) -> Any:
    return create_app(whole, tokens={"YOUR_TOKEN": {"read:jobs"}})

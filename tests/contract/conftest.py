"""The seed's own jobs and executions as a store, for the doors."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import jobstore
from jobstore.language.examples import EXECUTION_PAGE, JOB_PAGE

SEED_JOBS: list[dict[str, Any]] = JOB_PAGE["data"]
SEED_EXECUTIONS: list[dict[str, Any]] = EXECUTION_PAGE["data"]


def at_half_past_eight() -> datetime:
    """A moment at which the seed's next_run_at values hold."""
    return datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def seed_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with what the seed shows; nobody writes to it."""
    path = tmp_path_factory.mktemp("seed") / "jobs.db"
    jobstore.load(path, {"jobs": SEED_JOBS, "executions": SEED_EXECUTIONS})
    return path


@pytest.fixture(scope="session")
def seed_jobs() -> list[dict[str, Any]]:
    return SEED_JOBS


@pytest.fixture(scope="session")
def seed_executions() -> list[dict[str, Any]]:
    return SEED_EXECUTIONS


@pytest.fixture(scope="session")
def seed_clock() -> Callable[[], datetime]:
    return at_half_past_eight


@pytest.fixture
def datahub(seed_path: Path):
    """The seed's store as its usage scenarios call it, at half past eight."""
    with jobstore.open(seed_path, clock=at_half_past_eight) as store:
        yield store

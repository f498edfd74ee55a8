"""The queries over random worlds: Python and HTTP against the oracle on plain lists.

50 worlds (``JOBSTORE_SOAK`` times as many where that is set) are asked 20 queries or more of each operation, every order in both
directions among them: at least 1,000 queries for each operation, of both doors.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

import jobstore
from jobstore.engine import costs
from jobstore.language.instants import MIN_US
from jobstore.wsgi import create_app
from tests.folders import MEMORY
from tests.property import oracle
from tests.property.asking import (
    Clock,
    Query,
    execution_queries,
    expected,
    histogram_query,
    in_python,
    job_queries,
    job_ref,
    over_http,
    same,
    state_queries,
    window,
)
from tests.property.test_access_paths import MODELS
from tests.property.worlds import DAY, World, moment, worlds
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WORLDS = scaled(50)
ASKED = 20

many_worlds = settings(
    max_examples=WORLDS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class Doors:
    """A world as a store, asked in Python and over HTTP at moments that the test chooses."""

    def __init__(self, world: World, store: jobstore.JobStore, clock: Clock) -> None:
        self.world, self.store, self.clock = world, store, clock
        self.app = create_app(store, open_access=True)

    def check(self, operation: str, query: Query) -> None:
        """Both doors say what the oracle says."""
        told = self.check_in_python(operation, query)
        asked = f"{operation} {query} at {self.clock.now} of {self.world}"
        assert same(over_http(self.app, operation, query), told), asked

    def check_in_python(self, operation: str, query: Query) -> Any:
        """The store says what the oracle says; this is that."""
        told = expected(self.world, operation, query, self.clock.now)
        found = in_python(self.store, operation, query)
        asked = f"{operation} {query} at {self.clock.now} of {self.world}"
        assert same(found, told), f"{asked}:\n{found}\n is not\n{told}"
        return told


@contextmanager
def opened(world: World) -> Iterator[Doors]:
    """The world's store; the costs of each world force another access path."""
    clock = Clock(oracle.utc(0))
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "COSTS", list(MODELS.values())[world.seed % len(MODELS)])
        path = Path(folder) / "jobs.db"
        jobstore.load(path, world.document)
        with jobstore.open(path, clock=clock) as store:
            yield Doors(world, store, clock)


QUESTIONS: dict[str, Callable[[random.Random, World], Iterable[Query]]] = {
    "list_jobs": job_queries,
    "list_job_executions": execution_queries,
    "get_job_executions": lambda source, world: (
        {"job_id": job_ref(source, world), **query} for query in execution_queries(source, world)
    ),
    "get_job": lambda source, world: ({"job_id": job_ref(source, world)} for _ in range(ASKED)),
    "job_stats": lambda source, world: (
        {"job_id": None if source.random() < 0.4 else job_ref(source, world), **window(source)} for _ in range(ASKED)
    ),
    "get_execution": lambda source, world: ({"execution_id": execution_ref(source, world)} for _ in range(ASKED)),
    "list_job_states": state_queries,
    "execution_histogram": lambda source, world: (histogram_query(source, world) for _ in range(ASKED)),
}
"""What each of the eight operations is asked."""


def execution_ref(source: random.Random, world: World) -> Any:
    """The id of an execution as text or number, or what names none."""
    ids = [run["id"] for run in world.executions]
    others = [0, -1, 2**63, "latest", "0", "１", "x" * 200, f"00{ids[0]}" if ids else "1"]
    return source.choice([*ids, *map(int, ids), *others])


@many_worlds
@given(worlds())
def test_every_answer_is_what_the_rules_say(world: World) -> None:
    """The questions of all operations are mixed: what one has remembered, another meets."""
    source = random.Random(world.seed)
    asked = [(operation, query) for operation, make in QUESTIONS.items() for query in make(source, world)]
    source.shuffle(asked)
    with opened(world) as doors:
        for operation, query in asked:
            if source.random() < 0.3:
                # As often back as forth; on the first day of all, half the zones' walls show the year 0.
                doors.clock.now = oracle.utc(max(moment(source), MIN_US + 2 * DAY))
            doors.check(operation, query)


@many_worlds
@given(worlds())
def test_a_dump_loads_into_the_same_store(world: World) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder) / "one.db", Path(folder) / "other.db"
        jobstore.load(one, world.document)
        dumped = jobstore.dump(one)
        jobstore.load(other, dumped)
        assert same(jobstore.dump(other), dumped)
        assert same(dumped["executions"], sorted(world.executions, key=lambda run: int(run["id"])))

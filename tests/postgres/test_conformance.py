"""A store on a server answers as the rules say: the oracle's worlds, in Python, over HTTP, and on a standby.

``JOBSTORE_SOAK`` multiplies the worlds. Seeds are fixed: a world that fails is made again by its number.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.language.instants import MIN_US
from tests.postgres.servers import KINDS
from tests.property import oracle
from tests.property.asking import (
    Clock,
    Query,
    execution_queries,
    histogram_query,
    job_queries,
    job_ref,
    same,
    state_queries,
    window,
)
from tests.property.test_queries import Doors
from tests.property.worlds import DAY, World, moment, world
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres.servers import Server

WORLDS = scaled(6)
"""Of each server its own."""
ASKED = 15


def questions(of: World) -> Iterator[tuple[str, Query]]:
    """Questions of every kind, each order in both directions among them."""
    source = random.Random(of.seed)
    yield from (("list_jobs", query) for query in job_queries(source, of))
    yield from (("list_job_executions", query) for query in execution_queries(source, of))
    for query in execution_queries(source, of):
        yield "get_job_executions", {"job_id": job_ref(source, of), **query}
    yield from (("list_job_states", query) for query in state_queries(source, of))
    ids: list[Any] = [run["id"] for run in of.executions] + [0, -1, 2**63, "latest", "１"]
    for _ in range(ASKED):
        yield "get_job", {"job_id": job_ref(source, of)}
        yield "job_stats", {"job_id": None if source.random() < 0.4 else job_ref(source, of), **window(source)}
        yield "get_execution", {"execution_id": source.choice(ids)}
        yield "execution_histogram", histogram_query(source, of)


def check(url: str, of: World) -> None:
    """A store says what the oracle says, at moments that go back and forth, and now and then over HTTP too."""
    source, clock = random.Random(of.seed), Clock(oracle.utc(0))
    with jobstore.open(url, clock=clock) as store:
        doors = Doors(of, store, clock)
        for operation, query in questions(of):
            if source.random() < 0.3:
                clock.now = oracle.utc(max(moment(source), MIN_US + 2 * DAY))
            (doors.check if source.random() < 0.1 else doors.check_in_python)(operation, query)


def seed_of(server: Server, place: int) -> int:
    return place * len(KINDS) + KINDS.index(server.kind)


def made(seed: int) -> World:
    source = random.Random(seed)
    return world(seed, source.choice(range(13)), source.choice(range(61)))


@pytest.mark.parametrize("place", range(WORLDS))
def test_answers_are_what_the_rules_say(server: Server, database: str, place: int) -> None:
    of, url = made(seed_of(server, place)), server.url(database)
    jobstore.load(url, of.document)
    check(url, of)


def test_a_standby_answers_as_its_primary(server: Server, standby: Server, database: str) -> None:
    worlds = {f"w{seed}": made(1000 + seed) for seed in range(scaled(2))}
    for schema, of in worlds.items():
        jobstore.load(server.url(database, options=f"-csearch_path={schema}"), of.document)
    standby.catch_up(server)
    for schema, of in worlds.items():
        check(standby.url(database, options=f"-csearch_path={schema}"), of)


@pytest.mark.parametrize("place", range(WORLDS))
def test_a_store_moves_to_a_server_and_back_unchanged(
    server: Server, database: str, place: int, tmp_path: Path
) -> None:
    of, url, other = made(seed_of(server, place)), server.url(database), tmp_path / "other.db"
    jobstore.load(tmp_path / "one.db", of.document)
    dumped = jobstore.dump(tmp_path / "one.db")
    jobstore.load(url, dumped)
    assert json.dumps(jobstore.dump(url)) == json.dumps(dumped)
    jobstore.load(other, jobstore.dump(url))
    assert json.dumps(jobstore.dump(other)) == json.dumps(dumped)
    assert same(dumped["executions"], sorted(of.executions, key=lambda run: int(run["id"])))

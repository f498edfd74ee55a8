"""A server of each kind for a session, and an empty database for a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.postgres.servers import KINDS, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param) as started:
        yield started


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The name of an empty database."""
    with server.database() as name:
        yield name


@pytest.fixture
def url(server: Server, database: str) -> str:
    """The address of an empty database."""
    return server.url(database)


@pytest.fixture(scope="session")
def standby(server: Server) -> Iterator[Server]:
    with server.standby() as started:
        yield started

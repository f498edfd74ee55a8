"""The job API's examples and scenarios, answered from a server: the tests of `tests.seed` with other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import jobstore
from tests.postgres.servers import ANY_KIND, running
from tests.seed import api, conftest, test_examples, test_scenarios, test_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres.servers import Server

OF_A_FILE = (
    "test_note_1_what_answers_cannot_write_the_file",
    "test_note_3_executions_can_be_exported_before_they_are_pruned",
)
TAKEN = ("datahub", "whole", "app", "whole_app")

globals().update({name: getattr(conftest, name) for name in TAKEN})
globals().update({
    name: value
    for module in (test_examples, test_scenarios, test_tables)
    for name, value in vars(module).items()
    if name.startswith("test_") and name not in OF_A_FILE
})  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(ANY_KIND) as started:
        yield started


@pytest.fixture(scope="module")
def shown_path(server: Server) -> Iterator[str]:
    """What the examples show."""
    with server.database() as name:
        jobstore.load(server.url(name), {"jobs": api.JOBS, "executions": api.EXECUTIONS})
        yield server.url(name)


@pytest.fixture(scope="module")
def whole_path(server: Server) -> Iterator[str]:
    """The whole that the pages of the examples were cut from."""
    jobs = [*api.JOBS, *conftest.other_jobs()]
    with server.database() as name:
        executions = [*conftest.earlier_executions(), *reversed(api.EXECUTIONS)]
        jobstore.load(server.url(name), {"jobs": jobs, "executions": executions})
        yield server.url(name)

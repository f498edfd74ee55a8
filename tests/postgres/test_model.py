"""The model test of writes over a server: a scheduler's calls and questions in any order, against plain lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.property.test_model import Scheduler, check_scheduler
from tests.reliability.scale import scaled

if TYPE_CHECKING:
    import pytest

    from tests.postgres.servers import Server

RUNS = scaled(5)


def test_a_server_says_what_plain_lists_say_after_any_calls(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobstore.storage.postgres.writer.TIDIED_EVERY", 3)  # so that most is folded, and some is not

    class There(Scheduler):
        new_store = staticmethod(server.store)

    check_scheduler(There, RUNS)

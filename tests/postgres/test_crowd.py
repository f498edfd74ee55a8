"""Eight recorders that are killed while their server is restarted; the long form is a command: `crowd`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.postgres.crowd import survive
from tests.reliability.scale import report, scaled

if TYPE_CHECKING:
    from tests.postgres.servers import Server


def test_what_was_acknowledged_outlives_kills_and_restarts_of_the_server(server: Server) -> None:
    report("postgres crowd", **survive(server, scaled(150), kills=4))

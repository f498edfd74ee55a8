"""Measures the latest page over HTTP: through our application, and through our server beside Datasette's.

Datasette serves the careful peer's file, tuned: its indexes, a large cache, no facets, a time limit out of the way.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import orjson

from benchmarks.measure import FLOOR, Disagreement, Figure, Line, Settings, check_equal, in_rotation, rivals
from benchmarks.subjects import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.datasets import Dataset

PART = "HTTP"
OURS = "/api/v1/jobs/executions?limit=50"
THEIRS = "/careful/executions.json?_sort_desc=started_at&_size=50&_shape=objects&_nofacet=1&_nosuggest=1&_ttl=0"
START_SECONDS = 60.0
DATASETTE_SETTINGS = {
    "sql_time_limit_ms": 60_000,
    "cache_size_kb": 65_536,
    "num_sql_threads": 3,
    "suggest_facets": "off",
}

SERVE = """
import sys
from jobstore.http.serve import serve
serve(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]), open_access=True)
"""


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Through the application object against the Python call with its JSON, then over sockets beside Datasette."""
    with closing(open_store(dataset.path("jobstore"))) as store:
        yield rivals(
            PART, "page of 50 through the app", dataset.label,
            floor=lambda _: orjson.dumps(store.list_job_executions(limit=50)), ours=WsgiClient(store).get, others={},
            rounds=settings.rounds, unit="x Python call", most=1.5,
        )  # fmt: skip
    with jobstore_server(dataset.path("jobstore")) as ours, datasette_server(dataset.path("careful")) as theirs:
        asking, them = HttpClient(ours, OURS).get, HttpClient(theirs, THEIRS).get
        check_equal("latest page, Datasette", _key, asking(0), them(0))
        found = in_rotation(
            {FLOOR: asking, "datasette": them}, rounds=settings.rounds, budget_seconds=settings.budget_seconds
        )
    figures = [
        Figure(found[FLOOR].milliseconds, "ms", at_most={"100k": 0.6, "1M": 1.1}.get(dataset.label)),
        Figure(found["datasette"].ratio, "x datasette", at_least=10 if dataset.label in ("1M", "10M") else None),
    ]
    milliseconds = {name: series.milliseconds for name, series in found.items()}
    yield Line(PART, "page of 50 through serve", dataset.label, figures, {"milliseconds": milliseconds})


class WsgiClient:
    """Calls our application as a server would."""

    def __init__(self, store: Any) -> None:
        from jobstore.wsgi import create_app  # the door is an extra

        self._app: Any = create_app(store, open_access=True)
        path, _, query = OURS.partition("?")
        self._environ = {"PATH_INFO": path, "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1"}
        setup_testing_defaults(self._environ)

    def get(self, _: int) -> bytes:
        """The body."""
        answered: list[str] = []
        body = self._app(
            {**self._environ, "wsgi.input": io.BytesIO()}, lambda status, _headers, *_: answered.append(status)
        )
        content = b"".join(body)
        if not answered[0].startswith("200"):
            raise Disagreement(f"our application answered {answered[0]}: {content[:200]!r}")
        return content


class HttpClient:
    """One connection that is kept."""

    def __init__(self, port: int, target: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._target = target

    def get(self, _: int) -> bytes:
        """The body."""
        self._connection.request("GET", self._target)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise Disagreement(f"{self._target} answered {answer.status}: {content[:200]!r}")
        return content


def jobstore_server(path: Path) -> Any:
    """`jobstore.http.serve` in a process of its own."""
    return _server([sys.executable, "-c", SERVE, str(path)], OURS, port_option=None)


def datasette_server(path: Path) -> Any:
    """``datasette serve``, tuned, in a process of its own."""
    command = [sys.executable, "-m", "datasette", "serve", str(path), "--host", "127.0.0.1"]
    for name, value in DATASETTE_SETTINGS.items():
        command += ["--setting", name, str(value)]
    return _server(command, THEIRS, port_option="--port")


@contextmanager
def _server(command: list[str], target: str, *, port_option: str | None) -> Iterator[int]:
    port = _free_port()
    arguments = [*command, *([port_option] if port_option else []), str(port)]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "JOBSTORE_LOG": "off"}
    )
    try:
        _await(process, port, target)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _await(process: subprocess.Popen[bytes], port: int, target: str) -> None:
    """Returns when the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            HttpClient(port, target).get(0)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _key(body: bytes) -> tuple[int, list[str]]:
    """The total and the instants in their order; Datasette orders ties the other way round."""
    page = orjson.loads(body)
    rows = page["data"] if "data" in page else page["rows"]
    starts = [(row["started_at"] or row["created_at"]).removesuffix("Z").removesuffix(".000000") for row in rows]
    return page["pagination"]["total"] if "data" in page else page["filtered_table_rows_count"], starts

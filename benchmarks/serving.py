"""The latest page over HTTP: through our application, and through our server beside Datasette's.

Datasette serves the careful peer's file, tuned: its indexes, a large cache, no facets, a time limit out of the way.
"""

import http.client
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import orjson

from benchmarks.datasets import Dataset
from benchmarks.measure import FLOOR, OURS, Disagreement, Figure, Line, Settings, check_equal, in_rotation, rivals
from benchmarks.pages import open_store

PART = "HTTP"
TARGET = "/api/v1/jobs/executions?limit=50"
THEIRS = "/careful/executions.json?_sort_desc=started_at&_size=50&_shape=objects&_nofacet=1&_nosuggest=1&_ttl=0"
START_SECONDS = 60.0
OURS_SERVED = "-m jobstore serve --open"
DATASETTE = "-m datasette serve --setting sql_time_limit_ms 60000 --setting cache_size_kb 65536"


def run(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Through the application object against the Python call with its JSON, then over sockets beside Datasette."""
    with closing(open_store(dataset.path(OURS))) as store:
        candidates = {FLOOR: lambda _: orjson.dumps(store.list_job_executions(limit=50)), OURS: _application(store)}
        yield rivals(
            PART, "page of 50 through the app", dataset.label, settings, candidates, unit="x Python call", most=1.5
        )
    ours, theirs = _server(OURS_SERVED, dataset.path(OURS), TARGET), _server(DATASETTE, dataset.path("careful"), THEIRS)
    with ours as asking, theirs as them:
        check_equal("latest page, Datasette", _key(asking(0)), _key(them(0)))
        found = in_rotation({FLOOR: asking, "datasette": them}, settings.rounds, settings.budget)
    figures = [
        Figure(found[FLOOR].milliseconds, "ms", at_most={"100k": 0.6, "1M": 1.1}.get(dataset.label)),
        Figure(found["datasette"].ratio, "x datasette", at_least=10 if dataset.label in ("1M", "10M") else None),
    ]
    milliseconds = {name: series.milliseconds for name, series in found.items()}
    yield Line(PART, "page of 50 through serve", dataset.label, figures, {"milliseconds": milliseconds})


def _application(store: Any) -> Any:
    """Calls our application as a server would."""
    from jobstore.wsgi import create_app  # the door is an extra

    app: Any = create_app(store, open_access=True)
    path, _, query = TARGET.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1"}
    setup_testing_defaults(environ)

    def get(_: int) -> bytes:
        told: list[str] = []
        body = app({**environ, "wsgi.input": io.BytesIO()}, lambda status, _headers, *_: told.append(status))
        content = b"".join(body)
        if not told[0].startswith("200"):
            raise Disagreement(f"our application answered {told[0]}: {content[:200]!r}")
        return content

    return get


def _get(connection: http.client.HTTPConnection, target: str, _: int) -> bytes:
    """The body that a server gives over a connection that is kept."""
    connection.request("GET", target)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise Disagreement(f"{target} answered {answer.status}: {content[:200]!r}")
    return content


@contextmanager
def _server(command: str, path: Path, target: str) -> Iterator[Any]:
    """Asks a server in a process of its own for its page, from when it answers first."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "JOBSTORE_LOG": "off"}
    process = subprocess.Popen(
        [sys.executable, *command.split(), str(path), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _answers(connection, target):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{process.args!r} did not start")
            time.sleep(0.05)
        yield partial(_get, connection, target)
    finally:
        connection.close()
        process.terminate()
        process.wait(10)


def _answers(connection: http.client.HTTPConnection, target: str) -> bool:
    try:
        _get(connection, target, 0)
    except OSError:
        return False
    finally:
        connection.close()  # made again when it is asked: a server closes one that waits for the other server
    return True


def _key(body: bytes) -> tuple[int, list[str]]:
    """The total and the instants in their order; Datasette orders ties the other way round."""
    page = orjson.loads(body)
    rows = page["data"] if "data" in page else page["rows"]
    starts = [(row["started_at"] or row["created_at"]).removesuffix("Z").removesuffix(".000000") for row in rows]
    return page["pagination"]["total"] if "data" in page else page["filtered_table_rows_count"], starts

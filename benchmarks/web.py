"""Measures the latest page over HTTP: ours beside Datasette, in one process and through their servers.

Datasette serves the careful peer's file, tuned: its indexes, a large cache, no facets, a time limit out of the way.
Each server is asked over a connection that is kept, and by several clients at once.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.measure import FLOOR, in_rotation
from benchmarks.queries import Disagreement
from benchmarks.results import Figure, Line
from benchmarks.subjects import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.queries import Settings

PART = "HTTP"
OURS = "/api/v1/jobs/executions?limit=50"
THEIRS = "/careful/executions.json?_sort_desc=started_at&_size=50&_shape=objects&_nofacet=1&_nosuggest=1&_ttl=0"
CLIENTS = 4
LOAD_SECONDS = 3.0
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


def in_process(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Through the application object, without a socket: against the Python call with its JSON, and Datasette's."""
    store = open_store(dataset.path("jobstore"))
    wsgi, asgi = WsgiClient(store), AsgiClient(dataset.path("careful"))
    _compare(orjson.loads(wsgi.get(0)), orjson.loads(asgi.get(0)))
    candidates: dict[str, Callable[[int], object]] = {
        FLOOR: lambda _: orjson.dumps(store.list_job_executions(limit=50)),
        "jobstore": wsgi.get,
        "datasette": asgi.get,
    }
    found = in_rotation(candidates, rounds=settings.rounds, budget_seconds=settings.budget_seconds)
    asgi.close()
    store.close()
    ours, theirs = found["jobstore"], found["datasette"]
    figures = [
        Figure(ours.ratio, "x Python call", at_most=1.5),
        Figure(theirs.ratio / ours.ratio, "x datasette"),
    ]
    milliseconds = {name: series.milliseconds for name, series in found.items()}
    detail = {"p99": ours.ratio_p99, "milliseconds": milliseconds}
    yield Line(PART, "page of 50 through the app", dataset.label, figures, detail)
    rates = {name: 1000 / milliseconds[name] for name in ("jobstore", "datasette")}
    yield Line(PART, "requests a second through the app", dataset.label, _rate_figures(rates), rates)


def through_servers(dataset: Dataset, settings: Settings) -> Iterator[Line]:
    """Over sockets: how long one page takes, and how many a second several clients get."""
    with jobstore_server(dataset.path("jobstore")) as ours, datasette_server(dataset.path("careful")) as theirs:
        asking, them = HttpClient(ours, OURS), HttpClient(theirs, THEIRS)
        _compare(orjson.loads(asking.get(0)), orjson.loads(them.get(0)))
        candidates: dict[str, Callable[[int], object]] = {FLOOR: asking.get, "datasette": them.get}
        found = in_rotation(candidates, rounds=settings.rounds, budget_seconds=settings.budget_seconds)
        milliseconds = {"jobstore": found[FLOOR].milliseconds, "datasette": found["datasette"].milliseconds}
        figures = [
            Figure(milliseconds["jobstore"], "ms", at_most=0.6 if dataset.label == "100k" else None),
            Figure(found["datasette"].ratio, "x datasette"),
        ]
        yield Line(PART, "page of 50 through serve", dataset.label, figures, {"milliseconds": milliseconds})
        rates = {"jobstore": requests_a_second(ours, OURS), "datasette": requests_a_second(theirs, THEIRS)}
        yield Line(
            PART, f"requests a second through serve, {CLIENTS} clients", dataset.label, _rate_figures(rates), rates
        )


def _rate_figures(rates: dict[str, float]) -> list[Figure]:
    return [Figure(rates["jobstore"], "a second"), Figure(rates["jobstore"] / rates["datasette"], "x datasette")]


class WsgiClient:
    """Calls our application as a server would."""

    def __init__(self, store: Any) -> None:
        from jobstore.wsgi import create_app  # the door is an extra

        self._app: Any = create_app(store, open_access=True)
        path, _, query = OURS.partition("?")
        self._environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip

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


class AsgiClient:
    """Calls Datasette's application as a server would."""

    def __init__(self, path: Path) -> None:
        from datasette.app import Datasette  # the peer is the benchmark's own extra

        settings = {name: value != "off" and value for name, value in DATASETTE_SETTINGS.items()}
        self._loop = asyncio.new_event_loop()
        datasette = Datasette([str(path)], settings=settings)
        self._loop.run_until_complete(datasette.invoke_startup())
        self._app = datasette.app()
        route, _, query = THEIRS.partition("?")
        self._scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": route,
            "raw_path": route.encode(), "query_string": query.encode(), "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip

    def get(self, _: int) -> bytes:
        """The body."""
        return self._loop.run_until_complete(self._get())

    async def _get(self) -> bytes:
        body: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            body.append(message.get("body", b""))

        await self._app(dict(self._scope), receive, send)
        return b"".join(body)

    def close(self) -> None:
        """Ends the event loop."""
        self._loop.close()


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


def requests_a_second(port: int, target: str) -> float:
    """What several clients get together, each asking as soon as it was answered; one thread plays them all."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with selectors.DefaultSelector() as ready:
        for _ in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", port))
            ready.register(client, selectors.EVENT_READ, (client, bytearray()))
            client.sendall(request)
        answered = 0
        begun = time.perf_counter()
        while (passed := time.perf_counter() - begun) < LOAD_SECONDS:
            for key, _ in ready.select(LOAD_SECONDS):
                client, received = key.data
                received += client.recv(1 << 18)
                if _is_whole(received):
                    answered += 1
                    received.clear()
                    client.sendall(request)
        for key in list(ready.get_map().values()):
            key.data[0].close()
    return answered / passed


def _is_whole(received: bytearray) -> bool:
    """Whether an answer has come to its end, by its length or its last chunk."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise Disagreement(f"a server under load answered {bytes(head[:200])!r}")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return body.endswith(b"\r\n0\r\n\r\n") if length is None else len(body) >= int(length[1])


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
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "JOBSTORE_LOG": "off"}
    )
    drained = threading.Thread(target=_drain, args=(process,), daemon=True)
    drained.start()
    try:
        _await(process, port, target)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _drain(process: subprocess.Popen[bytes]) -> None:
    """A log that nobody reads would fill the pipe and stop the server."""
    if process.stderr is not None:
        for _ in process.stderr:
            pass


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


def _compare(ours: Any, theirs: Any) -> None:
    """The same instants in the same order and the same total; Datasette orders ties the other way round."""
    starts = [_plain(row["started_at"] or row["created_at"]) for row in ours["data"]]
    their_starts = [_plain(row["started_at"]) for row in theirs["rows"]]
    totals = ours["pagination"]["total"], theirs["filtered_table_rows_count"]
    if starts != their_starts or totals[0] != totals[1]:
        raise Disagreement(f"latest page: {totals} {json.dumps([starts[:3], their_starts[:3]])}")


def _plain(text: str) -> str:
    return text.removesuffix("Z").removesuffix(".000000")

"""One request to a WSGI application, without a server in between."""

from __future__ import annotations

import json
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOKEN = "s3cret"
PATHS = {
    "list_jobs": "/api/v1/jobs",
    "get_job": "/api/v1/jobs/{}",
    "list_job_executions": "/api/v1/jobs/executions",
    "get_job_executions": "/api/v1/jobs/{}/executions",
    "job_stats": "/api/v1/stats",
    "get_execution": "/api/v1/executions/{}",
    "list_job_states": "/api/v1/states",
    "execution_histogram": "/api/v1/histogram",
}
"""The path of each query; ``{}`` is a job or an execution."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: Any, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, token: str | None = TOKEN
) -> Answer:
    """The answer to a request for a path with a query, both as they stand in a request line."""
    path, _, query = target.partition("?")
    given = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    environ = request_environ(method, path, query)
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()}
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(app(environ, lambda status, sent, _error=None: started.append((status, sent))))
    ((status, sent),) = started
    return Answer(int(status[:3]), {name.lower(): value for name, value in sent}, body)


def request_environ(method: str, path: str, query: str, *, prefix: str = "") -> dict[str, Any]:
    """What a server gives an application with a request."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": prefix,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def target(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A path with a query string; a segment of the path is quoted by `segment`."""
    query = urlencode(list(pairs), quote_via=quote)
    return f"{path}?{query}" if query else path


def segment(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="")

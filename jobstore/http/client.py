"""The queries over HTTP: a remote store with the methods of a local one.

To move a script from a file to a server, change one line::

    datahub = jobstore.open("jobs.db")
    datahub = jobstore.connect("http://127.0.0.1:8000", token=...)

The client checks parameters first, with the server's own tables. So a mistake costs no round trip, and a value of
the wrong Python type (1.0 or True for an integer) gets the same error as from a local store: text would not show it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from jobstore import __version__
from jobstore.http.hosts import is_loopback
from jobstore.http.routes import ROUTES
from jobstore.language.errors import (
    Forbidden,
    InternalError,
    InvalidParameter,
    JobStoreError,
    NotFound,
    StoreError,
    StoreUnreadable,
    Unauthorized,
    shown,
)
from jobstore.language.extras import missing
from jobstore.language.parameters import operation_of
from jobstore.queries import Queries

try:
    import httpx
except ImportError:  # an extra; only a connection needs it, and `help(jobstore)` shows what needs none
    httpx = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from typing import Self

    from jobstore.http.routes import Route
    from jobstore.language.query import Query

__all__ = ["RemoteJobStore", "connect"]

TIMEOUT_SECONDS: Final = 30.0
LONGEST_TIMEOUT_SECONDS: Final = 86_400
KEEP_ALIVE_SECONDS: Final = 30.0

_TOKEN = re.compile(r"[!-~]{1,505}", re.ASCII)
"""Only what a header can carry: the server checks the rest, and takes no longer ones."""


def connect(
    url: str,
    *,
    token: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    transport: httpx.BaseTransport | None = None,
) -> RemoteJobStore:
    """Connect to a job API: the result has the methods, documents and errors of a `JobStore`.

    Nothing is sent before the first query. Connections are reused if queries follow within 30 s; `close` closes them.

    >>> connect("https://jobs.example.com/prefix/", token="s3cret")
    RemoteJobStore('https://jobs.example.com/prefix')

    Args:
        url: the API's address, without ``/api/v1`` but with the prefix under which it is mounted.
        token: the bearer token; it is sent only to this address, since redirects are not followed.
        timeout_seconds: how long to wait for a connection, and for each piece of an answer.
        transport: how requests are sent, for tests and for special networks (`httpx.WSGITransport`, ...).

    Raises:
        InvalidParameter: the address, the token or the timeout is not valid; or the proxy or the certificates that
            the environment names cannot be used.
    """
    return RemoteJobStore(url, token=token, timeout_seconds=timeout_seconds, transport=transport)


class RemoteJobStore(Queries):
    """The queries of the job API over HTTP; a context manager.

    Safe to use from several threads and after a fork: each process has its own connections.
    A network failure, or an answer that does not come from a job API, raises `StoreUnreadable`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if httpx is None:
            raise missing("jobstore.connect", "client")
        self.url = _checked_url(url)
        self._headers = {"Accept": "application/json", "User-Agent": f"jobstore/{__version__}", **_authorization(token)}
        self._timeout = httpx.Timeout(_checked_timeout(timeout_seconds))
        self._transport = transport
        self._is_closed = False
        self._begin_anew()

    def __repr__(self) -> str:
        return f"RemoteJobStore({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._is_closed = True
        self._client.close()

    def answer(self, query: Query) -> Any:
        """Answer a checked query with one request; return its document."""
        return _document(self._get(_target(query)), self.url, _KEYS.get(_route(query).answer, "data"))

    def _get(self, target: str) -> httpx.Response:
        """Send one request. Retry it once if the connection breaks: the server may have closed an idle one."""
        if self._is_closed:
            raise StoreUnreadable(f"The connection to {self.url} has been closed; connect again")
        if self._process != os.getpid():
            _left_behind.append(self._client)
            self._begin_anew()
        try:
            try:
                return self._client.get(self.url + target)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                return self._client.get(self.url + target)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreUnreadable(_no_answer(self.url, error)) from None

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        is_tls = urlsplit(self.url).scheme == "https" and self._transport is None
        try:
            self._client = httpx.Client(
                headers=self._headers,
                timeout=self._timeout,
                transport=self._transport,
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
                trust_env=not is_loopback(urlsplit(self.url).hostname or ""),  # a proxy cannot reach this machine
                # With TLS, by SSL_CERT_FILE, also where no proxy is asked for.
                verify=httpx.create_ssl_context() if is_tls else True,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise InvalidParameter(
                f"The proxy or the certificates that the environment names cannot be used: {error}"
            ) from None


_left_behind: list[httpx.Client] = []
"""Clients inherited through a fork, kept alive so that this process never closes the parent's connections."""


# Checking arguments


_URL = re.compile(r"https?://[A-Z0-9._:\[\]-]+(?:/[\w.~%!$&'()*+,;=:/-]*)?", re.ASCII | re.IGNORECASE)


def _checked_url(url: object) -> str:
    """Return the address without a trailing slash."""
    if isinstance(url, str) and _URL.fullmatch(url) and _is_address(url):
        return url.rstrip("/")
    # The text before an @ may be a password: do not show it.
    came = "one with '@'; give the token by itself" if isinstance(url, str) and "@" in url else shown(url)
    raise InvalidParameter(
        f"url must be http://HOST[:PORT][/PREFIX] or https://..., without user, query and fragment; received {came}"
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _authorization(token: object) -> dict[str, str]:
    if token is None:
        return {}
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise InvalidParameter("token must be 1 to 505 visible ASCII characters; what came is not shown")
    return {"Authorization": f"Bearer {token}"}


def _checked_timeout(seconds: object) -> float:
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        return float(seconds)
    raise InvalidParameter(f"timeout_seconds must be a number above 0, at most 86400; received {shown(seconds)}")


# From a query to a request

_ROUTES: Final = {route.operation.name: route for route in ROUTES}


def _route(query: Query) -> Route:
    return _ROUTES[operation_of(query).name]


_NO_NAMES: Final = frozenset({".", "..", "executions"})
"""Names that cannot be a path segment: clients resolve the dots, and ``executions`` is another route."""


def _target(query: Query) -> str:
    """Return path and query string of the request for a query; raise `NotFound` for a name that no path can carry."""
    route = _route(query)
    given = route.operation.to_text(query)
    path = route.template.format_map({name: _piece(name, given.pop(name)) for name in route.path_parameters})
    return f"{path}?{urlencode(given)}" if given else path


def _piece(parameter: str, name: str) -> str:
    if "/" in name or name in _NO_NAMES:
        raise NotFound(f"{'Job' if parameter == 'job_id' else 'Execution'} not found: {name}")
    return quote(name, safe="")


# From a response to a document or an error


_KEYS: Final = {"Job": "id", "Execution": "id", "Stats": "runs", "Histogram": "buckets"}
"""A key that proves an answer comes from a job API (pages have ``data``): other servers also send JSON with 200."""


def _document(response: httpx.Response, url: str, key: str) -> dict[str, Any]:
    body = _json_object(response)
    if response.status_code == HTTPStatus.OK and body is not None and key in body:
        return body
    raise _error(response, body, url)


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _error(response: httpx.Response, body: dict[str, Any] | None, url: str) -> JobStoreError:
    """Return the server's error in the class of its code, or, for a foreign answer, an error that says so."""
    told = body.get("error") if body else None
    if isinstance(told, Mapping) and isinstance(told.get("code"), str) and isinstance(told.get("message"), str):
        return _class_of(told["code"], response.status_code)(told["message"])
    if response.is_redirect:
        location = shown(response.headers.get("Location"))
        return StoreUnreadable(f"{url} redirects to {location}, which is not followed; connect to the right address")
    message = f"{url} answered with status {response.status_code}, but not as a job API; check the address"
    return _OF_STATUS.get(response.status_code, StoreUnreadable)(message)


_OF_STATUS: Final[Mapping[int, type[JobStoreError]]] = {401: Unauthorized, 403: Forbidden}
"""Errors that a proxy in front of the API may send in its place."""


def _class_of(code: str, status: int) -> type[JobStoreError]:
    """Return the class for a code. A newer server may send codes that this client does not know."""
    if code in _CLASSES:
        return _CLASSES[code]
    return StoreError if status == HTTPStatus.SERVICE_UNAVAILABLE else InternalError


def _all_below(root: type[JobStoreError]) -> list[type[JobStoreError]]:
    children = root.__subclasses__()
    return children + [below for child in children for below in _all_below(child)]


# `JobStoreError` and `StoreError` share a code with one of their subclasses, which must win. Subclasses in other
# modules are internal.
_CLASSES: Final = {
    error.code: error
    for error in _all_below(JobStoreError)
    if error is not StoreError and error.__module__ == JobStoreError.__module__
}


def _no_answer(url: str, error: Exception) -> str:
    """Describe a failed connection, without the request, which holds the token."""
    if isinstance(error, httpx.TimeoutException):
        return f"{url} did not answer in time; try again, or give a longer timeout_seconds"
    reason = str(error) or type(error).__name__
    return f"Cannot reach {url} ({reason}); check that the server runs there (jobstore serve) and the address"

"""The WSGI application: a falcon app that authenticates each request before routing it."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import falcon
import orjson

from jobstore import store as stores
from jobstore.http import faults
from jobstore.http.cors import Origins
from jobstore.http.gate import Gate, authenticator, is_open
from jobstore.http.hosts import ANY, Hosts
from jobstore.http.journal import write_access
from jobstore.http.reply import MAX_BODY_BYTES, encoded, links, quoted, send
from jobstore.http.request import ApiRequest, Resource, path_is_text, query_pairs
from jobstore.http.routes import DOCUMENT, HEALTH, METRICS, ROUTES, Route
from jobstore.language.address import Address, location_of
from jobstore.language.errors import InvalidParameter
from jobstore.metrics import CONTENT_TYPE, metrics

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jobstore.http.gate import Authenticate
    from jobstore.http.pages import Site
    from jobstore.language.address import Where
    from jobstore.store import JobStore

    Api = falcon.App[ApiRequest, falcon.Response]


def create_app(
    store: JobStore | Where,
    *,
    tokens: Mapping[str, Collection[str]] | None = None,
    authenticate: Authenticate | None = None,
    open_access: bool = False,
    max_body_bytes: int = MAX_BODY_BYTES,
    cors_origins: Collection[str] = (),
    page: bool = False,
    log_url: str | None = None,
    host_names: Collection[str] | None = None,
) -> Api:
    """Create the job API as a WSGI application. Any WSGI server can run it, also under a path prefix.

    Give exactly one of `tokens`, `authenticate` and `open_access`.

    Args:
        store: a `JobStore`, or the path or address of one, which is opened at the first request, so a server may load
            the application before it forks.
        tokens: each token with its permissions, as in ``{"s3cret": {"read:jobs"}}``. Only digests are kept.
        authenticate: a function of the WSGI environ that returns the caller's permissions, or ``None``;
            `jobstore.tokens.load` makes one of a token file.
        open_access: allow every request, without a token.
        max_body_bytes: the largest response body, before compression.
        cors_origins: the origins whose pages may read the API, ``*`` for all. Default: none.
        page: also serve the web page, at ``/`` of this application.
        log_url: the address the page links a trace to: http or https, with ``{trace_id}`` in it.
        host_names: the names accepted in ``Host``, beside IP addresses and ``localhost``; ``*`` for all. Default: any
            name; with open access, only names that nobody can register.

    Raises:
        InvalidParameter: not exactly one of the three is given, or an argument could never work.
        ImportError: an address needs psycopg, which is not installed.
    """
    if not isinstance(max_body_bytes, int) or max_body_bytes < 1:
        raise InvalidParameter("max_body_bytes must be a positive integer")
    judge = authenticator(tokens, authenticate, open_access)
    source = Source(store)
    site = _site(source, judge, log_url) if page else None
    origins = Origins(cors_origins) if cors_origins else None
    hosts = Hosts((ANY,) if host_names is None and not open_access else host_names)
    frontier = Frontier(hosts, Gate(judge), origins, site)
    app: Api = falcon.App(request_type=ApiRequest, middleware=[frontier, *([origins] if origins else [])])
    faults.handle(app)
    _add_routes(app, source, max_body_bytes, is_open=open_access)
    if site:
        site.mount(app)
    return app


def _add_routes(app: Api, source: Source, max_body_bytes: int, *, is_open: bool) -> None:
    for route in ROUTES:
        query = Query(route, source, max_body_bytes)
        app.add_route(route.template, query)
        if route.answer.endswith("Page"):
            app.add_route(f"{route.template}/", query)  # many clients write a collection's address this way
    app.add_route(HEALTH, Health(source))
    app.add_route(METRICS, Metrics(source))
    app.add_route(DOCUMENT, Document(is_open=is_open))


def _site(source: Source, judge: Authenticate | None, log_url: str | None) -> Site:
    from jobstore.http.pages import Site  # an API alone needs no templates
    from jobstore.http.session import Sessions

    return Site(source.get, Sessions(judge), log_url=log_url)


class Source:
    """The store, opened on first use. If that fails, each later request tries again."""

    def __init__(self, store: JobStore | Where) -> None:
        if not isinstance(store, stores.JobStore | str | os.PathLike | Address):
            raise InvalidParameter("store must be a JobStore, or the path or address of one")
        self._opened = store if isinstance(store, stores.JobStore) else None
        self._location = Path() if isinstance(store, stores.JobStore) else location_of(store)
        if isinstance(self._location, Address):
            stores.server_store()  # without its driver every request would fail: raise now
        self._lock = threading.Lock()

    def get(self) -> JobStore:
        """Return the open store; raise `StoreError` while it cannot be opened."""
        return self._opened or self._open()

    def _open(self) -> JobStore:
        with self._lock:
            if self._opened is None:
                self._opened = stores.open(self._location)
            return self._opened


class Frontier:
    """Middleware around every request: checks host and token before routing, adds headers and logs afterwards."""

    def __init__(self, hosts: Hosts, gate: Gate, origins: Origins | None, site: Site | None = None) -> None:
        self._hosts = hosts
        self._gate = gate
        self._origins = origins
        self._site = site
        self._headers = {
            "cache-control": "private, no-cache",
            "x-content-type-options": "nosniff",
            "vary": "Accept-Encoding, Authorization, Origin" if origins else "Accept-Encoding, Authorization",
        }

    def process_request(self, request: ApiRequest, _response: falcon.Response) -> None:
        """Before routing, check the host name, then the token."""
        if is_open(request.env):
            return
        self._hosts.check(request.env)
        if self._origins and self._origins.is_preflight(request):
            return
        if self._site is None or not self._site.admits(request):
            self._gate.check(request.env)

    def process_response(
        self, request: ApiRequest, response: falcon.Response, _resource: object, _succeeded: object
    ) -> None:
        """Add the headers common to all responses, errors included, and log the request."""
        error = getattr(response.context, "error", None)
        if error and self._site and self._site.wants(request):
            self._site.show_error(request, response, *error)
        for name, value in self._headers.items():
            if response.get_header(name) is None:
                response.set_header(name, value)
        response.set_header("X-Request-Id", request.request_id)
        write_access(request, response.status_code, len(response.data or b""))


class Query(Resource):
    """One of the API's routes."""

    def __init__(self, route: Route, source: Source, max_body_bytes: int) -> None:
        self._operation = route.operation
        self._source = source
        self._bound = max_body_bytes

    def on_get(self, request: ApiRequest, response: falcon.Response, **path: str) -> None:
        """Check the parameters, query the store, send the document."""
        if path and not path_is_text(request.env):
            raise InvalidParameter(f"{next(iter(path))} must be percent-encoded UTF-8 in the path")
        pairs = list(query_pairs(request.env))
        query = self._operation.from_text([*path.items(), *pairs])
        request.has_good_query = True
        document = self._source.get().answer(query)
        body = encoded(document, self._bound)
        if "pagination" in document:
            header = links(request, pairs, document, query.offset)
            if header:
                response.set_header("Link", header)
        send(request, response, body)


class Health(Resource):
    """The health check: whether the store can be read now."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """200, or 503 if the store cannot be read. Ignores the query string: probes add parameters of their own."""
        self._source.get().fresh()
        send(request, response, b'{"status":"ok"}')


class Metrics(Resource):
    """The metrics for Prometheus; like every answer about jobs, they need a token."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """Computed for each scrape. Ignores the query string: scrapers add parameters of their own."""
        response.content_type = CONTENT_TYPE
        send(request, response, metrics(self._source.get()).encode())


class Document(Resource):
    """The OpenAPI document, generated at the first request."""

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """Send the document for the prefix under which this application is mounted."""
        send(request, response, _document_body(request.env.get("SCRIPT_NAME", ""), self._is_open))


@lru_cache(maxsize=8)
def _document_body(prefix: str, is_open: bool) -> bytes:
    from jobstore.http import openapi  # imports pydantic, which nothing else here needs

    return orjson.dumps(openapi.document(quoted(prefix) or "/", is_open=is_open))

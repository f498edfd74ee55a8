"""The WSGI application: a falcon app that authenticates before it routes, and one path for every answer."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import falcon
import orjson

from jobstore import store as stores
from jobstore.http import faults
from jobstore.http.cors import Origins
from jobstore.http.gate import Gate, authenticator, is_open
from jobstore.http.hosts import ANY, Hosts
from jobstore.http.journal import write_access
from jobstore.http.reply import MAX_BODY_BYTES, encoded, links, send
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
    """The job API as a WSGI application; it may be mounted under a prefix, and served by any WSGI server.

    Exactly one of `tokens`, `authenticate` and `open_access` must be given.

    Args:
        store: a `JobStore`, or the path of one, which is then opened when the first request comes (so a server may
            load the application before it forks).
        tokens: each token with its permissions, as in ``{"s3cret": {"read:jobs"}}``. Only digests are kept.
        authenticate: a function of the WSGI environ that returns the caller's permissions, or ``None``;
            `jobstore.tokens.load` makes one of a token file.
        open_access: allow every request, without a token.
        max_body_bytes: the bound on a body before compression.
        cors_origins: the origins whose pages may read the API, ``*`` for all; none unless given.
        page: whether to serve the web page, too, at ``/`` of this application.
        log_url: where the page finds the log of a trace: an http or https address with ``{trace_id}`` in it.
        host_names: the names in ``Host`` that are answered, beside addresses and ``localhost``; ``*`` for all. Unless
            given, every name with tokens, only names that cannot be registered with open access.

    Raises:
        InvalidParameter: not exactly one of the three is given, or one of them could never work.
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
            app.add_route(f"{route.template}/", query)  # as many clients write the address of a collection
    app.add_route(HEALTH, Health(source))
    app.add_route(METRICS, Metrics(source))
    app.add_route(DOCUMENT, Document(is_open=is_open))


def _site(source: Source, judge: Authenticate | None, log_url: str | None) -> Site:
    from jobstore.http.pages import Site  # an API alone needs no templates
    from jobstore.http.session import Sessions

    return Site(source.get, Sessions(judge), log_url=log_url)


class Source:
    """The store, opened when it is first needed; a store that is not there may come later."""

    def __init__(self, store: JobStore | Where) -> None:
        if not isinstance(store, stores.JobStore | str | os.PathLike | Address):
            raise InvalidParameter("store must be a JobStore, or the path or address of one")
        self._opened = store if isinstance(store, stores.JobStore) else None
        self._location = Path() if isinstance(store, stores.JobStore) else location_of(store)
        if isinstance(self._location, Address):
            stores.server_store()  # without its driver no request could be answered: say so now
        self._lock = threading.Lock()

    def get(self) -> JobStore:
        """The open store; raises `StoreError` while it cannot be opened."""
        return self._opened or self._open()

    def _open(self) -> JobStore:
        with self._lock:
            if self._opened is None:
                self._opened = stores.open(self._location)
            return self._opened


class Frontier:
    """What every request passes on its way in and every answer on its way out."""

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
        """Before routing: the name it was sent to, then who sent it."""
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
        """After everything, errors included: the headers that each answer has, and the log."""
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
        """Parameters, then the store, then the answer."""
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
    """Whether the store can be read now; says nothing about what is in it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """200, or the 503 of a store that cannot be read. The query string is left alone: probes add to it."""
        self._source.get().fresh()
        send(request, response, b'{"status":"ok"}')


class Metrics(Resource):
    """The numbers for Prometheus, behind the token like every answer about jobs."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """Read anew for each scrape. The query string is left alone: scrapers add to it."""
        response.content_type = CONTENT_TYPE
        send(request, response, metrics(self._source.get()).encode())


class Document(Resource):
    """The OpenAPI document, made when it is first asked for."""

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open
        self._bodies: dict[str, bytes] = {}

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """The document of this server, whatever prefix it is mounted under."""
        prefix: Any = request.env.get("SCRIPT_NAME", "")
        body = self._bodies.get(prefix) or self._make(prefix)
        send(request, response, body)

    def _make(self, prefix: str) -> bytes:
        from jobstore.http import openapi  # brings pydantic, which no other answer needs

        body = orjson.dumps(openapi.document(prefix or "/", is_open=self._is_open))
        if len(self._bodies) < 8:  # noqa: PLR2004  # a proxy could send any number of prefixes
            self._bodies[prefix] = body
        return body

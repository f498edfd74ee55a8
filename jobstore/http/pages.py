"""The web page on falcon: passes requests to `jobstore.web`, sends its replies, and checks who may read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import falcon

from jobstore.http import session
from jobstore.http.reply import quoted, send
from jobstore.http.request import Resource, path_is_text, query_pairs
from jobstore.http.routes import ALLOW, METRICS, OPEN_PATHS
from jobstore.language.errors import InvalidParameter, JobStoreError, NotFound, Unauthorized
from jobstore.web.links import check_names, safe_place
from jobstore.web.page import HEADERS, Ask, Page, Reply, assets

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobstore.http.request import ApiRequest
    from jobstore.http.session import Sessions

_OPEN: Final = frozenset({"/login", "/logout", "/settings"})
"""Open to all: they reveal nothing about jobs."""
_NOT_PAGES: Final = frozenset({*OPEN_PATHS, METRICS})
VIEWS: Final = ("/", "/jobs/{name}", "/executions", "/executions/{number}", "/timeline", "/settings")
_VARY: Final = "Accept, Accept-Encoding, Accept-Language, Authorization, Cookie"


class Site:
    """The web page of one application."""

    def __init__(self, store: Callable[[], Any], sessions: Sessions, *, log_url: str | None) -> None:
        self._store = store
        self._sessions = sessions
        self._page = Page(log_url=log_url)

    def mount(self, app: falcon.App[ApiRequest, falcon.Response]) -> None:
        """Add the routes of the page."""
        for template in VIEWS:
            app.add_route(template, _View(self))
        app.add_route("/assets/{name}", _Asset())
        app.add_route("/login", _Login(self))
        app.add_route("/logout", _Logout())

    def admits(self, request: ApiRequest) -> bool:
        """Whether the request needs no bearer token: it is for the page, and is open to all or has a valid cookie.

        Raises:
            Forbidden: the token behind the cookie lacks the permission.
        """
        path = request.env["PATH_INFO"]
        if not is_page(path):
            return False
        if path in _OPEN or path.startswith("/assets/"):
            return True
        request.context.signed_in = self._sessions.admits(request.env)
        return bool(request.context.signed_in)

    def ask(self, request: ApiRequest, store: Any) -> Ask:
        """Turn a request into what `jobstore.web` takes."""
        if not path_is_text(request.env):
            raise InvalidParameter("The address must be percent-encoded UTF-8")
        ask = self._plain_ask(request, list(query_pairs(request.env)))
        signed_in = getattr(request.context, "signed_in", False)
        return replace(ask, signed_in=signed_in, now=store.now(), timezone=store.timezone)

    def show(self, request: ApiRequest, response: falcon.Response) -> None:
        """Answer with a view."""
        environ = request.env
        if not environ["PATH_INFO"] and environ.get("SCRIPT_NAME"):
            # Relative links need the trailing slash, and the redirect itself is relative to the mount point.
            last = quoted(environ["SCRIPT_NAME"].rpartition("/")[2])
            _give(request, response, Reply(303, headers={"location": f"{last}/"}))
            return
        store = self._store()
        ask = self.ask(request, store)
        if ask.path != "/settings":  # it accepts any parameter, even a token
            check_names(ask.pairs)
            request.has_good_query = True
        _give(request, response, self._page.answer(store, ask))

    def sign_in(self, request: ApiRequest, response: falcon.Response) -> None:
        """Check the token from the form; set a cookie, or show the form again."""
        fields = session.form(request.env)
        if not session.comes_from_here(request.env):
            outcome = session.Outcome(problem="This form was sent by another site. Try again from here.")
        else:
            outcome = self._sessions.sign_in(request.env, fields.get("token", ""))
        if outcome.cookie:
            place = {"location": safe_place(fields.get("next"))}
            _give(request, response, Reply(303, headers=place, cookies=[outcome.cookie]))
            return
        ask = self._plain_ask(request, [("next", fields.get("next", ""))])
        _give(request, response, self._page.login(ask, outcome.problem, status=429 if outcome.wait else 401))
        if outcome.wait:
            response.set_header("Retry-After", str(int(outcome.wait) + 1))

    @staticmethod
    def wants(request: ApiRequest) -> bool:
        """Whether a browser asks, outside the API."""
        return is_page(request.env["PATH_INFO"]) and "text/html" in request.env.get("HTTP_ACCEPT", "")

    def show_error(self, request: ApiRequest, response: falcon.Response, error: JobStoreError, message: str) -> None:
        """Show a browser an error: the sign-in form if a token would help, else an error page."""
        reply = self._error(request, error, message)
        response.data = reply.body
        response.set_headers(dict(reply.headers))

    def _error(self, request: ApiRequest, error: JobStoreError, message: str) -> Reply:
        try:
            ask = self._plain_ask(request, list(query_pairs(request.env)))
        except InvalidParameter:
            ask = self._plain_ask(request)
        if not isinstance(error, Unauthorized) or not self._sessions.can_sign_in:
            return self._page.failed(ask, error, message)
        again = request.env.get("HTTP_SEC_FETCH_SITE") == "cross-site"
        try:
            return self._page.login(ask, again=again)
        except InvalidParameter:  # the time zone
            return self._page.login(replace(ask, pairs=[]), again=again)

    def _plain_ask(self, request: ApiRequest, pairs: list[tuple[str, str]] | None = None) -> Ask:
        """Build an `Ask` without the store, which may be the cause of the error to be shown."""
        environ = request.env
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace") or "/"
        return Ask(
            path, quote(path.lstrip("/")), pairs or [], session.cookies(environ),
            environ.get("HTTP_ACCEPT_LANGUAGE", ""), now=datetime.now(UTC),
        )  # fmt: skip


def is_page(path: str) -> bool:
    """Whether a path is outside the API."""
    return path not in _NOT_PAGES and not path.startswith("/api/")


def _give(request: ApiRequest, response: falcon.Response, reply: Reply) -> None:
    response.status = falcon.code_to_http_status(reply.status)
    response.set_headers({**reply.headers, "vary": _VARY})
    for cookie in reply.cookies:
        response.append_header("Set-Cookie", cookie)
    if reply.tag is not None and reply.status == 200:  # noqa: PLR2004
        send(request, response, reply.body, reply.tag)
    else:
        response.data = reply.body


class _View(Resource):
    def __init__(self, site: Site) -> None:
        self._site = site

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        self._site.show(request, response)


class _Asset(Resource):
    def on_get(self, request: ApiRequest, response: falcon.Response, *, name: str) -> None:  # type: ignore[override]
        if name not in assets():
            raise NotFound("There is no such file")
        body, kind = assets()[name]
        response.set_headers({"content-type": kind, "cache-control": "public, max-age=31536000, immutable"})
        response.set_header("vary", "Accept-Encoding")
        send(request, response, body)


class _Login(Resource):
    allow = f"{ALLOW}, POST"

    def __init__(self, site: Site) -> None:
        self._site = site

    def on_get(self, request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        # A browser may have this address in its history: redirect it to the views.
        if request.env.get("QUERY_STRING"):
            raise NotFound("There is no page at this address")  # an error, so that a token in the query is not logged
        _give(request, response, Reply(303, headers={"location": "./"}))

    def on_post(self, request: ApiRequest, response: falcon.Response) -> None:
        if request.verb != "POST":
            raise falcon.HTTPMethodNotAllowed([self.allow])
        self._site.sign_in(request, response)


class _Logout:
    @staticmethod
    def on_post(request: ApiRequest, response: falcon.Response) -> None:
        if request.verb != "POST":
            raise falcon.HTTPMethodNotAllowed(["POST"])
        cookies = [session.Sessions.sign_out(request.env)] if session.comes_from_here(request.env) else []
        _give(request, response, Reply(303, headers={"location": "./", **HEADERS}, cookies=cookies))

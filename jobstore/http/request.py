"""Words from outside: method, path and query string, decoded strictly.

falcon's own decoding puts U+FFFD in the place of what is not UTF-8 and takes ``%zz`` as it is; a name
or a search term could then find something else than was asked for.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import falcon

from jobstore.http.journal import request_id
from jobstore.http.routes import ALLOW, METHODS
from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ApiRequest(falcon.Request):
    """A request with what every answer needs: its id, and when it came.

    Attributes:
        request_id: stands in the answer and in each line of the log.
        came_at: the moment by `perf_counter`, in seconds.
        has_good_query: whether every name in the query string is one of ours. Any other may be a token, so the log
            leaves the query out.
    """

    has_good_query = False

    def __init__(self, env: dict[str, Any], options: falcon.RequestOptions | None = None) -> None:
        self.came_at = perf_counter()
        path = env.setdefault("PATH_INFO", "")  # PEP 3333 lets a server leave it out
        if path.startswith("//"):  # falcon's router ignores how many slashes come first: so must all that judge paths
            env["PATH_INFO"] = "/" + path.lstrip("/")
        super().__init__(env, options)
        self.request_id = request_id(env)
        if self.method not in METHODS:
            self.method = "POST"  # falcon answers 400 to verbs it never heard of; here all are as good as POST

    @property
    def verb(self) -> str:
        """The method as it came."""
        return str(self.env["REQUEST_METHOD"])


class Resource(ABC):
    """What may be read with GET; HEAD and OPTIONS follow from it."""

    @abstractmethod
    def on_get(self, request: ApiRequest, response: falcon.Response, **path: str) -> None:
        """Answer; each kind of resource in its own way."""

    def on_head(self, request: ApiRequest, response: falcon.Response, **path: str) -> None:
        """As GET; falcon keeps the headers and leaves out the body."""
        self.on_get(request, response, **path)

    def on_options(self, _request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """Which methods there are."""
        response.status = falcon.HTTP_204
        response.set_header("Allow", ALLOW)


def path_is_text(environ: dict[str, Any]) -> bool:
    """Whether the path is UTF-8; WSGI hands it over as latin-1."""
    path: str = environ["PATH_INFO"]
    if path.isascii():
        return True
    try:
        path.encode("latin-1").decode()
    except UnicodeError:
        return False
    return True


def query_pairs(environ: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and values of the query string, in their order; a plus is a blank, an ``=`` may be left out.

    >>> list(query_pairs({"QUERY_STRING": "search=K+%E7%BA%BF&limit=5"}))
    [('search', 'K 线'), ('limit', '5')]

    Raises:
        InvalidParameter: a name or a value is not percent-encoded UTF-8.
    """
    query: str = environ.get("QUERY_STRING", "")
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            decoded = _decoded(name, "The name of a parameter")
            yield decoded, _decoded(value, decoded)


def _decoded(text: str, whose: str) -> str:
    if text.isascii() and "%" not in text:
        return text.replace("+", " ")
    try:
        return _unquoted(text)
    except ValueError:
        raise InvalidParameter(
            f"{_named(whose)} must be percent-encoded UTF-8; received {shown(text)}; write a % as %25"
        ) from None


def _unquoted(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError("a percent sign without two hexadecimal digits")
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()


def _named(whose: str) -> str:
    return whose if whose.isprintable() and len(whose) <= 40 else "The value of a parameter"  # noqa: PLR2004

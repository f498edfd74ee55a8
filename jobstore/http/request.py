"""Strict decoding of method, path and query string.

falcon replaces bytes that are not UTF-8 by U+FFFD and keeps ``%zz`` as it is, so a query could return something
other than what the caller asked for. This module refuses such requests.
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
    """A request with its id and its time of arrival.

    Attributes:
        request_id: returned in ``X-Request-Id`` and written to each line of the log.
        came_at: when it arrived, in seconds of `perf_counter`.
        has_good_query: whether the query string was found valid. Until then it may hold a token, so the log leaves
            it out.
    """

    has_good_query = False

    def __init__(self, env: dict[str, Any], options: falcon.RequestOptions | None = None) -> None:
        self.came_at = perf_counter()
        path = env.setdefault("PATH_INFO", "")  # PEP 3333 lets a server leave it out
        if path.startswith("//"):  # falcon's router merges leading slashes: so must the code that checks paths
            env["PATH_INFO"] = "/" + path.lstrip("/")
        super().__init__(env, options)
        self.request_id = request_id(env)
        if self.method not in METHODS:
            self.method = "POST"  # falcon answers 400 to a verb it does not know; treated as POST, it gets a 405

    @property
    def verb(self) -> str:
        """The method as the caller sent it."""
        return str(self.env["REQUEST_METHOD"])


class Resource(ABC):
    """A resource that answers GET; it derives HEAD and OPTIONS from that.

    Attributes:
        allow: the methods, as the header ``Allow`` lists them.
    """

    allow = ALLOW

    @abstractmethod
    def on_get(self, request: ApiRequest, response: falcon.Response, **path: str) -> None:
        """Answer a GET."""

    def on_head(self, request: ApiRequest, response: falcon.Response, **path: str) -> None:
        """Like GET; falcon sends the headers without the body."""
        self.on_get(request, response, **path)

    def on_options(self, _request: ApiRequest, response: falcon.Response, **_path: str) -> None:
        """Answer 204 with the allowed methods."""
        response.status = falcon.HTTP_204
        response.set_header("Allow", self.allow)


def path_is_text(environ: dict[str, Any]) -> bool:
    """Whether the path is valid UTF-8; WSGI passes it decoded as latin-1."""
    path: str = environ["PATH_INFO"]
    if path.isascii():
        return True
    try:
        path.encode("latin-1").decode()
    except UnicodeError:
        return False
    return True


def query_pairs(environ: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the query string in order. A plus is a space, and ``=`` is optional.

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

"""Request ids and the access log (logger ``jobstore.http``). No line holds a token.

A line has the path and, once the parameters were found good, the query: a token that somebody put
into a query string by mistake is an unknown parameter, and so it is not written down.
"""

from __future__ import annotations

import logging
import re
import traceback
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

if TYPE_CHECKING:
    from jobstore.http.request import ApiRequest

log = logging.getLogger("jobstore.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIRST_ERROR = 400
_TOO_SHORT_TO_STRIKE = 3
"""Or a header of one letter would take that letter out of every traceback."""


def request_id(environ: dict[str, Any]) -> str:
    """The caller's ``X-Request-Id`` where it is well formed (and not the token itself), else a new one."""
    given: str | None = environ.get("HTTP_X_REQUEST_ID")
    if given is None or not _REQUEST_ID.fullmatch(given) or given in environ.get("HTTP_AUTHORIZATION", "").split():
        return uuid4().hex
    return given


def write_access(request: ApiRequest, status: int, body_bytes: int) -> None:
    """One line for one request."""
    if log.isEnabledFor(logging.INFO):
        milliseconds = (perf_counter() - request.came_at) * 1000
        log.info(
            "%s %s %s %d %d bytes %.1f ms", request.request_id, quote(request.verb), _target(request, status), status,
            body_bytes, milliseconds,
        )  # fmt: skip


def _target(request: ApiRequest, status: int) -> str:
    path = quote(request.env.get("SCRIPT_NAME", "") + request.env["PATH_INFO"], encoding="latin-1")
    query = quote(request.env.get("QUERY_STRING", ""), safe="=&%+,:/", encoding="latin-1")
    return f"{path}?{query}" if query and status < _FIRST_ERROR else path


def write_defect(request: ApiRequest, error: BaseException) -> None:
    """The traceback of a defect; what the caller said in `Authorization` is struck out of it."""
    text = "".join(traceback.format_exception(error))
    for word in request.env.get("HTTP_AUTHORIZATION", "").split():
        if len(word) > _TOO_SHORT_TO_STRIKE:
            text = text.replace(word, "[struck out]")
    log.error("%s failed\n%s", request.request_id, text)

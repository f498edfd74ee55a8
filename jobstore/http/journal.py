"""Request ids and the access log (logger ``jobstore.http``), which never contains a token.

A line has the path, and the query string only if its parameters are valid: a token in a query string is an unknown
parameter, so it is not logged. The length of a line is limited, so that strangers cannot fill the log.
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
    from collections.abc import Mapping

    from jobstore.http.request import ApiRequest

log = logging.getLogger("jobstore.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
LONGEST_TARGET = 500
LONGEST_VERB = 20
LONGEST_TRACEBACK = 20_000
_TOKEN = re.compile(r"jst_[A-Za-z0-9_-]{8,}", re.ASCII)
"""A token made by `jobstore.http.tokens`, anywhere in a text."""
_TOO_SHORT_TO_STRIKE = 3
"""Otherwise an Authorization header of one letter would remove that letter from the whole traceback."""


def request_id(environ: dict[str, Any]) -> str:
    """Return the caller's ``X-Request-Id`` if it is well formed and holds no token, else a new one."""
    given: str | None = environ.get("HTTP_X_REQUEST_ID")
    if given is None or not _REQUEST_ID.fullmatch(given) or without_tokens(given, environ) != given:
        return uuid4().hex
    return given


def write_access(request: ApiRequest, status: int, body_bytes: int) -> None:
    """Log one request as one line."""
    if log.isEnabledFor(logging.INFO):
        milliseconds = (perf_counter() - request.came_at) * 1000
        log.info(
            "%s %s %s %d %d bytes %.1f ms", request.request_id, quote(cut(request.verb, LONGEST_VERB)),
            _target(request), status, body_bytes, milliseconds,
        )  # fmt: skip


def _target(request: ApiRequest) -> str:
    target = request.env.get("SCRIPT_NAME", "") + request.env["PATH_INFO"]
    query = request.env.get("QUERY_STRING", "") if request.has_good_query else ""
    target = cut(without_tokens(f"{target}?{query}" if query else target, request.env), LONGEST_TARGET)
    return quote(target, safe="/?=&%+,:[]", encoding="latin-1", errors="replace")


def cut(text: str, longest: int) -> str:
    """Return the text, if too long its beginning and its length."""
    return text if len(text) <= longest else f"{text[:longest]}[{len(text)} characters]"


def without_tokens(text: str, environ: Mapping[str, Any]) -> str:
    """Return the text without the words of the caller's ``Authorization`` header and without our own tokens."""
    for word in environ.get("HTTP_AUTHORIZATION", "").split():
        if len(word) > _TOO_SHORT_TO_STRIKE:
            text = text.replace(word, "[struck out]")
    return _TOKEN.sub("[struck out]", text)


def write_defect(request: ApiRequest, error: BaseException) -> None:
    """Log the end of a defect's traceback, without tokens."""
    text = without_tokens("".join(traceback.format_exception(error)), request.env)
    log.error("%s failed\n%s", request.request_id, text[-LONGEST_TRACEBACK:])

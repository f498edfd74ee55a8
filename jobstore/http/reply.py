"""Response bodies: the size limit, ETag and 304, gzip, and the links between pages."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import falcon
import orjson

from jobstore.language.errors import ResponseTooLarge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobstore.http.request import ApiRequest

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
COMPRESS_FROM_BYTES: Final = 1024
"""A smaller body fits in one packet, compressed or not."""
LONGEST_LINK: Final = 4000
"""Proxies refuse long headers (nginx: above 4 or 8 KB in total), and the body's ``pagination`` has the same facts."""

_GZIP_LEVEL: Final = 1
"""A page of 50 (20 KB) shrinks to a seventh in 30 us; level 6 takes six times as long to save another tenth."""
_PAGINATION_BYTES: Final = 250
"""Upper limit for the size of a page without its rows."""


def send(request: ApiRequest, response: falcon.Response, body: bytes, name: str | None = None) -> None:
    """Send a body with 200, or 304 if the caller has it already; gzipped if the caller accepts that.

    The ETag is strong, so the gzip form has a different one (RFC 9110, section 8.8.3).

    Args:
        request: the request to answer.
        response: the response to fill in.
        body: the uncompressed body.
        name: replaces the body's hash in the ETag, for a body with parts that do not count as a change.
    """
    compressed = len(body) >= COMPRESS_FROM_BYTES and wants_gzip(request.env.get("HTTP_ACCEPT_ENCODING", ""))
    tag = entity_tag(body, compressed=compressed, name=name)
    response.set_header("ETag", tag)
    known = request.env.get("HTTP_IF_NONE_MATCH")
    if known is not None and is_known(tag, known):
        response.status = falcon.HTTP_304
        return
    if compressed:
        body = zlib.compress(body, _GZIP_LEVEL, wbits=31)
        response.set_header("Content-Encoding", "gzip")
    response.data = body


def entity_tag(body: bytes, *, compressed: bool, name: str | None = None) -> str:
    """Return the strong ETag of a body: its hash or `name`, with a suffix for the gzip form."""
    name = name or hashlib.sha256(body).hexdigest()[:32]
    return f'"{name}-gzip"' if compressed else f'"{name}"'


def is_known(tag: str, if_none_match: str) -> bool:
    """Whether an ``If-None-Match`` header lists the tag, by weak comparison (RFC 9110, section 13.1.2).

    >>> is_known('"a"', 'W/"b", W/"a"'), is_known('"a"', "*"), is_known('"a"', "a")
    (True, True, False)
    """
    if if_none_match.strip() == "*":
        return True
    return any(each.strip().removeprefix("W/") == tag for each in if_none_match.split(","))


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an ``Accept-Encoding`` ranks gzip at least as high as no encoding, and above 0.

    >>> wants_gzip("gzip, deflate, br"), wants_gzip("gzip;q=0"), wants_gzip("*"), wants_gzip("")
    (True, False, True, False)
    """
    ranks = dict(_rank(each) for each in accept_encoding.lower().split(",") if each.strip())
    rank = ranks.get("gzip", ranks.get("x-gzip", ranks.get("*", 0.0)))
    return rank > 0 and rank >= ranks.get("identity", 0.0)


def _rank(item: str) -> tuple[str, float]:
    coding, _, parameter = item.partition(";")
    name, _, value = parameter.partition("=")
    try:
        rank = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        rank = 0.0
    return coding.strip(), rank


# The size limit ------------------------------------------------------------------------------------


def encoded(document: Any, bound: int) -> bytes:
    """Return a document as JSON in UTF-8.

    Raises:
        ResponseTooLarge: it has more than `bound` bytes; for a page, the message suggests a smaller ``limit``.
    """
    body = orjson.dumps(document)
    if len(body) > bound:
        raise _too_large(document, len(body), bound)
    return body


def _too_large(document: dict[str, Any], size: int, bound: int) -> ResponseTooLarge:
    rows = document.get("data", ())
    widest = max((len(orjson.dumps(row)) for row in rows), default=size)
    what = "page" if rows else "document"
    limit = _power_of_ten(max(0, bound - _PAGINATION_BYTES) // (widest + 1))
    remedy = f"Use limit={limit} or less" if limit else "A single record is too large; read it from the file"
    return ResponseTooLarge(f"The {what} would be {_megabytes(size)}; the bound is {_megabytes(bound)}. {remedy}")


def _power_of_ten(number: int) -> int:
    """Round down to a power of ten; 0 stays 0. Rounding leaves room for other pages, whose rows may be wider."""
    return 10 ** (len(str(number)) - 1) if number else 0


def _megabytes(size: int) -> str:
    for unit, name in ((1024 * 1024, "MB"), (1024, "KB")):
        if size >= unit:
            return f"{-(-size // unit)} {name}"
    return f"{size} bytes"


# Links between pages -------------------------------------------------------------------------------


def links(request: ApiRequest, pairs: Sequence[tuple[str, str]], page: dict[str, Any], offset: int) -> str | None:
    """Return the ``Link`` header of a page (RFC 8288); ``None`` if it is the only page or the header is too long.

    ``prev`` of a page past the end is the last page that has rows.
    """
    pagination = page["pagination"]
    limit, total = pagination["page_size"], pagination["total"]
    targets = _targets(limit, offset, total, has_next=pagination["has_next"])
    if not targets:
        return None
    path = quoted(request.env.get("SCRIPT_NAME", "") + request.env["PATH_INFO"])
    kept = [(name, value) for name, value in pairs if name not in {"limit", "offset"}]
    query = f"{urlencode(kept, quote_via=quote)}&" if kept else ""
    header = ", ".join(f'<{path}?{query}limit={limit}&offset={start}>; rel="{name}"' for name, start in targets)
    return header if len(header) <= LONGEST_LINK else None


def quoted(path: str) -> str:
    """Return a path percent-encoded for a link; WSGI passes it decoded as latin-1."""
    return quote(path, encoding="latin-1")


def _targets(limit: int, offset: int, total: int, *, has_next: bool) -> list[tuple[str, int]]:
    last = max(total - 1, 0) // limit * limit
    targets = [("next", offset + limit)] if has_next else []
    if offset:
        targets.append(("prev", max(0, min(offset - limit, last))))
    if targets:
        targets += [("first", 0), ("last", last)]
    return targets

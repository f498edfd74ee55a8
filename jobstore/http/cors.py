"""Cross-origin access for the origins the operator names: falcon's CORS middleware with its arguments checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import falcon

from jobstore.language.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Collection

    from jobstore.http.request import ApiRequest

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+", re.ASCII)
_EXPOSED: Final = ("ETag", "Link", "Retry-After", "WWW-Authenticate", "X-Request-Id")


class Origins(falcon.CORSMiddleware[Any, Any]):
    """The origins whose pages may read the API. No cookies are allowed: a page must send the token itself."""

    def __init__(self, origins: Collection[str]) -> None:
        """Raise `InvalidParameter` for an origin that no browser would send; ``*`` allows every origin."""
        if isinstance(origins, str):
            raise InvalidParameter('cors_origins must be a collection such as ["https://jobs.example.com"]')
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise InvalidParameter(f"cors_origins: {wrong[0]} is not an origin such as https://jobs.example.com")
        super().__init__("*" if "*" in origins else origins, _EXPOSED)

    def is_preflight(self, request: ApiRequest) -> bool:
        """Whether this is the preflight of an allowed origin; browsers send it without a token."""
        origin = request.env.get("HTTP_ORIGIN")
        named = origin is not None and (self.allow_origins == "*" or origin in self.allow_origins)
        return named and request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.env

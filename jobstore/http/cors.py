"""Other origins, where the operator names them: falcon's own middleware, behind a check of what was named."""

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
    """The origins whose pages may read the API. Credentials are never sent along: a page names its token itself."""

    def __init__(self, origins: Collection[str]) -> None:
        """Raise `InvalidParameter` for what no browser would send; ``*`` is every origin."""
        if isinstance(origins, str):
            raise InvalidParameter('cors_origins must be a collection such as ["https://jobs.example.com"]')
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise InvalidParameter(f"cors_origins: {wrong[0]} is not an origin such as https://jobs.example.com")
        super().__init__("*" if "*" in origins else origins, _EXPOSED)

    def is_preflight(self, request: ApiRequest) -> bool:
        """Whether a browser asks before its request, for a page that may read: that comes without a token."""
        origin = request.env.get("HTTP_ORIGIN")
        named = origin is not None and (self.allow_origins == "*" or origin in self.allow_origins)
        return named and request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.env

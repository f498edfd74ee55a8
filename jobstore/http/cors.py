"""Other origins, where the operator names them; without that, no answer has a CORS header."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import falcon

from jobstore.language.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Collection

    from jobstore.http.request import ApiRequest

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+", re.ASCII)
_MAX_AGE_SECONDS: Final = "600"
_EXPOSED: Final = "ETag, Link, Retry-After, WWW-Authenticate, X-Request-Id"


class Origins:
    """The origins whose pages may read the API. Credentials are never sent along: a page names its token itself."""

    def __init__(self, origins: Collection[str]) -> None:
        """Raises `InvalidParameter` for what no browser would send; ``*`` is every origin."""
        if isinstance(origins, str):
            raise InvalidParameter('cors_origins must be a collection such as ["https://jobs.example.com"]')
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise InvalidParameter(f"cors_origins: {wrong[0]} is not an origin such as https://jobs.example.com")
        self._origins = frozenset(origins)

    def admit(self, request: ApiRequest, response: falcon.Response) -> bool:
        """Mark an answer as readable by the page that asked; whether its origin is among ours."""
        origin = request.env.get("HTTP_ORIGIN")
        if origin is None or not ("*" in self._origins or origin in self._origins):
            return False
        response.set_header("Access-Control-Allow-Origin", "*" if "*" in self._origins else origin)
        response.set_header("Access-Control-Expose-Headers", _EXPOSED)
        return True

    def answer_preflight(self, request: ApiRequest, response: falcon.Response) -> bool:
        """Answer a browser's question before its request; it comes without a token, and the answer tells nothing."""
        asked = request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.env
        if not asked or not self.admit(request, response):
            return False
        response.status = falcon.HTTP_204
        response.set_header("Access-Control-Allow-Methods", "GET, HEAD")
        response.set_header("Access-Control-Allow-Headers", "Authorization, If-None-Match, X-Request-Id")
        response.set_header("Access-Control-Max-Age", _MAX_AGE_SECONDS)
        return True

"""Signing in to the page: a token once, then a cookie that is no token and ends with it.

The cookie holds a value derived from the token, and the server keeps only the digest of that value. So the cookie
cannot be used for the API, cannot be made from the token file, any worker process can check one, and it is
refused from the moment at which its token expires or is revoked.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from jobstore.http.tokens import LONGEST_HEADER, READ_JOBS, TokenFile, TokenTable, cookie_value
from jobstore.language.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping

COOKIE: Final = "jobstore_session"
MAX_AGE_SECONDS: Final = 30 * 86_400
LONGEST_FORM: Final = 16 * 1024
_FREE_TRIES: Final = 5
_LONGEST_WAIT_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000


def cookies(environ: Mapping[str, Any]) -> dict[str, str]:
    """The cookies of a request; of two with one name the first, which a browser takes from the longer path.

    Not `http.cookies`, which drops them all if one of another program on this host has a brace or a blank in it.
    """
    pairs = (each.strip().partition("=") for each in environ.get("HTTP_COOKIE", "").split(";"))
    return {name: value for name, _, value in reversed(list(pairs))}


@dataclass(frozen=True)
class Outcome:
    """What became of a try to sign in: the cookie, or the problem; seconds until the next try counts."""

    cookie: str | None = None
    problem: str | None = None
    wait: float = 0.0


class Sessions:
    """Checks cookies and makes them.

    Attributes:
        can_sign_in: whether there are tokens to sign in with; not with open access, and not where the
            application that mounts the page lets readers in by its own means.
    """

    def __init__(self, authenticate: object) -> None:
        self._tokens = authenticate if isinstance(authenticate, TokenTable | TokenFile) else None
        self.can_sign_in = self._tokens is not None
        self._throttle = Throttle()

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Whether the cookie lets its bearer read.

        Raises:
            Forbidden: its token lacks the permission.
        """
        value = cookies(environ).get(COOKIE) if self._tokens else None
        permissions = self._tokens.of_cookie(value) if value and self._tokens else None
        if permissions is not None and READ_JOBS not in permissions:
            raise Forbidden(f"The token lacks the permission {READ_JOBS}")
        return permissions is not None

    def sign_in(self, environ: Mapping[str, Any], token: str) -> Outcome:
        """The cookie for a good token, or what is wrong with it."""
        wait = self._throttle.wait(environ)
        if wait > 0:
            return Outcome(problem="Too many wrong tokens came from here. Wait a minute, then try again.", wait=wait)
        token = token.strip()
        permissions = self._tokens.permissions(token) if self._tokens and 0 < len(token) <= LONGEST_HEADER else None
        if permissions is None:
            self._throttle.count(environ)
            return Outcome(problem="This token is not valid: it is unknown, expired or revoked.")
        if READ_JOBS not in permissions:
            return Outcome(problem="This token lacks the permission read:jobs.")
        value = cookie_value(token)
        if self._tokens is None or self._tokens.of_cookie(value) is None:
            return Outcome(problem="This token comes from an older version and is not valid here. Create a new one.")
        return Outcome(_cookie(environ, value, MAX_AGE_SECONDS))

    @staticmethod
    def sign_out(environ: Mapping[str, Any]) -> str:
        """The cookie that removes the cookie."""
        return _cookie(environ, "", 0)


def _cookie(environ: Mapping[str, Any], value: str, max_age: int) -> str:
    """Without a path, it belongs to the folder of the address that set it: the page, under whatever prefix."""
    secure = "; Secure" if is_tls(environ) else ""
    return f"{COOKIE}={value}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"


def is_tls(environ: Mapping[str, Any]) -> bool:
    """Whether the reader came by https, as far as this server or the proxy before it says."""
    forwarded: str = environ.get("HTTP_X_FORWARDED_PROTO", "")
    return environ["wsgi.url_scheme"] == "https" or forwarded.partition(",")[0].strip().lower() == "https"


def comes_from_here(environ: Mapping[str, Any]) -> bool:
    """Whether a form was sent by a page of this server, by what the browser says; no browser says nothing."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site == "same-origin")
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urlsplit(origin).netloc == environ.get("HTTP_HOST")


def form(environ: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a form; none where it is no form or too long."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if 0 <= length <= LONGEST_FORM else b""
        return dict(parse_qsl(body.decode("ascii")))
    except ValueError:
        return {}


class Throttle:
    """Slows down guesses: after a few wrong tokens, each further one doubles the time until the next is checked."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[int, float]] = {}

    def wait(self, environ: Mapping[str, Any]) -> float:
        """The seconds for which tokens from this address are not looked at."""
        count, at = self._wrong.get(environ.get("REMOTE_ADDR", ""), (0, 0.0))
        return max(0.0, at + _pause(count) - self._clock()) if count >= _FREE_TRIES else 0.0

    def count(self, environ: Mapping[str, Any]) -> None:
        """A wrong token came from this address."""
        address, now = environ.get("REMOTE_ADDR", ""), self._clock()
        with self._lock:
            count, at = self._wrong.pop(address, (0, now))
            if now - at > 2 * _LONGEST_WAIT_SECONDS:
                count = 0
            self._wrong[address] = (count + 1, now)  # at the end: the front is the longest quiet
            if len(self._wrong) > _MOST_ADDRESSES:
                del self._wrong[next(iter(self._wrong))]


def _pause(count: int) -> float:
    return min(_LONGEST_WAIT_SECONDS, 2.0 ** min(count - _FREE_TRIES, 10))

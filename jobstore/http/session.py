"""Signing in to the web page: the reader enters a token once and gets a cookie derived from it.

The server keeps only the digest of the cookie's value. So the cookie does not work as an API token, nobody can forge
one from the token file, any worker process can check one, and it is refused as soon as its token expires or is revoked.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from jobstore.http.hosts import is_loopback
from jobstore.http.tokens import LONGEST_HEADER, READ_JOBS, TokenTable, cookie_value
from jobstore.language.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping

_COOKIE: Final = "jobstore_session"
MAX_AGE_SECONDS: Final = 30 * 86_400
LONGEST_FORM: Final = 16 * 1024
_FREE_TRIES: Final = 5
_LONGEST_WAIT_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
_LONGEST_ADDRESS: Final = 64


def cookies(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the cookies of a request. Of two with the same name the first counts: it has the more specific path.

    `http.cookies` would drop all of them if another program on this host set one with a brace or a space.
    """
    pairs = (each.strip().partition("=") for each in environ.get("HTTP_COOKIE", "").split(";"))
    return {name: value for name, _, value in reversed(list(pairs))}


@dataclass(frozen=True)
class Outcome:
    """The result of a sign-in: the cookie or the problem, and the seconds until the next attempt is allowed."""

    cookie: str | None = None
    problem: str | None = None
    wait: float = 0.0


class Sessions:
    """Creates and checks sign-in cookies.

    Attributes:
        can_sign_in: whether there are tokens to sign in with. There are none with open access, or if the application
            brings its own `authenticate`.
    """

    def __init__(self, authenticate: object) -> None:
        self._tokens = authenticate if isinstance(authenticate, TokenTable) else None
        self.can_sign_in = self._tokens is not None
        self._throttle = Throttle()

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request has a valid cookie; raise `Forbidden` if the cookie's token lacks the permission."""
        value = cookies(environ).get(_cookie_name(environ)) if self._tokens else None
        permissions = self._tokens.of_cookie(value) if value and self._tokens else None
        if permissions is not None and READ_JOBS not in permissions:
            raise Forbidden(f"The token lacks the permission {READ_JOBS}")
        return permissions is not None

    def sign_in(self, environ: Mapping[str, Any], token: str) -> Outcome:
        """Check a token: return a cookie for it, or the problem."""
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
        """Return the ``Set-Cookie`` value that deletes the cookie."""
        return _cookie(environ, "", 0)


def _cookie_name(environ: Mapping[str, Any]) -> str:
    """The cookie's name; it ends in the port that the reader's address names, if any.

    Browsers send a host's cookies to all of its ports, so of two servers each would sign the other's reader out.
    """
    port = environ.get("HTTP_HOST", "").rpartition(":")[2]
    return f"{_COOKIE}_{port}" if re.fullmatch("[0-9]{1,5}", port) else _COOKIE


def _cookie(environ: Mapping[str, Any], value: str, max_age: int) -> str:
    # Without a Path attribute, browsers use the folder of the current address, which is the page under any prefix.
    secure = "; Secure" if is_tls(environ) else ""
    return f"{_cookie_name(environ)}={value}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"


def is_tls(environ: Mapping[str, Any]) -> bool:
    """Whether the reader uses https, according to this server or a proxy in front of it."""
    forwarded: str = environ.get("HTTP_X_FORWARDED_PROTO", "")
    return environ["wsgi.url_scheme"] == "https" or forwarded.partition(",")[0].strip().lower() == "https"


def reader_address(environ: Mapping[str, Any]) -> str:
    """Return where the request came from: behind a proxy on this machine, what that proxy says last.

    Other machines are not believed, nor what a reader wrote into the header before the proxy added its own word.

    >>> reader_address({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "made up, 192.0.2.7"})
    '192.0.2.7'
    >>> reader_address({"REMOTE_ADDR": "192.0.2.9", "HTTP_X_FORWARDED_FOR": "made up"})
    '192.0.2.9'
    """
    address: str = environ.get("REMOTE_ADDR") or ""
    forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return forwarded[:_LONGEST_ADDRESS] if forwarded and is_loopback(address) else address


def comes_from_here(environ: Mapping[str, Any]) -> bool:
    """Whether a page of this server sent the form. A request with neither header does not come from a browser."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site == "same-origin")
    origin = environ.get("HTTP_ORIGIN")
    host = environ.get("HTTP_HOST", "")
    return origin is None or origin in {f"http://{host}", f"https://{host}"}


def form(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form; none if it is malformed or too long."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if 0 <= length <= LONGEST_FORM else b""
        return dict(parse_qsl(body.decode("ascii")))
    except ValueError:
        return {}


class Throttle:
    """Slows down guessing: after its fifth wrong token an address must wait 1 s, after the sixth 2 s, up to 60 s."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[int, float]] = {}

    def wait(self, environ: Mapping[str, Any]) -> float:
        """Return how many seconds this address must wait before its next token is checked."""
        count, at = self._wrong.get(reader_address(environ), (0, 0.0))
        return max(0.0, at + _pause(count) - self._clock()) if count >= _FREE_TRIES else 0.0

    def count(self, environ: Mapping[str, Any]) -> None:
        """Count a wrong token from this address."""
        address, now = reader_address(environ), self._clock()
        with self._lock:
            count, at = self._wrong.pop(address, (0, now))
            if now - at > 2 * _LONGEST_WAIT_SECONDS:
                count = 0
            self._wrong[address] = (count + 1, now)  # re-inserted, so the first entry is the oldest
            if len(self._wrong) > _MOST_ADDRESSES:
                del self._wrong[next(iter(self._wrong))]


def _pause(count: int) -> float:
    return min(_LONGEST_WAIT_SECONDS, 2.0 ** min(count - _FREE_TRIES, 10))

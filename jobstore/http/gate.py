"""Authentication. It runs before routing, so that a caller without a token cannot find out which paths exist."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from jobstore.http.routes import OPEN_PATHS, READING
from jobstore.http.tokens import READ_JOBS, table
from jobstore.language.errors import Forbidden, InternalError, InvalidParameter, Unauthorized

Environ = dict[str, Any]
Authenticate = Callable[[Environ], Collection[str] | None]

_REALM: Final = 'Bearer realm="jobstore"'
_WITHOUT_PERMISSION: Final = f'{_REALM}, error="insufficient_scope", scope="{READ_JOBS}"'
_BAD_TOKEN: Final = f'{_REALM}, error="invalid_token"'


class Gate:
    """Lets a request pass, or raises `Unauthorized` or `Forbidden`."""

    def __init__(self, authenticate: Authenticate | None) -> None:
        """`authenticate` is ``None`` if no token is needed."""
        self._authenticate = authenticate

    def check(self, environ: Environ) -> None:
        """Return if the caller may read.

        Raises:
            Unauthorized: no token, or one that is malformed, unknown or expired.
            Forbidden: the token lacks the permission.
            InternalError: `authenticate` failed; its own error is the cause.
        """
        if self._authenticate is None:
            return
        permissions = _permissions(self._authenticate, environ)
        if permissions is None:
            raise Unauthorized("The bearer token is not valid" if _came(environ) else "A bearer token is required")
        if READ_JOBS not in permissions:
            raise Forbidden(f"The token lacks the permission {READ_JOBS}")


def _permissions(authenticate: Authenticate, environ: Environ) -> Collection[str] | None:
    try:
        permissions = authenticate(environ)
    except Exception as error:
        raise InternalError("authenticate failed") from error
    if permissions is not None and (isinstance(permissions, str) or not isinstance(permissions, Collection)):
        raise InternalError("authenticate must return a set of permissions or None")
    return permissions


def is_open(environ: Environ) -> bool:
    """Whether the request reads one of the paths that never need a token."""
    return environ["PATH_INFO"] in OPEN_PATHS and environ["REQUEST_METHOD"] in READING


def _came(environ: Environ) -> bool:
    """Whether the request has a bearer token, valid or not."""
    scheme: str = environ.get("HTTP_AUTHORIZATION", "").partition(" ")[0]
    return scheme.lower() == "bearer"


def challenge(error: Unauthorized | Forbidden, environ: Environ) -> str:
    """Return the ``WWW-Authenticate`` header. Without a token it has no error code (RFC 6750, section 3)."""
    if isinstance(error, Forbidden):
        return _WITHOUT_PERMISSION
    return _BAD_TOKEN if _came(environ) else _REALM


def authenticator(tokens: object, authenticate: Authenticate | None, open_access: object) -> Authenticate | None:
    """Return the authenticator for the arguments of `create_app`, ``None`` for open access; check the arguments."""
    if not isinstance(open_access, bool):
        raise InvalidParameter("open_access must be True or False")
    if [tokens is not None, authenticate is not None, open_access].count(True) != 1:
        raise InvalidParameter("give exactly one of tokens=, authenticate= and open_access=True")
    if tokens is not None:
        return table(tokens)  # type: ignore[arg-type]  # `table` checks it
    if authenticate is not None and not callable(authenticate):
        raise InvalidParameter("authenticate must be a function of the WSGI environ that returns permissions or None")
    return authenticate

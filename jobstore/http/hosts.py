"""Which names the server goes by.

A web page can point a name of its own at this machine (DNS rebinding), and the browser then lets it read what is
served here as if it were its own. What gives it away is the ``Host`` it sends. An address is no such name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from collections.abc import Collection

ANY: Final = "*"
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}", re.ASCII)
_HEADER = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::[0-9]*)?", re.ASCII)

_OWNERLESS = re.compile(r"[a-z0-9_-]+|[a-z0-9_.-]+\.(?:localhost|test)", re.ASCII)
"""Names that no stranger can register: of one word (a machine's own, or a test's), and those that RFC 6761 reserves."""


class WrongHost(Exception):
    """The request was sent to a name that this server does not go by."""


class Hosts:
    """The names that a request may be sent to, beside addresses and ``localhost``."""

    def __init__(self, names: Collection[str] | None) -> None:
        """``*`` is every name, None the names that cannot be registered.

        Raises:
            InvalidParameter: a name is no host name.
        """
        self._takes_ownerless = names is None
        names = () if names is None else names
        if isinstance(names, str):
            raise InvalidParameter('host_names must be a collection such as ["jobs.example.com"]')
        lowered = [name.lower().rstrip(".") if isinstance(name, str) else "" for name in names]
        for name, given in zip(lowered, names, strict=True):
            if name != ANY and not is_host_name(name):
                raise InvalidParameter(
                    f"host_names: {shown(given)} is no name such as jobs.example.com, without scheme and port"
                )
        self._names = frozenset({"localhost", *lowered})

    def check(self, environ: dict[str, Any]) -> None:
        """Return if the request names this server; without a ``Host``, no browser sent it.

        Raises:
            WrongHost: it names another.
        """
        header: str | None = environ.get("HTTP_HOST")
        if header is None or ANY in self._names:
            return
        match = _HEADER.fullmatch(header.lower())
        name = match[1].rstrip(".") if match else ""
        is_ownerless = self._takes_ownerless and _OWNERLESS.fullmatch(name)
        if not (name in self._names or is_ownerless or _is_address(name.strip("[]"))):
            raise WrongHost(header)


def is_host_name(name: str) -> bool:
    """Whether it is a name or an address that a ``Host`` may hold, in lower case."""
    return _is_address(name) or _NAME.fullmatch(name.lower()) is not None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> [is_loopback(host) for host in ("localhost", "127.8.9.1", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

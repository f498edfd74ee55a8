"""The host names the server answers to, as a defence against DNS rebinding.

A hostile web page can point its own domain at this machine; the browser then lets the page read this server's answers
as if they were its own site's. The ``Host`` header still holds the page's domain, so foreign names are refused. IP
addresses are accepted: they involve no DNS.
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
"""Names that nobody can register: single words, such as a machine's own name, and names reserved by RFC 6761."""


class WrongHost(Exception):
    """The request was sent to a host name that this server does not answer to."""


class Hosts:
    """The accepted host names, beside IP addresses and ``localhost``."""

    def __init__(self, names: Collection[str] | None) -> None:
        """Check the names. ``*`` accepts every name, None only names that nobody can register."""
        self._takes_ownerless = names is None
        names = () if names is None else names
        if isinstance(names, str):
            raise InvalidParameter('host_names must be a collection such as ["jobs.example.com"]')
        lowered = [name.lower().rstrip(".") if isinstance(name, str) else "" for name in names]
        for name, given in zip(lowered, names, strict=True):
            if name != ANY and not is_host_name(name):
                raise InvalidParameter(
                    f"host_names: {shown(given)} is not a host name; give one without scheme and port, such as "
                    "jobs.example.com"
                )
        self._names = frozenset({"localhost", *lowered})

    def check(self, environ: dict[str, Any]) -> None:
        """Raise `WrongHost` for a foreign ``Host``. A request without ``Host`` is accepted: no browser sends that."""
        header: str | None = environ.get("HTTP_HOST")
        if header is None or ANY in self._names:
            return
        match = _HEADER.fullmatch(header.lower())
        name = match[1].rstrip(".") if match else ""
        is_ownerless = self._takes_ownerless and _OWNERLESS.fullmatch(name)
        if not (name in self._names or is_ownerless or _is_address(name.strip("[]"))):
            raise WrongHost(header)


def is_host_name(name: str) -> bool:
    """Whether `name` is a host name or an IP address, without a port."""
    return _is_address(name) or _NAME.fullmatch(name.lower()) is not None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host.

    >>> [is_loopback(host) for host in ("localhost", "127.8.9.1", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

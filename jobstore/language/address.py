"""Where a store is: the path of a file, or the address of a database on a PostgreSQL server. Pure.

An address may hold a password, which only the driver may see: the text and repr of an `Address` leave it out, so no
message, log, title or page can show it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from jobstore.language.errors import InvalidParameter, shown

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SCHEMES: Final = frozenset({"postgresql", "postgres"})
_CHANGED: Final = re.compile(r"\s*(?:jdbc:)?postgres(?:ql)?:", re.IGNORECASE)
"""An address that went through `Path`, or that Java uses."""
_NAME: Final = re.compile(r"(?:^|[\s'])(\w+)\s*=")
"""A name of libpq's ``NAME=VALUE`` pairs, after spaces or a quoted value."""
_NAMES: Final = frozenset({"dbname", "host", "hostaddr", "password", "port", "service", "sslmode", "user"})
_HOST: Final = re.compile(r"(?:\[[^\[\]@]*\]|[^:\[\]@]*)(?::[0-9]*)?")
_PAIR: Final = re.compile(r"([a-z_]+)=.*", re.DOTALL)
_SECRET: Final = re.compile(r"password|secret|scram")
"""Found in the name of a parameter whose value is secret."""


class Address:
    """A ``postgresql://`` address. Only its text is checked; nothing connects.

    Attributes:
        secret: the whole text, with any password; for the driver, never shown.

    >>> Address("postgres://scheduler:s3cret@db.example:5432/history?sslmode=verify-full&sslpassword=x")
    Address('postgres://scheduler@db.example:5432/history?sslmode=verify-full')
    """

    __slots__ = ("_public", "secret")

    def __init__(self, text: str) -> None:
        """Parse the address.

        Raises:
            InvalidParameter: it is malformed; the message repeats no part that could belong to a password.
        """
        self.secret = text
        self._public = _without_password(text)

    def __str__(self) -> str:
        return self._public

    def __repr__(self) -> str:
        return f"Address({self._public!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.secret == other.secret

    def __hash__(self) -> int:
        return hash(self.secret)


Location = Path | Address
Where = str | os.PathLike[str] | Address
"""Where a store is, as callers give it."""


def location_of(given: Where) -> Location:
    """Parse what a caller gave: text that starts with ``postgresql://`` or ``postgres://`` is an address, else a path.

    >>> location_of("data/jobs.db").name
    'jobs.db'

    Raises:
        InvalidParameter: it has another scheme, is a malformed address, or names no file (``:memory:``, ``~/jobs.db``).
    """
    if isinstance(given, Address):
        return given
    text = os.fspath(given)
    if isinstance(text, str):
        scheme = _SCHEME.match(text)
        if scheme is not None:
            return Address(text) if is_address(text) else _refuse(scheme[1])
        if _CHANGED.match(text) or _has_pairs(text):
            raise InvalidParameter(
                "Write the address of a PostgreSQL store as postgresql://USER@HOST:PORT/DATABASE?NAME=VALUE, "
                "and give it as text: a Path changes it. For a file of that name, give its whole path"
            )
        # SQLite's own special names: taken as paths, they would silently make files that are called so.
        if text == ":memory:" or text.startswith("file:"):
            raise InvalidParameter(
                f"A store is a file; give a path (in a test, a temporary one); received {shown(text)}"
            )
        if text.startswith("~/"):
            raise InvalidParameter(f"Only a shell expands ~; give the whole path instead of {shown(text)}")
    return Path(text)


def _has_pairs(text: str) -> bool:
    """Whether a text begins with ``NAME=`` as libpq's pairs do; as a path, messages would show its password."""
    names = [name.lower() for name in _NAME.findall(text)]
    begins = _NAME.match(text.lstrip()) is not None
    return begins and not _NAMES.isdisjoint(names) and (len(names) > 1 or "/" not in text)


def is_address(text: str | None) -> bool:
    """Whether a text has the scheme of a PostgreSQL address."""
    scheme = _SCHEME.match(text or "")
    return scheme is not None and scheme[1].lower() in _SCHEMES


def file_of(given: Where, task: str, instead: str) -> Path:
    """The path of a store that must be a file.

    Raises:
        InvalidParameter: the store is on a server; the message says that `task` needs a file, and what to do `instead`.
    """
    location = location_of(given)
    if isinstance(location, Address):
        raise InvalidParameter(f"{task} works only on a file, but this store is on a PostgreSQL server; {instead}")
    return location


def refuse_address(given: object, name: str) -> None:
    """Refuse a server's address where a file is expected. The message leaves it out: it may hold a password.

    Raises:
        InvalidParameter: it is an address.
    """
    if isinstance(given, Address) or (isinstance(given, str) and is_address(given)):
        raise InvalidParameter(f"{name} must be a file; received the address of a PostgreSQL server")


def _refuse(scheme: str) -> Path:
    if scheme.lower() in {"http", "https"}:
        raise InvalidParameter("A store is a file or a postgresql:// address; for an HTTP server, use jobstore.connect")
    if scheme.lower().partition("+")[0] in _SCHEMES:
        raise InvalidParameter(f"Write the address as postgresql://..., without a driver's name; received {scheme}://")
    raise InvalidParameter(
        f"A store is the path of a file or a postgresql:// address; received {shown(scheme + '://')}"
    )


def _without_password(text: str) -> str:
    scheme, _, rest = text.partition("://")
    main, mark, query = rest.partition("?")
    authority, slash, database = main.partition("/")
    who, at, hosts = authority.rpartition("@")
    pairs = [_PAIR.fullmatch(pair) for pair in query.split("&")] if query else []
    is_whole = "@" not in who + database + query and all(map(_HOST.fullmatch, hosts.split(",")))
    if scheme not in _SCHEMES or not is_whole or None in pairs or not text.isprintable() or " " in text:
        raise InvalidParameter(
            "The address of the PostgreSQL store cannot be read; write it as postgresql://USER@HOST:PORT/DATABASE?NAME="
            "VALUE, in a user or password @ as %40, / as %2F, ? as %3F, : as %3A, a space as %20"
        )
    kept = [pair[0] for pair in pairs if pair and not _SECRET.search(pair[1])]
    user = who.partition(":")[0]
    shown_query = mark * bool(kept) + "&".join(kept)
    return f"{scheme}://{user}{at if user else ''}{hosts}{slash}{database}{shown_query}"

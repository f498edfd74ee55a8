"""Bearer tokens: their syntax, the table that checks them, the token file and the environment variable.

Tokens are compared and stored as SHA-256 digests; the text itself is shown once, by `create`. The file is JSON with
one record for each token: label, permissions, times, digests. It is created with mode 0600 and replaced atomically.
The digest of 32 random bytes reveals nothing, so other accounts may be allowed to read the file; only its owner may
write to it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobstore.http import tokenfile
from jobstore.language.errors import Conflict, InvalidParameter, JobStoreError, NotFound, shown
from jobstore.language.instants import instant_text, instant_us

if TYPE_CHECKING:
    import os

    Clock = Callable[[], datetime]

READ_JOBS = "read:jobs"
"""The permission that the API requires (权限 in the job API)."""
ENVIRONMENT_VARIABLE = "JOBSTORE_TOKENS"
PREFIX = "jst_"
"""Every created token starts with this, so that a scanner for leaked secrets can find it."""
LONGEST_HEADER = 512
LONGEST_LABEL = 100

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_BEARER = re.compile(rf"bearer +({_TOKEN.pattern})", re.ASCII | re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ANYTHING = re.compile(r".+", re.DOTALL)
_PERMISSION = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+", re.ASCII)

_log = logging.getLogger("jobstore.tokens")


# Tokens in requests -------------------------------------------------------------------------------


def bearer_token(header: str) -> str | None:
    """Return the token in an ``Authorization`` header; ``None`` if the header breaks the syntax of RFC 6750.

    >>> bearer_token("bearer abc="), bearer_token("Basic abc="), bearer_token("Bearer a b")
    ('abc=', None, None)
    """
    match = _BEARER.fullmatch(header) if len(header) <= LONGEST_HEADER else None
    return match[1] if match else None


def digest(token: str) -> bytes:
    """Return the SHA-256 digest that is stored and compared instead of the token."""
    return hashlib.sha256(token.encode()).digest()


def cookie_value(token: str) -> str:
    """Return the value of the page's cookie for a token; it does not reveal the token."""
    return hmac.new(token.encode(), b"jobstore page", hashlib.sha256).hexdigest()


# Token records and tables -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token's record in the token file, without the token itself.

    Attributes:
        id: the first eight hexadecimal digits of the digest.
        label: a name for people, unique in the file.
        permissions: what the token allows.
        expires_at: when the token stops being accepted; ``None`` for never.
    """

    id: str
    label: str
    permissions: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    sha256: str = field(repr=False)
    cookie_sha256: str | None = field(default=None, repr=False)

    def expired(self, now: datetime) -> bool:
        """Whether the token has expired at `now`."""
        return self.expires_at is not None and self.expires_at <= now

    def as_json(self) -> dict[str, object]:
        """Return the record as the file stores it."""
        return {
            "id": self.id,
            "label": self.label,
            "permissions": sorted(self.permissions),
            "created_at": instant_text(instant_us(self.created_at)),
            "expires_at": None if self.expires_at is None else instant_text(instant_us(self.expires_at)),
            "sha256": self.sha256,
            "cookie_sha256": self.cookie_sha256,
        }


Entry = tuple[tuple[bytes, bytes], frozenset[str], "datetime | None"]
"""The digests of a token and of its cookie, its permissions, and when it expires."""


class TokenTable:
    """The accepted tokens, as digests, and their permissions; an ``authenticate`` for `jobstore.wsgi.create_app`."""

    __slots__ = ("_clock", "_entries")

    def __init__(self, entries: Iterable[Entry], clock: Clock) -> None:
        self._entries = tuple(entries)
        self._clock = clock

    def __call__(self, environ: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the caller's permissions; ``None`` if the token is missing, malformed, unknown or expired."""
        token = bearer_token(environ.get("HTTP_AUTHORIZATION", ""))
        return None if token is None else self.permissions(token)

    def permissions(self, token: str) -> frozenset[str] | None:
        """Return a token's permissions, or ``None``, in a time that does not depend on the token."""
        return self._find(digest(token), 0)

    def of_cookie(self, value: str) -> frozenset[str] | None:
        """Return the permissions of the token that a cookie was made from, or ``None``."""
        return self._find(digest(value), 1)

    def _find(self, asked: bytes, place: int) -> frozenset[str] | None:
        found, until = None, None
        for digests, permissions, expires_at in self._current():
            if hmac.compare_digest(digests[place], asked):
                found, until = permissions, expires_at
        return None if until is not None and until <= self._clock() else found

    def _current(self) -> tuple[Entry, ...]:
        return self._entries

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._current())}>"


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def table(tokens: Mapping[str, Collection[str]]) -> TokenTable:
    """Return the table for a mapping such as ``{"s3cret": {"read:jobs"}}``; it keeps digests only.

    Raises:
        InvalidParameter: the mapping is empty, or an entry is not valid. The message gives the entry's position and
            never shows the token.
    """
    if not isinstance(tokens, Mapping):
        raise InvalidParameter('tokens must be a mapping such as {"s3cret": {"read:jobs"}}')
    if not tokens:
        raise InvalidParameter("tokens is empty, so every request would be refused; give one, or open_access=True")
    entries: list[Entry] = []
    for position, (given, permissions) in enumerate(tokens.items(), 1):
        token = _checked_token(given, f"tokens: entry {position}")
        allowed = _checked_permissions(permissions, position)
        entries.append(((digest(token), digest(cookie_value(token))), allowed, None))
    return TokenTable(entries, utc_now)


def parse_variable(text: str) -> dict[str, frozenset[str]]:
    """Parse ``JOBSTORE_TOKENS``: comma-separated entries, each ``TOKEN`` or ``TOKEN:PERMISSION+PERMISSION``.

    An entry without permissions has ``read:jobs``. Spaces around an entry are ignored.

    >>> parse_variable("s3cret") == {"s3cret": frozenset({"read:jobs"})}
    True
    >>> sorted(parse_variable("a:read:jobs+read:metrics, b")["a"])
    ['read:jobs', 'read:metrics']

    Raises:
        InvalidParameter: an entry is empty, malformed or repeated. The message gives its position, never the token.
    """
    tokens: dict[str, frozenset[str]] = {}
    for position, entry in enumerate(text.split(","), 1):
        token, colon, permissions = entry.strip().partition(":")
        where = f"{ENVIRONMENT_VARIABLE}: entry {position}"
        if _checked_token(token, where) in tokens:
            raise InvalidParameter(f"{where} repeats an earlier token; give each token once")
        tokens[token] = _checked_permissions(permissions.split("+"), position) if colon else frozenset({READ_JOBS})
    return tokens


def _checked_token(token: object, where: str) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise InvalidParameter(
            f"{where} is not a bearer token; a token consists of A-Z a-z 0-9 - . _ ~ + /, with = allowed at its end"
        )
    if len(token) > LONGEST_HEADER - len("Bearer "):
        raise InvalidParameter(f"{where} is too long; a token has at most {LONGEST_HEADER - len('Bearer ')} characters")
    return token


def _checked_permissions(permissions: object, position: int | None = None) -> frozenset[str]:
    where = "permissions" if position is None else f"The permissions of token {position}"
    if isinstance(permissions, str) or not isinstance(permissions, Collection):
        raise InvalidParameter(f'{where} must be a set such as {{"read:jobs"}}, not one text')
    wrong = next((each for each in permissions if not isinstance(each, str) or not _PERMISSION.fullmatch(each)), None)
    if wrong is not None:
        raise InvalidParameter(f"{where} must each look like read:jobs")
    return frozenset(permissions)


# The token file -----------------------------------------------------------------------------------


def create(
    path: str | os.PathLike[str],
    *,
    label: str,
    permissions: Collection[str] = (READ_JOBS,),
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> str:
    """Create a token, add it to the file (created if missing) and return its text, which is not stored.

    Args:
        path: the token file.
        label: 1 to 100 printable characters, unique in the file.
        permissions: what the token allows; the API requires ``read:jobs``.
        expires_at: an aware datetime later than `now`; ``None`` for never.
        now: the time of creation. Default: the system's clock.

    Raises:
        InvalidParameter: an argument is not valid, or the file is not a token file.
        Conflict: the label is already in use.
        StoreUnreadable: the file cannot be read or written.
    """
    moment = now or utc_now()
    _check_label(label)
    _check_expiry(expires_at, moment)
    token = PREFIX + secrets.token_urlsafe(32)
    sha256, of_cookie = digest(token).hex(), digest(cookie_value(token)).hex()
    record = TokenRecord(sha256[:8], label, _checked_permissions(permissions), moment, expires_at, sha256, of_cookie)
    with tokenfile.locked(path):
        try:
            records = list_(path)
        except NotFound:
            records = []
        if any(known.label == label for known in records):
            raise Conflict(f"A token with the label {shown(label)} already exists; revoke it or choose another label")
        tokenfile.write(path, [known.as_json() for known in [*records, record]])
    return token


def list_(path: str | os.PathLike[str]) -> list[TokenRecord]:
    """Return the records of a token file, oldest first.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: it is not a token file, or other users may write to it or have made it.
        StoreUnreadable: it cannot be read.
    """
    return [_record(entry, f"{path}: token {position}") for position, entry in enumerate(tokenfile.read(path), 1)]


def revoke(path: str | os.PathLike[str], id_or_label: str) -> TokenRecord:
    """Remove a token from the file and return its record. A running server refuses the token from the next request on.

    Raises:
        NotFound: no token has this id or label, or there is no such file.
        InvalidParameter: it is not a token file, or other users may write to it or have made it.
        StoreUnreadable: the file cannot be read or written.
    """
    with tokenfile.locked(path):
        records = list_(path)
        gone = next((each for each in records if each.id == id_or_label), None) or next(
            (each for each in records if each.label == id_or_label), None
        )
        if gone is None:
            raise NotFound(f"No token has the id or label {shown(id_or_label)}")
        tokenfile.write(path, [each.as_json() for each in records if each is not gone])
    return gone


def load(path: str | os.PathLike[str], *, clock: Clock | None = None) -> TokenFile:
    """Return an ``authenticate`` for `jobstore.wsgi.create_app`. Changes to the file apply from the next request on.

    Raises:
        NotFound, InvalidParameter, StoreUnreadable: the file cannot be used now, as for `list_`.
    """
    return TokenFile(path, clock or utc_now)


class TokenFile(TokenTable):
    """The current tokens of a file; see `load`.

    If the file is deleted or damaged while a server runs, every token is refused and the log says why. Accepting the
    tokens read last would not be safe: some may have been revoked since.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        self._path = path
        self._loaded = (tokenfile.signature(path), tuple(_entries_of(path)))
        super().__init__((), clock)

    def _current(self) -> tuple[Entry, ...]:
        signature, known = self._loaded
        current = tokenfile.signature(self._path)
        if current != signature:
            try:
                known = tuple(_entries_of(self._path))
            except JobStoreError as error:
                _log.error("Every token is refused: %s", error)
                known = ()
            self._loaded = (current, known)
        return known


def _entries_of(path: str | os.PathLike[str]) -> Iterator[Entry]:
    for each in list_(path):
        # A token created before the web page existed has no cookie digest; the empty one matches no cookie.
        digests = (bytes.fromhex(each.sha256), bytes.fromhex(each.cookie_sha256 or ""))
        yield digests, each.permissions, each.expires_at


def _check_label(label: str) -> None:
    if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        raise InvalidParameter(f"label must have 1 to {LONGEST_LABEL} printable characters; received {shown(label)}")


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is None:
        return
    if expires_at.utcoffset() is None or expires_at <= now:
        raise InvalidParameter(f"expires_at must be later than now, with a time zone; received {expires_at}")


def _record(entry: Any, where: str) -> TokenRecord:
    """Check one record of the file, which may have been edited by hand."""
    try:
        return TokenRecord(
            id=_text(entry["id"]),
            label=_text(entry["label"]),
            permissions=_checked_permissions(entry["permissions"]),
            created_at=_instant(entry["created_at"]),
            expires_at=None if entry["expires_at"] is None else _instant(entry["expires_at"]),
            sha256=_text(entry["sha256"], _SHA256),
            cookie_sha256=_text(entry["cookie_sha256"], _SHA256) if entry.get("cookie_sha256") else None,
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidParameter(
            f"{where} is not what `jobstore token` writes; restore the file, or delete it and create new tokens"
        ) from None


def _text(value: object, pattern: re.Pattern[str] = _ANYTHING) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise TypeError
    return value


def _instant(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    instant_us(moment)  # raises ValueError without a time zone
    return moment

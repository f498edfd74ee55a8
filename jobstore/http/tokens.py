"""Bearer tokens: their grammar, the table that judges them, the file and the variable that keep them.

A token is compared and kept as its SHA-256 digest; the text itself is shown once, by `create`.
The file is JSON and holds one record for each token: label, permissions, times, digest. It is
written with mode 0600 and replaced in one step. Since a digest of 32 random bytes gives nothing
away, others may be allowed to read the file (a service account, a mounted secret); nobody but its
owner may write to it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
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
"""The permission that the API asks for (the job API's 权限)."""
ENVIRONMENT_VARIABLE = "JOBSTORE_TOKENS"
PREFIX = "jst_"
"""What a token of ours starts with, so that a scanner for leaked secrets can find one."""
LONGEST_HEADER = 512
LONGEST_LABEL = 100

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_BEARER = re.compile(rf"bearer +({_TOKEN.pattern})", re.ASCII | re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ANYTHING = re.compile(r".+", re.DOTALL)
_PERMISSION = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+", re.ASCII)

_log = logging.getLogger("jobstore.tokens")


# What a request carries ---------------------------------------------------------------------------


def bearer_token(header: str) -> str | None:
    """The token in an ``Authorization`` header; ``None`` when it breaks the grammar of RFC 6750.

    >>> bearer_token("bearer abc="), bearer_token("Basic abc="), bearer_token("Bearer a b")
    ('abc=', None, None)
    """
    match = _BEARER.fullmatch(header) if len(header) <= LONGEST_HEADER else None
    return match[1] if match else None


def digest(token: str) -> bytes:
    """What is kept and compared in the place of a token."""
    return hashlib.sha256(token.encode()).digest()


def cookie_value(token: str) -> str:
    """What stands for a token in the cookie of the page: made from it, and no way back."""
    return hmac.new(token.encode(), b"jobstore page", hashlib.sha256).hexdigest()


# What is known of each token ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What the token file knows of one token; the token itself is not in it.

    Attributes:
        id: the first eight hexadecimal digits of the digest.
        label: what people call it, unique in its file.
        permissions: what its bearer may do.
        expires_at: from this moment on it is refused; ``None`` is never.
    """

    id: str
    label: str
    permissions: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    sha256: str = field(repr=False)
    cookie_sha256: str | None = field(default=None, repr=False)

    def expired(self, now: datetime) -> bool:
        """Whether it is refused at this moment."""
        return self.expires_at is not None and self.expires_at <= now

    def as_json(self) -> dict[str, object]:
        """The record as the file keeps it."""
        return {
            "id": self.id,
            "label": self.label,
            "permissions": sorted(self.permissions),
            "created_at": instant_text(instant_us(self.created_at)),
            "expires_at": None if self.expires_at is None else instant_text(instant_us(self.expires_at)),
            "sha256": self.sha256,
            "cookie_sha256": self.cookie_sha256,
        }


Entry = tuple[bytes, bytes, frozenset[str], "datetime | None"]
"""The digests of a token and of its cookie, its permissions, and when it expires."""


class TokenTable:
    """Digests and what their bearers may do; an ``authenticate`` for `jobstore.wsgi.create_app`."""

    __slots__ = ("_clock", "_entries")

    def __init__(self, entries: Iterable[Entry], clock: Clock) -> None:
        self._entries = tuple(entries)
        self._clock = clock

    def __call__(self, environ: Mapping[str, Any]) -> frozenset[str] | None:
        """The permissions of the caller; ``None`` for no, a malformed, an unknown or an expired token."""
        token = bearer_token(environ.get("HTTP_AUTHORIZATION", ""))
        return None if token is None else self.permissions(token)

    def permissions(self, token: str) -> frozenset[str] | None:
        """What the bearer of a token may do; the time it takes does not depend on the token."""
        return self._find(digest(token), [entry[0] for entry in self._entries])

    def of_cookie(self, value: str) -> frozenset[str] | None:
        """What the bearer of a cookie may do: as the token it was made from."""
        return self._find(digest(value), [entry[1] for entry in self._entries])

    def _find(self, asked: bytes, digests: list[bytes]) -> frozenset[str] | None:
        found, until = None, None
        for known, (*_, permissions, expires_at) in zip(digests, self._entries, strict=True):
            if hmac.compare_digest(known, asked):
                found, until = permissions, expires_at
        return None if until is not None and until <= self._clock() else found

    def __repr__(self) -> str:
        return f"<TokenTable of {len(self._entries)}>"


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


def table(tokens: Mapping[str, Collection[str]]) -> TokenTable:
    """The table of a mapping such as ``{"s3cret": {"read:jobs"}}``; the tokens are not kept.

    Raises:
        InvalidParameter: the mapping is empty, or an entry could never be right; the message names the entry by its
            position and never shows the token.
    """
    if not isinstance(tokens, Mapping):
        raise InvalidParameter('tokens must be a mapping such as {"s3cret": {"read:jobs"}}')
    if not tokens:
        raise InvalidParameter("tokens is empty, so every request would be refused; give one, or open_access=True")
    entries: list[Entry] = []
    for position, (given, permissions) in enumerate(tokens.items(), 1):
        token = _checked_token(given, f"tokens: entry {position}")
        allowed = _checked_permissions(permissions, position)
        entries.append((digest(token), digest(cookie_value(token)), allowed, None))
    return TokenTable(entries, utc_now)


def parse_variable(text: str) -> dict[str, frozenset[str]]:
    """The tokens of ``JOBSTORE_TOKENS``: comma separated, each ``TOKEN`` or ``TOKEN:PERMISSION+PERMISSION``.

    A token without permissions has ``read:jobs``. Blanks around an entry do not count.

    >>> parse_variable("s3cret") == {"s3cret": frozenset({"read:jobs"})}
    True
    >>> sorted(parse_variable("a:read:jobs+read:metrics, b")["a"])
    ['read:jobs', 'read:metrics']

    Raises:
        InvalidParameter: an entry is empty, malformed or there twice; the message names it by its position alone.
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
    """Create a token, add it to the file (created if missing) and return its text, which is stored nowhere.

    Args:
        path: the token file.
        label: 1 to 100 printable characters, unique in the file.
        permissions: what its bearer may do; the API asks for ``read:jobs``.
        expires_at: an aware datetime later than now; ``None`` is never.
        now: the time of creation, the system's unless given.

    Raises:
        InvalidParameter: one of these rules is broken, or the file is not a token file.
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
        records = list_(path) if tokenfile.signature(path) else []
        if any(known.label == label for known in records):
            raise Conflict(f"A token with the label {shown(label)} already exists; revoke it or choose another label")
        tokenfile.write(path, [known.as_json() for known in [*records, record]])
    return token


def list_(path: str | os.PathLike[str]) -> list[TokenRecord]:
    """The records of a token file, in the order they were created.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: it is not a token file, or others than its owner may write to it.
        StoreUnreadable: it cannot be read.
    """
    return [_record(entry, f"{path}: token {position}") for position, entry in enumerate(tokenfile.read(path), 1)]


def revoke(path: str | os.PathLike[str], id_or_label: str) -> TokenRecord:
    """Remove one token from the file; a running server refuses it from its next request on.

    Raises:
        NotFound: no token has this id or label.
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
    """An ``authenticate`` for `jobstore.wsgi.create_app` that follows the file: changes apply from the next request.

    Raises:
        NotFound, InvalidParameter, StoreUnreadable: as for `list_`, if the file is not good now.
    """
    return TokenFile(path, clock or utc_now)


class TokenFile:
    """The tokens of a file as it is now; see `load`.

    If the file is deleted or damaged while a server runs, every token is refused and the log says why: the tokens
    read last may include revoked ones.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._loaded = (tokenfile.signature(path), self._read())

    def __call__(self, environ: Mapping[str, Any]) -> frozenset[str] | None:
        """The permissions of the caller, or ``None``."""
        return self._current()(environ)

    def permissions(self, token: str) -> frozenset[str] | None:
        """What the bearer of a token may do."""
        return self._current().permissions(token)

    def of_cookie(self, value: str) -> frozenset[str] | None:
        """What the bearer of a cookie may do."""
        return self._current().of_cookie(value)

    def _current(self) -> TokenTable:
        signature, known = self._loaded
        current = tokenfile.signature(self._path)
        if current != signature:
            known = self._read_again()
            self._loaded = (current, known)
        return known

    def _read(self) -> TokenTable:
        return _table_of(list_(self._path), self._clock)

    def _read_again(self) -> TokenTable:
        try:
            return self._read()
        except JobStoreError as error:
            _log.error("Every token is refused: %s", error)
            return TokenTable((), self._clock)


def _table_of(records: Iterable[TokenRecord], clock: Clock) -> TokenTable:
    # A token without the second digest was made before there was a page; no cookie has an empty digest.
    return TokenTable(
        (
            (bytes.fromhex(each.sha256), bytes.fromhex(each.cookie_sha256 or ""), each.permissions, each.expires_at)
            for each in records
        ),
        clock,
    )


def _check_label(label: str) -> None:
    if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        raise InvalidParameter(f"label must have 1 to {LONGEST_LABEL} printable characters; received {shown(label)}")


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is None:
        return
    if expires_at.utcoffset() is None or expires_at <= now:
        raise InvalidParameter(f"expires_at must be later than now, with a time zone; received {expires_at}")


def _record(entry: Any, where: str) -> TokenRecord:
    """A record of the file, checked: the file may have been edited by hand."""
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

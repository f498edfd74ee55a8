"""The errors a caller can meet, one class for each code.

::

    JobStoreError
    ├── NotFound (LookupError)          NOT_FOUND            404
    ├── InvalidParameter (ValueError)   INVALID_PARAMETER    400
    ├── InvalidSchedule (ValueError)    INVALID_SCHEDULE     400   refused when it is written
    ├── InvalidRecord (ValueError)      INVALID_RECORD       400   refused when it is written
    ├── Conflict                        CONFLICT             409
    ├── Unauthorized                    UNAUTHORIZED         401
    ├── Forbidden                       FORBIDDEN            403
    ├── MethodNotAllowed                METHOD_NOT_ALLOWED   405
    ├── ResponseTooLarge                RESPONSE_TOO_LARGE   413
    ├── InternalError                   INTERNAL             500
    └── StoreError                      (a child names the code)   503
        ├── StoreBusy                   STORE_BUSY
        ├── StoreNotFound               STORE_NOT_FOUND
        ├── NotAStore                   NOT_A_STORE
        ├── StoreCorrupt                STORE_CORRUPT
        ├── StoreFull                   STORE_FULL
        ├── StoreUnreadable             STORE_UNREADABLE
        ├── SchemaTooNew                SCHEMA_TOO_NEW
        └── SchemaTooOld                SCHEMA_TOO_OLD

Every message may be shown to the caller: it says what is wrong, with the rule and the value received (cut at 80
characters), and a remedy if there is one. The message of a `StoreError` names the file, so HTTP shows ``The job store
is unavailable`` instead.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from jobstore.language.characters import escaped

SHOWN_CHARACTERS = 80
SHOWN_BITS = 256
"""Larger integers are not shown: printing one takes quadratic time in its digits."""


def exception_text(error: BaseException, broken: tuple[type[BaseException], ...] = (Exception,)) -> str:
    """Return the type and message of any exception; `broken` is what its own text may raise in turn.

    >>> exception_text(ValueError("no such pair")), exception_text(KeyError("BNC")), exception_text(TimeoutError())
    ('ValueError: no such pair', "KeyError: 'BNC'", 'TimeoutError')
    """
    try:
        message = str(error)
    except broken:
        message = "(its message cannot be shown)"
    name = type(error).__qualname__.rpartition("<locals>.")[2]
    return f"{name}: {message}" if message else name


class JobStoreError(Exception):
    """The base class of every error that this package raises on purpose.

    Its message is one line. Control, bidirectional and zero-width characters that come from a path, a name or a file
    are escaped, so a message is safe on a terminal and in a log.

    Attributes:
        code: a stable code for programs, the same through every interface.
        http_status: the status of the HTTP response.
    """

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500

    def __init__(self, *args: object) -> None:
        super().__init__(*(escaped(value) if isinstance(value, str) else value for value in args))

    @property
    def message(self) -> str:
        """The message for the caller, without the code."""
        return str(self.args[0]) if self.args else self.code

    def __str__(self) -> str:
        return self.message


class NotFound(JobStoreError, LookupError):
    """No job or execution has this name or number."""

    code = "NOT_FOUND"
    http_status = 404


class InvalidParameter(JobStoreError, ValueError):
    """A parameter breaks its rule."""

    code = "INVALID_PARAMETER"
    http_status = 400


class InvalidSchedule(JobStoreError, ValueError):
    """A schedule was refused: it is not valid, or never fires."""

    code = "INVALID_SCHEDULE"
    http_status = 400


class InvalidRecord(JobStoreError, ValueError):
    """A job or an execution was refused because it breaks a rule of the store."""

    code = "INVALID_RECORD"
    http_status = 400


class Conflict(JobStoreError):
    """The call contradicts what the store already holds."""

    code = "CONFLICT"
    http_status = 409


class Unauthorized(JobStoreError):
    """The bearer token is missing or not valid."""

    code = "UNAUTHORIZED"
    http_status = 401


class Forbidden(JobStoreError):
    """The token lacks the permission, or the server does not answer to the host name of the request."""

    code = "FORBIDDEN"
    http_status = 403


class MethodNotAllowed(JobStoreError):
    """The HTTP method would write; this API only reads."""

    code = "METHOD_NOT_ALLOWED"
    http_status = 405


class ResponseTooLarge(JobStoreError):
    """The page exceeds the transport's size limit."""

    code = "RESPONSE_TOO_LARGE"
    http_status = 413


class InternalError(JobStoreError):
    """A bug in jobstore; the message holds a request id and nothing else."""


class StoreError(JobStoreError):
    """The store cannot be used; the subclass says why.

    Attributes:
        may_repeat: nothing was written, and the same transaction may succeed if repeated at once.
    """

    may_repeat = False
    code = "STORE_UNREADABLE"
    http_status = 503


class StoreBusy(StoreError):
    """Another process has been writing for longer than the timeout."""

    code = "STORE_BUSY"


class StoreNotFound(StoreError):
    """There is no file at the path."""

    code = "STORE_NOT_FOUND"


class NotAStore(StoreError):
    """The file is not a job store."""

    code = "NOT_A_STORE"


class StoreCorrupt(StoreError):
    """The file is damaged."""

    code = "STORE_CORRUPT"


class StoreFull(StoreError):
    """The disk is full."""

    code = "STORE_FULL"


class StoreUnreadable(StoreError):
    """The store, or a file or folder it needs, cannot be reached, opened, read or written; the message says why."""

    code = "STORE_UNREADABLE"


class SchemaTooNew(StoreError):
    """A newer jobstore wrote the file."""

    code = "SCHEMA_TOO_NEW"


class SchemaTooOld(StoreError):
    """An older jobstore wrote the file and a recorder has not upgraded it yet."""

    code = "SCHEMA_TOO_OLD"


def shown(value: object) -> str:
    """A value as an error message shows it: printable and at most 80 characters.

    >>> shown("1001")
    "'1001'"
    >>> len(shown("x" * 500)) <= 80
    True
    """
    text = repr(value[:SHOWN_CHARACTERS]) if isinstance(value, str) else _brief_repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _brief_repr(value: object) -> str:
    """The repr of a scalar; only the type of anything that could be large or hostile."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= SHOWN_BITS else "a very large integer"
    if isinstance(value, datetime) and value.tzinfo is None:
        return repr(datetime.isoformat(value, " "))
    return f"a value of type {type(value).__name__}"

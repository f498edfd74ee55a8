"""Validation of values to be written: names, labels, texts, numbers, statuses, instants, JSON. Pure.

Each function takes a value and returns its stored form, or raises `InvalidRecord`. The recorder and the loader share
these functions, so both accept the same values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from jobstore.language.errors import InvalidParameter, InvalidRecord, InvalidSchedule, shown
from jobstore.language.instants import EPOCH, TICK, BadInstant, read_instant
from jobstore.language.models import FINISHED, STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import KeysView

NAME_CHARACTERS: Final = 200
LABEL_CHARACTERS: Final = 512
"""The longest trace id or worker id."""
TEXT_BYTES: Final = 64 * 1024
"""The largest description, error, or JSON value as text."""
DEEPEST: Final = 64
"""The deepest nesting of a JSON value, in levels."""
LARGEST_ID: Final = 2**62
"""The largest job number or execution id; it leaves the file room for the ids that follow."""
LARGEST_SECONDS: Final = 3_155_760_000
"""A hundred years: the longest interval or timeout."""
LARGEST_INSTANCES: Final = 2**31 - 1
LARGEST_DURATION_MS: Final = 4_398_046_511_103
"""139 years: the longest that the counters' sums have room for."""

CUT_MARK: Final = "\n… cut here: an error is kept up to 64 KiB"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_CANONICAL_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_USUAL_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?Z")
_RESERVED_NAMES = frozenset({".", "..", "executions"})
_ENDS = ", ".join(sorted(FINISHED))


def refuse(field: str, rule: str, value: object) -> NoReturn:
    """Raise `InvalidRecord` with the field, its rule and the value received."""
    raise InvalidRecord(f"{field} must be {rule}; received {shown(value)}")


def checked_name(value: object, field: str = "name") -> str:
    """Validate the name of a job and return it unchanged.

    >>> checked_name("sync_klines_1h")
    'sync_klines_1h'

    Raises:
        InvalidRecord: no interface could ask for a job with that name.
    """
    name = checked_words(value, field)
    if name != name.strip() or "/" in name:
        refuse(field, "without '/' and without blanks at its ends", value)
    if name in _RESERVED_NAMES or _DIGITS.fullmatch(name):
        refuse(field, "a name that is not '.', '..', 'executions' or digits alone", value)
    return name


def checked_words(value: object, field: str) -> str:
    """Validate a job's name, type or category: 1 to 200 characters, no control characters."""
    if type(value) is str and value.isascii() and value.isprintable() and 1 <= len(value) <= NAME_CHARACTERS:
        return value  # most values: no search for control characters needed
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_CHARACTERS or _CONTROL.search(value):
        refuse(field, "text of 1 to 200 characters without control characters", value)
    if not is_storable(value):
        refuse(field, "text that can be encoded as UTF-8", value)
    return str.__str__(value)


def checked_label(value: object, field: str) -> str | None:
    """Validate a trace id or worker id: 1 to 512 characters without NUL; None stays None."""
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= LABEL_CHARACTERS or "\0" in value:
        refuse(field, "text of 1 to 512 characters without NUL", value)
    if not is_storable(value):
        refuse(field, "text that can be encoded as UTF-8", value)
    return str.__str__(value)


def checked_text(value: object, field: str) -> str | None:
    """Validate a description or an error: up to 64 KiB of text; None stays None."""
    if value is None:
        return None
    if not isinstance(value, str) or not is_storable(value):
        refuse(field, "text that can be encoded as UTF-8", value)
    if len(value) * 4 > TEXT_BYTES and len(value.encode()) > TEXT_BYTES:
        refuse(field, "at most 64 KiB of text", value)
    return str.__str__(value)


def bounded_error(value: object) -> str | None:
    """An error as a recorder stores it: what UTF-8 cannot encode is escaped, text over 64 KiB is cut and marked."""
    if value is None:
        return None
    if not isinstance(value, str):
        refuse("error", "a text", value)
    raw = value.encode("utf-8", "backslashreplace")
    if len(raw) <= TEXT_BYTES:
        return raw.decode()
    return raw[: TEXT_BYTES - len(CUT_MARK.encode())].decode("utf-8", "ignore") + CUT_MARK


def is_storable(text: str) -> bool:
    """Whether UTF-8 can encode the text: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_integer(value: object, field: str, low: int, high: int) -> int:
    """Validate an `int` from `low` to `high`; a bool is refused."""
    if type(value) is not int or not low <= value <= high:
        refuse(field, f"an integer from {low} to {high}", value)
    return value


def checked_measure(value: object, name: str, most: float) -> float:
    """Validate a setting, an `int` or `float` from 0 to `most`.

    Raises:
        InvalidParameter: it is anything else; NaN and a bool, too.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidParameter(f"{name} must be a number from 0 to {most:,}; received {shown(value)}")
    return value


def checked_flag(value: object, field: str) -> int:
    """A `bool`, as 0 or 1."""
    if not isinstance(value, bool):
        refuse(field, "true or false", value)
    return int(value)


def checked_timeout(value: object) -> int | None:
    """Validate the seconds a run may take; None means no limit."""
    return None if value is None else checked_integer(value, "timeout_seconds", 1, LARGEST_SECONDS)


def checked_instances(value: object) -> int:
    """Validate how many runs of a job may overlap."""
    return checked_integer(value, "max_instances", 1, LARGEST_INSTANCES)


def checked_interval(seconds: object) -> int:
    """Validate an interval of 1 to 3,155,760,000 seconds and return it.

    Raises:
        InvalidSchedule: anything else, bools and floats included.
    """
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 1 <= seconds <= LARGEST_SECONDS:
        return int(seconds)
    raise InvalidSchedule(f"interval_seconds must be an integer from 1 to {LARGEST_SECONDS}; received {shown(seconds)}")


def checked_duration(value: object, lowest: int = 0) -> int | None:
    """Validate the milliseconds a run took; None means not finished."""
    return None if value is None else checked_integer(value, "duration_ms", lowest, LARGEST_DURATION_MS)


def checked_number(value: object, field: str) -> int:
    """A job's number or an execution's id, from an `int` or its decimal text.

    >>> checked_number("12345", "id"), checked_number(7, "number")
    (12345, 7)
    """
    if isinstance(value, str) and _CANONICAL_NUMBER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 1 <= value <= LARGEST_ID:
        refuse(field, "a whole number from 1 to 2^62, as an integer or its digits", value)
    return value


def checked_status(value: object) -> int:
    """The stored code of a status."""
    code = STATUS_CODES.get(value) if isinstance(value, str) else None
    if code is None:
        refuse("status", f"one of {', '.join(STATUS_CODES)}", value)
    return code


def checked_end(value: object) -> int:
    """The stored code of a status that ends a run."""
    if not isinstance(value, str) or value not in FINISHED:
        refuse("status", f"one of {_ENDS}", value)
    return STATUS_CODES[value]


def json_text(value: object, field: str) -> str | None:
    """The JSON text of a value as the file stores it; None stays None.

    >>> json_text({"processed": 500}, "result")
    '{"processed":500}'

    Numbers of other libraries become the integer or float that they equal.

    Raises:
        InvalidRecord: not JSON (NaN, other types, keys that are not text, integers beyond 64 bits, lone
            surrogates), more than 64 KiB, or nested deeper than 64 levels.
    """
    if value is None:
        return None
    try:
        raw = orjson.dumps(value, default=_as_number, option=_AS_JSON)
    except (TypeError, RecursionError) as error:
        raise InvalidRecord(f"{field} must be JSON: {error}; received {shown(value)}") from None
    if len(raw) > TEXT_BYTES:
        raise InvalidRecord(f"{field} must be at most 64 KiB as JSON; it has {len(raw)} bytes")
    text = raw.decode()
    is_nested = len(text) > 2 * DEEPEST and text.count("[") + text.count("{") > DEEPEST
    if is_nested or "null" in text:
        _check_inside(value, field, DEEPEST if is_nested else len(text))
    return text


_AS_JSON: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def _as_number(value: Any) -> float:
    if hasattr(value, "tolist") and isinstance(flag := value.tolist(), bool):
        return flag
    if not is_numpy_time(value):
        if hasattr(value, "__index__"):
            return index(value)
        if hasattr(value, "__float__") and isfinite(value):
            return float(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def is_numpy_time(value: Any) -> bool:
    """Whether it is a date or a duration of numpy, or an array of them: some convert to a number without meaning."""
    return getattr(getattr(value, "dtype", None), "kind", "") in {"m", "M"}


def _check_inside(value: Any, field: str, deepest: int) -> None:
    """Refuse deep nesting, and the numbers that orjson writes as null. Not recursive."""
    level, depth = [value], 0
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            if isinstance(item, Enum):
                below.append(item.value)
            elif isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            elif isinstance(item, float) and not isfinite(item):
                refuse(field, "JSON without NaN and infinity", item)
        if depth > deepest:
            raise InvalidRecord(f"{field} must not be nested deeper than {DEEPEST} levels")
        level = below


def checked_instant(value: object, field: str) -> int:
    """The microseconds of an aware `datetime` or of text, in the grammar that queries use.

    >>> checked_instant("2026-01-15T16:00:00+08:00", "at")
    1768464000000000

    Raises:
        InvalidRecord: it names no instant in the years 1 to 9999.
    """
    try:
        # Text as a dump has it, four times faster: a million documents have three million instants.
        if isinstance(value, str) and _USUAL_INSTANT.fullmatch(value):
            return (datetime.fromisoformat(value) - EPOCH) // TICK
    except ValueError:  # no such day or hour
        pass
    try:
        return read_instant(value)
    except BadInstant as error:
        raise InvalidRecord(f"{field} must be {error.rule}; received {shown(value)}{error.remedy}") from None


def optional_instant(value: object, field: str) -> int | None:
    """The microseconds of an instant, as `checked_instant`; None stays None."""
    return None if value is None else checked_instant(value, field)


def checked_keys(document: object, known: KeysView[str]) -> Mapping[str, Any]:
    """Check the keys of a document and return it unchanged.

    Raises:
        InvalidRecord: it is not a mapping, or has an unknown key.
    """
    if not isinstance(document, Mapping):
        raise InvalidRecord(f"a document must be a JSON object; received {shown(document)}")
    if not document.keys() <= known:
        key = next(key for key in document if key not in known)
        raise InvalidRecord(f"unknown field {shown(key)}{_did_you_mean(key, known)}")
    return document


def _did_you_mean(key: object, known: KeysView[str]) -> str:
    from difflib import get_close_matches  # only for a message

    close = get_close_matches(key[:NAME_CHARACTERS], sorted(known), n=1) if isinstance(key, str) else []
    return f"; did you mean '{close[0]}'?" if close else f"; known fields: {', '.join(known)}"

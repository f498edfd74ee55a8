"""JSON for whatever a run returned: a successful run never fails because of its result.

`result_text` is lenient: it takes whatever a block or a task returned. `Recorder.finish` checks its value with the
strict `jobstore.language.fields.json_text` instead, because there a wrong type is the caller's mistake.

- Numbers of other libraries become integers or floats, by ``__index__`` and ``__float__``. NaN and infinities become
  null at any depth, also as the value of an ``Enum``. An integer beyond 64 bits becomes text.
- Mappings, dataclasses and named tuples become objects; lists, tuples and sets become arrays; dates and times become
  ISO text; bytes become text.
- Anything else becomes its ``str()``, or its type's name if that fails, cut at 1,000 characters.
- A value over 64 KiB (16 KiB when a scheduler is mirrored) becomes ``{"cut": its beginning, "bytes": its size}``; its
  parts beyond 50,000 count as null. One that is nested deeper than 64 levels or contains itself is cut there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from math import isfinite
from typing import Any, Final

import orjson

from jobstore.language.fields import DEEPEST, TEXT_BYTES, is_numpy_time, json_text

TEXT_CHARACTERS: Final = 1_000
"""The longest text of a value without a JSON form, or of the beginning of one that is too large."""
MOST_VALUES: Final = 50_000
"""A value with more parts exceeds 64 KiB anyway; without a limit, one that contains itself often would not end."""
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1


def result_text(value: object, most: int = TEXT_BYTES, *, is_inner: bool = False) -> str | None:
    """The JSON text of any value, cut if it has more than `most` bytes; None stays None.

    With `is_inner`, one level of nesting is left for an object around it.

    >>> result_text({"processed": 500}), result_text({"mean": float("nan"), "seen": {1}})
    ('{"processed":500}', '{"mean":null,"seen":[1]}')
    """
    if value is None:
        return None
    try:
        text = "" if _is_long(value, most) else json_text([value] if is_inner else value, "result") or ""
        text = text[1:-1] if is_inner else text
    except Exception:  # noqa: BLE001 - no JSON, or somebody else's class
        text = ""
    if not text:
        text = orjson.dumps(_Plain().of(value, 2 if is_inner else 1)).decode()
    size = len(text.encode())
    return text if size <= most else orjson.dumps({"cut": text[:TEXT_CHARACTERS], "bytes": size}).decode()


def _is_long(value: object, most: int) -> bool:
    """Whether JSON of the value is too large for certain, so that it is not worth converting whole."""
    return isinstance(value, list | tuple | dict) and len(value) > most


class _Plain:
    """Converts one value to dict, list, str, int, float, bool and None."""

    def __init__(self) -> None:
        self._values = 0

    def of(self, value: Any, depth: int = 1) -> Any:
        self._values += 1
        if value is None or isinstance(value, bool) or self._values > MOST_VALUES:
            return value if isinstance(value, bool) else None
        if isinstance(value, Enum):
            return self.of(value.value, depth)
        if isinstance(value, str | bytes | bytearray):
            return _text(value)
        try:
            # Arrays and scalars of numpy and similar libraries; its dates become text.
            if hasattr(type(value), "tolist") and not is_numpy_time(value):
                made = value.tolist()
                if type(made) is not type(value):
                    return self.of(made, depth)
            number = _number(value)
        except Exception:  # noqa: BLE001 - somebody else's class
            return _shown(value)
        return number if number is not _NO_NUMBER else self._parts(value, depth)

    def _parts(self, value: Any, depth: int) -> Any:
        if isinstance(value, date | time):
            return value.isoformat()
        try:
            pairs, items = _pairs(value), _items(value)
            if (pairs is None and items is None) or depth >= DEEPEST:
                return _shown(value)
            if pairs is not None:
                return {_key(key): self.of(item, depth + 1) for key, item in pairs}
            return [self.of(item, depth + 1) for item in items or ()]
        except Exception:  # noqa: BLE001 - somebody else's class
            return _shown(value)


_NO_NUMBER: Final = object()


def _number(value: Any) -> Any:
    """A number as an integer, a finite float or None (NaN, infinity); `_NO_NUMBER` for anything else."""
    kind = type(value)
    if is_numpy_time(value):
        return _NO_NUMBER
    if hasattr(kind, "__index__"):
        number = value.__index__()
        return number if _SMALLEST <= number <= _LARGEST else _text(_digits(number))
    if hasattr(kind, "__float__"):
        measure = float(value)
        return measure if isfinite(measure) else None
    return _NO_NUMBER


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python refuses to print thousands of digits
        return hex(number)


def _pairs(value: Any) -> list[tuple[object, object]] | None:
    if isinstance(value, Mapping):
        return list(value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=False))
    return None


def _items(value: Any) -> list[object] | None:
    is_series = isinstance(value, list | tuple | set | frozenset) or (is_numpy_time(value) and value.ndim)
    return list(value) if is_series else None


def _key(key: Any) -> str:
    plain = key.value if isinstance(key, Enum) else key
    return _text(plain) if isinstance(plain, str) else _shown(plain)


def _text(value: str | bytes | bytearray) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return bytes(value).decode("utf-8", "backslashreplace")


def _shown(value: object) -> str:
    """The ``str()`` of anything, cut; its type's name if that fails."""
    try:
        text = _text(str(value))
    except Exception:  # noqa: BLE001 - somebody else's class
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= TEXT_CHARACTERS else f"{text[: TEXT_CHARACTERS - 1]}…"

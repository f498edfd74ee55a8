"""What a callable gave or raised, as a store keeps it: always JSON, always bounded, whatever came."""

from __future__ import annotations

import traceback
from typing import Any

import orjson

from jobstore.language.results import result_text

RESULT_BYTES = 16 * 1024
"""Of a result as JSON; a page of a thousand stays sendable."""
ERROR_CHARACTERS = 2000
TRACEBACK_CHARACTERS = 4000
TRACEBACK_FRAMES = 12


def kept_result(value: object) -> Any:
    """A return value as a JSON object, a copy; null stays null.

    An object is kept as it is, any other value as ``{"value": ...}``; `jobstore.language.results` says how what is no
    JSON becomes JSON. What is too large is kept as ``{"cut": "the beginning of it", "bytes": ...}``.

    >>> kept_result({"processed": 500}), kept_result(3), kept_result({1, 1})
    ({'processed': 500}, {'value': 3}, {'value': [1]})
    """
    text = result_text(value, RESULT_BYTES)
    if text is None:
        return None
    kept = orjson.loads(text)
    return kept if isinstance(kept, dict) else {"value": kept}


def error_text(error: BaseException) -> str:
    """The type and the message of an exception, in one text of bounded length.

    >>> error_text(ValueError("no such pair")), error_text(KeyError("BNC")), error_text(TimeoutError())
    ('ValueError: no such pair', "KeyError: 'BNC'", 'TimeoutError')
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - somebody else's exception
        message = "(its message cannot be shown)"
    name = type(error).__qualname__
    return bounded(f"{name}: {message}" if message else name, ERROR_CHARACTERS)


def traceback_result(error: BaseException, *, skipped_frames: int = 0) -> dict[str, str]:
    """The end of an exception's traceback, as the result of a run that failed.

    Args:
        error: what was raised.
        skipped_frames: how many of the outermost frames are the caller's own.
    """
    trace = error.__traceback__
    for _ in range(skipped_frames):
        trace = trace and trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, trace, limit=-TRACEBACK_FRAMES)
    except Exception:  # noqa: BLE001 - somebody else's exception
        lines = [error_text(error)]
    return traceback_text_result("".join(lines))


def traceback_text_result(text: str) -> dict[str, str]:
    """The end of a traceback that is text already."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return {"traceback": text if len(text) <= TRACEBACK_CHARACTERS else f"…{text[1 - TRACEBACK_CHARACTERS :]}"}


def bounded(text: str, characters: int) -> str:
    """The text that can be encoded as UTF-8, cut with a mark where it is too long.

    >>> bounded("abcdef", 4)
    'abc…'
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= characters else f"{text[: characters - 1]}…"

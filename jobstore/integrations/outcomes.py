"""A callable's return value or exception as a store keeps it: always JSON, always limited in size."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import orjson

from jobstore.language.errors import exception_text
from jobstore.language.results import result_text

RESULT_BYTES = 16 * 1024
"""The largest result, as JSON: a page of a thousand executions stays small enough to send."""
ERROR_CHARACTERS = 2000
TRACEBACK_CHARACTERS = 4000
TRACEBACK_FRAMES = 12
_ENDING = (SystemExit, GeneratorExit)
"""What even a text of somebody else's class may raise. The run has ended by then, and its end must be recorded."""


def kept_result(value: object) -> Any:
    """Return a copy of a return value as a JSON object; None stays None.

    An object stays as it is; any other value becomes ``{"value": ...}``. `jobstore.language.results` converts values
    that JSON does not have. A value that is too large becomes ``{"cut": "its beginning", "bytes": ...}``.

    >>> kept_result({"processed": 500}), kept_result(3), kept_result({1, 1})
    ({'processed': 500}, {'value': 3}, {'value': [1]})
    """
    try:
        text = result_text(value, RESULT_BYTES, is_inner=True)
    except _ENDING:
        return {"value": f"<{type(value).__qualname__}>"}
    if text is None:
        return None
    kept = orjson.loads(text)
    return kept if isinstance(kept, dict) else {"value": kept}


def whole_result(value: object) -> Any:
    """Return a copy of a value as JSON, however large."""
    return orjson.loads(result_text(value, sys.maxsize, is_inner=True) or "null")


def error_text(error: BaseException) -> str:
    """Return the type and message of an exception, in at most 2,000 characters."""
    return bounded(exception_text(error, (Exception, *_ENDING)), ERROR_CHARACTERS)


def traceback_result(error: BaseException, *, skipped_frames: int = 0) -> dict[str, str]:
    """Return the end of an exception's traceback, as the result of a failed run.

    Args:
        error: the exception.
        skipped_frames: how many of the outermost frames to leave out, since they are the caller's own.
    """
    trace = error.__traceback__
    for _ in range(skipped_frames):
        trace = trace and trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, trace, limit=-TRACEBACK_FRAMES)
    except (Exception, *_ENDING):  # noqa: BLE001 - a foreign exception may raise in turn
        lines = [error_text(error)]
    return traceback_text_result("".join(lines))


def traceback_text_result(text: str) -> dict[str, str]:
    """Return the end of a formatted traceback, as the result of a failed run."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return {"traceback": text if len(text) <= TRACEBACK_CHARACTERS else f"…{text[1 - TRACEBACK_CHARACTERS :]}"}


def bounded(text: str, characters: int) -> str:
    """Return the text in a form that UTF-8 can encode; if too long, cut to `characters` with ``…`` at its end.

    >>> bounded("abcdef", 4)
    'abc…'
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= characters else f"{text[: characters - 1]}…"

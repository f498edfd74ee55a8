"""The current OpenTelemetry trace."""

from __future__ import annotations

import logging
import sys

_log = logging.getLogger("jobstore")


def current_trace_id() -> str | None:
    """The trace id of the current OpenTelemetry span, 32 hexadecimal digits; None without one.

    OpenTelemetry is not imported for this: a program with spans has already imported it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        trace_id = context.trace_id if context.is_valid else 0
    except Exception:  # noqa: BLE001 - recording goes on, whatever another library does
        _log.debug("the current OpenTelemetry span could not be read", exc_info=True)
        return None
    return f"{trace_id:032x}" if trace_id else None

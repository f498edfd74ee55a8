"""Converts another scheduler's ids to job names and back.

A valid job name stays as it is. In any other id, the parts that a job name may not contain are percent-encoded as
UTF-8 (``reports/daily`` becomes ``reports%2Fdaily``, ``42`` becomes ``%342``), and so is a ``%`` that would look like
an encoded byte. A result that is too long is cut and ends in ``%~`` and a digest. So different ids always have
different names, and each name that was not cut can be converted back.
"""

from __future__ import annotations

import os
import re
import socket

from jobstore.language.errors import InvalidRecord
from jobstore.language.fields import NAME_CHARACTERS, checked_name

_REFUSED = re.compile("%(?=[0-9A-F]{2}|~)|[/\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\\s+|\\s+$")
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")
_EMPTY = "%"
_CUT = "%~"
_DIGEST_CHARACTERS = 16


def job_name(identity: str) -> str:
    """Return the job name for an id.

    >>> job_name("sync_klines_1h"), job_name("reports/daily"), job_name("42"), job_name("50%"), job_name("%2F")
    ('sync_klines_1h', 'reports%2Fdaily', '%342', '50%', '%252F')
    """
    if identity in ("", _EMPTY):
        return _percent(_EMPTY) if identity else _EMPTY
    name = _REFUSED.sub(lambda match: _percent(match[0]), identity)
    if len(name) > NAME_CHARACTERS:
        from hashlib import sha256  # slow to import, which would delay each cron job

        digest = sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
        return name[: NAME_CHARACTERS - len(_CUT) - _DIGEST_CHARACTERS] + _CUT + digest
    try:
        return checked_name(name)
    except InvalidRecord:  # refused as a whole: only digits, or a reserved word
        return _percent(name[0]) + name[1:]


def identity_of(name: str) -> str | None:
    """Return the id for a job name; ``None`` if the name was cut.

    >>> identity_of("reports%2Fdaily"), identity_of("50%")
    ('reports/daily', '50%')
    """
    if _CUT in name:
        return None
    if name == _EMPTY:
        return ""
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogatepass"), name)


def worker_id(worker: str) -> str:
    """Return the worker id for executions: the host, the process id and the worker's own name."""
    return f"{socket.gethostname()}/{os.getpid()}/{worker}"


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))

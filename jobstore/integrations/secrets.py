"""Masks arguments that look like secrets before they are recorded. Pure.

A value is masked because of its name (an argument, or a key at any depth: ``password``, ``api_key``,
``Authorization``), and a text also because of its content (``postgresql://user:s3cret@db``, ``token=s3cret``,
``Authorization: Token s3cret``). Under a name that only may mean a secret (``key``, ``token``, ``auth``), numbers are
not masked: ``max_tokens`` is not a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MASK = "***"

_SURE = (
    *("password", "passwords", "passwd", "passphrase", "passcode", "pwd", "pw", "secret", "secrets"),
    *("credential", "credentials", "authorization", "apikey", "accesskey", "secretkey", "privatekey", "jwt"),
)
_LIKELY = ("key", "keys", "token", "tokens", "auth", "bearer", "cookie", "cookies", "signature", "pin", "otp")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_IN_TEXT = {*_SURE, "token", "tokens", "cookies"} - {"authorization"}
"""Names whose values are masked in a text, too: there, ``key=`` and ``pin=`` mostly mean something else."""
_NAMES = f"(?:{'|'.join(sorted(_IN_TEXT, key=len, reverse=True)).replace('key', '[_-]?key')})"
# The name may be the end of a longer one, such as DB_PASSWORD.
_ASSIGNED = re.compile(
    rf"""(?i)({_NAMES}["']?\s*[=:]\s*|(?<![\w-])--[\w-]{{0,64}}?{_NAMES}\s+)("[^"]*"?|'[^']*'?|[^\s,;&)\]}}]+)"""
)
# The value of a header has blanks and semicolons: all of it is masked, up to a quote or the end of the line.
_HEADER = re.compile(
    r"""(?i)((?:authorization|cookie)["']?\s*[=:]\s*["']?(?:(?:basic|bearer|digest|token)\s+)?)[^"'\r\n]+"""
)
_AUTHORIZED = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")
# Bounded, as is the name above: a long text must not take time in the square of its length.
_URL_PASSWORD = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,31}://[^\s/?#:@]*:)[^\s/?#]+(?=@)")


def call_arguments(func: Callable[..., object] | None, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """Return the arguments of a call as JSON with secrets masked: keywords, and positional ones under ``args``.

    A call without arguments gives None.

    >>> call_arguments(None, ["BNC"], {"api_key": "s3cret", "db": "postgresql://u:s3cret@db/x"})
    {'args': ['BNC'], 'api_key': '***', 'db': 'postgresql://u:***@db/x'}
    """
    from jobstore.integrations.outcomes import kept_result, whole_result  # `jobstore exec` does not need them

    if not args and not kwargs:
        return None
    names = _positional_names(func, len(args)) if func is not None else []
    shown = [MASK if name and _is_secret(name, value) else value for name, value in _paired(names, args)]
    # Masked before it may be cut: the beginning of a long value is kept as text, without names to go by.
    return kept_result(masked(whole_result({**({"args": shown} if args else {}), **kwargs})))


def masked(value: Any) -> Any:
    """Return a copy of a JSON value with its secrets masked.

    >>> masked({"headers": {"Authorization": "Bearer s3cret"}, "max_tokens": 100, "run": ["--token", "a"]})
    {'headers': {'Authorization': '***'}, 'max_tokens': 100, 'run': ['--token', '***']}
    """
    if isinstance(value, dict):
        return {key: MASK if _is_secret(key, item) else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        options = ["", *map(_option, value)]
        return [
            MASK if _is_secret(option, item) else masked(item) for option, item in zip(options, value, strict=False)
        ]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """Mask passwords in URLs, values assigned to names of secrets, and authorization headers in a text.

    >>> masked_text("mysql://root:a@b@db/x?password=c"), masked_text("Config(token='x y', region='eu')")
    ('mysql://root:***@db/x?password=***', "Config(token=***, region='eu')")
    """
    text = _HEADER.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1{MASK}", text))
    text = _ASSIGNED.sub(rf"\1{MASK}", text)
    return _AUTHORIZED.sub(rf"\1 {MASK}", text)


def _option(word: object) -> str:
    """Return the name of a command-line option whose value is the next word; "" for any other word."""
    return word.lstrip("-") if isinstance(word, str) and word.startswith("-") and "=" not in word else ""


def _is_secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool) or (isinstance(value, str | dict | list) and not value):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    whole = "".join(words)
    if any(word in _SURE for word in words) or whole.endswith(_SURE):
        return True
    return not isinstance(value, int | float) and any(word in _LIKELY for word in words)


def _positional_names(func: Callable[..., object], count: int) -> list[str]:
    """Return the names of the parameters for positional arguments, as far as they are known."""
    import inspect  # `jobstore exec` only masks text and does not need it

    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in kinds][:count]


def _paired(names: list[str], values: Sequence[object]) -> list[tuple[str, object]]:
    return [(names[position] if position < len(names) else "", value) for position, value in enumerate(values)]

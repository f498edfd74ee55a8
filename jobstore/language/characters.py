"""Characters that a terminal obeys or a reader cannot see, and their escapes."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

JOINERS: Final = "\u200c\u200d"
"""Persian words and emoji need these two."""
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, direction marks and zero width, lone surrogates, line separators."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Letters and marks that look like nothing."""
_UNUSUAL: Final = re.compile("[^ -~]")
"""Only these characters need a look at their category, one by one."""


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def escaped(text: str, *, kept: str = "", escape: Callable[[str], str] = _escape) -> str:
    r"""Return the text with hidden characters as escapes, except those in `kept`: safe on a terminal and in a log.

    >>> print(escaped("a\x1b]0;x\x07 b\u202e"))
    a\x1b]0;x\x07 b\u202e
    """
    if text.isprintable() and _BLANK.isdisjoint(text):  # nearly always, and much faster where letters are not ASCII
        return text

    def shown(found: re.Match[str]) -> str:
        char = found[0]
        is_hidden = unicodedata.category(char) in _HIDDEN or char in _BLANK
        return escape(char) if is_hidden and char not in kept else char

    return _UNUSUAL.sub(shown, text)

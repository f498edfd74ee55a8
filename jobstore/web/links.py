"""The parameters of the current address, and links that change some of them.

Every link is relative, so the page works under any prefix, even one that a proxy removes without telling the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

KEPT: Final = ("lang", "tz")
"""Parameters that every link keeps once they are in the address."""
BOUNDS: Final = ("after", "before")
KNOWN: Final = frozenset({
    *KEPT, *BOUNDS, "exact_after", "exact_before", "job", "job_category", "job_type", "order_asc", "order_by",
    "order_desc", "page", "range", "search", "state", "status", "trace_id", "was",
})  # fmt: skip
"""All parameters of all views."""
LAST_PAGE: Final = 10**15
_PLACE = re.compile(
    r"(?:jobs/[^\x00-\x20/?#\\\x7f-\U0010ffff]+|executions(?:/[0-9]+)?|timeline)?(?:\?[^#\\]*)?", re.ASCII
)


@dataclass(frozen=True)
class Links:
    """The address of the current view.

    Attributes:
        root: the relative path to the page's root: ``./`` or ``../``.
        here: the path below the root, percent-encoded, such as ``jobs/a%20b``.
        query: the parameters with a value, each with all its values.
    """

    root: str
    here: str
    query: Mapping[str, tuple[str, ...]]

    def one(self, name: str) -> str | None:
        """Return the last value of a parameter, or None."""
        values = self.query.get(name)
        return values[-1] if values else None

    def several(self, name: str) -> list[str]:
        """Return the values of a list parameter: ``state=a&state=b`` or ``state=a,b``."""
        return [each for value in self.query.get(name, ()) for each in value.split(",") if each]

    def flag(self, name: str) -> bool:
        """Whether a parameter is ``true`` or ``1``."""
        return (self.one(name) or "").lower() in {"true", "1"}

    def page(self) -> int:
        """Return the page number of a list, from 1; raise `InvalidParameter` for any other text."""
        text = self.one("page") or "1"
        digits = text.lstrip("0")
        is_short = text.isascii() and text.isdigit() and 1 <= len(digits) <= len(str(LAST_PAGE))
        if not is_short or int(digits) > LAST_PAGE:
            raise InvalidParameter(f"page must be a whole number from 1 to {LAST_PAGE}; received {shown(text)}")
        return int(digits)

    def to(self, path: str, **query: object) -> str:
        """Return a link to another view, given its path below the root."""
        kept = {name: self.query[name] for name in KEPT if name in self.query}
        return self.root + _address(path, kept | {name: _values(value) for name, value in query.items()})

    def job(self, name: str, **query: object) -> str:
        """Return a link to a job's view."""
        return self.to(f"jobs/{quote(name, safe='')}", **query)

    def execution(self, number: str) -> str:
        """Return a link to an execution's view."""
        return self.to(f"executions/{number}")

    def changed(self, **changes: object) -> str:
        """Return a link to this view with some parameters changed; to its first page unless `page` is given."""
        query = {name: values for name, values in self.query.items() if name != "page"}
        return self.root + _address(self.here, query | {name: _values(value) for name, value in changes.items()})

    def hidden(self, *without: str) -> list[tuple[str, str]]:
        """Return the hidden fields of a form that changes only the parameters in `without`."""
        return [
            (name, value)
            for name, values in self.query.items()
            if name not in {*without, "page"}
            for value in values
        ]  # fmt: skip

    @property
    def place(self) -> str:
        """This view's address below the root, for a form that returns to it."""
        return _address(self.here, self.query)


def links(path: str, here: str, pairs: Iterable[tuple[str, str]]) -> Links:
    """Return the links of the view at `path` (decoded, from ``/``), without empty and unknown parameters.

    >>> links("/jobs/a b", "jobs/a%20b", []).to("timeline"), links("/", "", [("lang", "zh")]).to("timeline")
    ('../timeline', './timeline?lang=zh')
    """
    query: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if value.strip() and name in KNOWN:
            query[name] = (*query.get(name, ()), value)
    return Links("./" if path.count("/") <= 1 else "../", here, query)


def check_names(pairs: Iterable[tuple[str, str]]) -> None:
    """Raise `InvalidParameter` for an unknown parameter: a typing error, or a token, which must not be logged."""
    unknown = next((name for name, _ in pairs if name not in KNOWN), None)
    if unknown is not None:
        raise InvalidParameter(f"Unknown parameter {shown(unknown)}; allowed: {', '.join(sorted(KNOWN))}")


def safe_place(text: str | None, without: Container[str] = ()) -> str:
    """Return the address of a view as a link, without some parameters; ``./`` for any other text.

    >>> safe_place("executions?status=FAILURE&lang=zh"), safe_place("//evil.example"), safe_place("javascript:1")
    ('./executions?status=FAILURE&lang=zh', './', './')
    >>> safe_place("executions?status=FAILURE&lang=zh", without=KEPT)
    './executions?status=FAILURE'
    """
    if not text or len(text) > 4_000 or not _PLACE.fullmatch(text):  # noqa: PLR2004 - far longer than any view's address
        return "./"
    path, _, query = text.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in without]
    return "./" + path + (f"?{urlencode(kept, quote_via=quote)}" if kept else "")


def _values(value: object) -> tuple[str, ...]:
    if value is None or value is False:
        return ()
    if isinstance(value, list | tuple):
        return tuple(map(str, value))
    return ("true",) if value is True else (str(value),)


def _address(path: str, query: Mapping[str, tuple[str, ...]]) -> str:
    pairs = [(name, value) for name, values in query.items() for value in values]
    return f"{path}?{urlencode(pairs, quote_via=quote, safe=':,')}" if pairs else path

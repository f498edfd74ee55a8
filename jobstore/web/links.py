"""Addresses: what a view was asked, and relative links to it with one thing changed.

Every link is relative, so the page works under any prefix, also one that a proxy takes off and never mentions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

from jobstore.language.errors import InvalidParameter, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT: Final = ("lang", "tz")
"""Given in an address, these go along to every address from there."""
KNOWN: Final = frozenset({
    *KEPT, "after", "before", "job", "job_category", "job_type", "order_asc", "order_by", "order_desc", "page", "range",
    "search", "state", "status", "trace_id", "was",
})  # fmt: skip
"""What an address may say."""
LAST_PAGE: Final = 10**15
_PLACE = re.compile(
    r"(?:jobs/[^\x00-\x20/?#\\\x7f-\U0010ffff]+|executions(?:/[0-9]+)?|timeline)?(?:\?[^#\\]*)?", re.ASCII
)


@dataclass(frozen=True)
class Links:
    """The address of the view that was asked for.

    Attributes:
        root: what leads from it to the top of the page: ``./`` or ``../``.
        here: its path below the top, percent-encoded, such as ``jobs/a%20b``.
        query: the parameters that were given with a value, each with all its values.
    """

    root: str
    here: str
    query: Mapping[str, tuple[str, ...]]

    def one(self, name: str) -> str | None:
        """The value of a parameter; the last one, as browsers and people expect, where several came."""
        values = self.query.get(name)
        return values[-1] if values else None

    def several(self, name: str) -> list[str]:
        """The values of a parameter that is a list: ``state=a&state=b`` or ``state=a,b``."""
        return [each for value in self.query.get(name, ()) for each in value.split(",") if each]

    def flag(self, name: str) -> bool:
        """Whether a parameter says true."""
        return (self.one(name) or "").lower() in {"true", "1"}

    def page(self) -> int:
        """The page of a list, from 1.

        Raises:
            InvalidParameter: it is no such number.
        """
        text = self.one("page") or "1"
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= LAST_PAGE):
            raise InvalidParameter(f"page must be a whole number from 1; received {shown(text)}")
        return int(text)

    def to(self, path: str, **query: object) -> str:
        """Another view, by its path below the top."""
        kept = {name: self.query[name] for name in KEPT if name in self.query}
        return self.root + _address(path, kept | {name: _values(value) for name, value in query.items()})

    def job(self, name: str, **query: object) -> str:
        """The view of a job."""
        return self.to(f"jobs/{quote(name, safe='')}", **query)

    def execution(self, number: str) -> str:
        """The view of an execution."""
        return self.to(f"executions/{number}")

    def changed(self, **changes: object) -> str:
        """This view with other values; its first page unless `page` is among them."""
        query = {name: values for name, values in self.query.items() if name != "page"}
        return self.root + _address(self.here, query | {name: _values(value) for name, value in changes.items()})

    def hidden(self, *without: str) -> list[tuple[str, str]]:
        """What a form has to carry along, so that it changes only its own fields."""
        return [
            (name, value)
            for name, values in self.query.items()
            if name not in {*without, "page"}
            for value in values
        ]  # fmt: skip

    @property
    def place(self) -> str:
        """This view below the top, for a form that comes back to it."""
        return _address(self.here, self.query)


def links(path: str, here: str, pairs: Iterable[tuple[str, str]]) -> Links:
    """The links of a view that is asked for at `path` (decoded, from ``/``), without what is empty or unknown.

    >>> links("/jobs/a b", "jobs/a%20b", []).to("timeline"), links("/", "", [("lang", "zh")]).to("timeline")
    ('../timeline', './timeline?lang=zh')
    """
    query: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if value.strip() and name in KNOWN:
            query[name] = (*query.get(name, ()), value)
    return Links("./" if path.count("/") <= 1 else "../", here, query)


def check_names(pairs: Iterable[tuple[str, str]]) -> None:
    """Refuse what no view knows, as the API does: it is a slip, or a token that must reach no log."""
    unknown = next((name for name, _ in pairs if name not in KNOWN), None)
    if unknown is not None:
        raise InvalidParameter(f"Unknown parameter {shown(unknown)}; allowed: {', '.join(sorted(KNOWN))}")


def safe_place(text: str | None) -> str:
    """An address of ours below the top, its language and zone left out; the first view for anything else.

    >>> safe_place("executions?status=FAILURE&lang=zh"), safe_place("//evil.example"), safe_place("javascript:1")
    ('./executions?status=FAILURE', './', './')
    """
    if not text or len(text) > 4_000 or not _PLACE.fullmatch(text):  # noqa: PLR2004 - far above what views need
        return "./"
    path, _, query = text.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in KEPT]
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

"""Texts, numbers and times for the reader: English or Chinese, in one time zone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from jobstore.language.characters import JOINERS, escaped

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LANGUAGES: Final = ("en", "zh")
MINUTE, HOUR, DAY = 60, 3_600, 86_400
_STRAY_JOINER = re.compile("(?<![^\x00-\x7f\u200b-\u200d])[\u200c\u200d]")
"""A joiner that no letter of its script or emoji precedes: it only hides."""


@cache
def _translations() -> dict[str, str]:
    found: dict[str, str] = json.loads((Path(__file__).parent / "zh.json").read_text(encoding="utf-8"))
    return found


def language(asked: str | None, kept: str | None, accept: str) -> str:
    """Return the language of a page: from the address, else the cookie, else the browser's preference, else English.

    >>> language(None, None, "fr;q=0.9, zh-CN, en;q=0.8"), language("en", "zh", "zh"), language("xx", None, "")
    ('zh', 'en', 'en')
    """
    for wanted in (asked, kept):
        if wanted in LANGUAGES:
            return str(wanted)
    ranked = sorted(accept.lower().split(",")[:20], key=_rank, reverse=True)
    return next((each.strip()[:2] for each in ranked if each.strip()[:2] in LANGUAGES), "en")


def _rank(item: str) -> float:
    match = re.search(r";\s*q=([01](?:\.\d*)?)", item)
    return float(match[1]) if match else 1.0


def visible(text: str) -> str:
    r"""Return the text with hidden characters as escapes, so that a reader notices them; lines and tabs stay.

    >>> visible("\x1b[31mred\u202e")
    '\\x1b[31mred\\u202e'
    """
    text = _STRAY_JOINER.sub(lambda found: escaped(found[0]), text.replace("\r\n", "\n"))
    return escaped(text, kept=f"\n\t{JOINERS}")


def first_line(text: str | None, most: int = 200) -> str:
    r"""Return the first line that is not blank, at most `most` characters of it.

    >>> first_line("\n  KeyError: 'a'\nmore")
    "KeyError: 'a'"
    """
    line = next((each.strip() for each in (text or "").splitlines() if each.strip()), "")
    return line if len(line) <= most else f"{line[: most - 1]}…"


@dataclass(frozen=True)
class Phrases:
    """Language, time zone and current time of one page, and how it writes texts, numbers and times.

    Attributes:
        lang: ``en`` or ``zh``.
        zone: the time zone of every time on the page.
        now: the store's current time.
    """

    lang: str
    zone: ZoneInfo
    now: datetime

    def say(self, text: str, **values: object) -> str:
        """Translate and format a text. In ``one|many``, `n` selects singular or plural."""
        found = _translations().get(text, text) if self.lang == "zh" else text
        if "|" in found:
            found = found.split("|")[values.get("n") != 1]
        shown = {name: self.number(each) if isinstance(each, int) else each for name, each in values.items()}
        return found.format(**shown) if values else found

    @staticmethod
    def number(value: int | None) -> str:
        """Format a count with thousands separators."""
        return "–" if value is None else f"{value:,}"

    @staticmethod
    def percent(rate: float | None) -> str:
        """Format a rate in percent, rounded down: 100 % means that nothing failed.

        >>> Phrases.percent(0.9996), Phrases.percent(1.0), Phrases.percent(0.5), Phrases.percent(None)
        ('99.9 %', '100 %', '50 %', '–')
        """
        if rate is None:
            return "–"
        tenths = int(rate * 1000)
        return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths / 10:.1f} %"

    def duration(self, milliseconds: float | None) -> str:
        """Format a duration in at most two units."""
        if milliseconds is None:
            return "–"
        seconds = milliseconds / 1000
        if seconds < 1:
            return self.say("{n} ms", n=int(milliseconds))
        if seconds < MINUTE:
            return self.say("{x} s", x=f"{seconds:.1f}".removesuffix(".0"))
        for unit, part, words in ((HOUR, MINUTE, "{a} min {b} s"), (DAY, HOUR, "{a} h {b} min")):
            if seconds < unit:
                whole, rest = divmod(int(seconds), part)
                return self.say(words, a=whole, b=rest * MINUTE // part)
        whole, rest = divmod(int(seconds), DAY)
        return self.say("{a} d {b} h", a=whole, b=rest // HOUR)

    def span(self, seconds: float) -> str:
        """Format a duration in its largest whole unit, rounded down, as `page.js` does."""
        units = ((DAY, "{n} d"), (HOUR, "{n} h"), (MINUTE, "{n} min"), (1, "{n} s"))
        unit, words = next((each for each in units if seconds >= each[0]), units[-1])
        return self.say(words, n=int(seconds // unit))

    def moment(self, text: str | datetime) -> datetime:
        """Convert a document's time to the page's time zone."""
        found = datetime.fromisoformat(text) if isinstance(text, str) else text
        try:
            return found.astimezone(self.zone)
        except OverflowError:  # in this zone, the time is outside the years 1 to 9999
            return found

    def absolute(self, text: str | datetime) -> str:
        """Format a time in full, with its zone."""
        moment = self.moment(text)
        return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}"

    def short(self, text: str | datetime, *, seconds: bool = True) -> str:
        """Format a time without the date if it is today, and without the year if it is this year."""
        moment, now = self.moment(text), self.now.astimezone(self.zone)
        clock = f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}"
        if moment.date() == now.date():
            return clock
        return f"{moment:%m-%d} {clock}" if moment.year == now.year else f"{moment:%Y-%m-%d} {clock}"

    def at(self, text: str | None) -> Markup:
        """Return a ``<time>`` element that shows when."""
        if text is None:
            return Markup("<span class=none>–</span>")
        moment = self.moment(text)
        return _time(moment, self.absolute(moment), self.short(moment))

    def relative(self, text: str | None, form: str = "near") -> Markup:
        """Return a ``<time>`` element that shows the distance from now, which `page.js` updates; see `distance`."""
        if text is None:
            return Markup("<span class=none>–</span>")
        moment = self.moment(text)
        return _time(moment, self.absolute(moment), self.distance(moment, form), f' data-rel="{form}"')

    def distance(self, moment: datetime, form: str) -> str:
        """Format a time's distance from now.

        `form` is ``near`` (``3 min ago``, ``in 3 min``), ``age`` (``3 min``) or ``late`` (``late by 3 min``).
        """
        seconds = (self.now - moment).total_seconds()
        if form == "age":
            return self.span(max(0, seconds))
        if form == "late" and seconds > 0:
            return self.say("late by {x}", x=self.span(seconds))
        return self.say("{x} ago", x=self.span(seconds)) if seconds >= 0 else self.say("in {x}", x=self.span(-seconds))

    def json(self, value: Any) -> str:
        """Format a value as indented JSON."""
        return json.dumps(value, ensure_ascii=False, indent=2)


def _time(moment: datetime, title: str, words: str, more: str = "") -> Markup:
    # A page has hundreds of these: `Markup.format` would take half its time. No escaping is needed, all text is ours.
    # In UTC, since browsers read no offset with seconds, which zones had before there was a standard time.
    iso = moment.astimezone(UTC).isoformat(timespec="seconds")
    return Markup(f'<time datetime="{iso}" title="{title}"{more}>{words}</time>')  # noqa: S704  # nosec B704


def marked(text: str | None) -> Markup:
    """Return foreign text as markup: escaped, with hidden characters shown and its direction isolated."""
    return Markup("<bdi>") + visible(text or "") + Markup("</bdi>")  # Markup escapes what is added to it


def rounded(moment: datetime, step: timedelta) -> datetime:
    """Round down to a whole number of steps since midnight."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // step * step

"""Words, numbers and times as a reader sees them: English or Chinese, in one named zone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LANGUAGES: Final = ("en", "zh")
MINUTE, HOUR, DAY = 60, 3_600, 86_400
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]|(?<![^\x00-\x7f\u200b-\u200d])[\u200c\u200d]"
)
"""What a terminal obeys, what turns a line around and what nobody sees: shown as its escape, so that a reader sees that
it is there, and two names that differ look different. The joiners of emoji and of scripts that need them stay.
"""


@cache
def _translations() -> dict[str, str]:
    found: dict[str, str] = json.loads((Path(__file__).parent / "zh.json").read_text(encoding="utf-8"))
    return found


def language(asked: str | None, kept: str | None, accept: str) -> str:
    """The language of a page: from its address, else the cookie, else what the browser prefers.

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
    r"""Text in which controls and direction marks are written out instead of obeyed.

    >>> visible("\x1b[31mred\u202e")
    '\\x1b[31mred\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def first_line(text: str | None, most: int = 200) -> str:
    r"""The first line that says something, cut at `most` characters.

    >>> first_line("\n  KeyError: 'a'\nmore")
    "KeyError: 'a'"
    """
    line = next((each.strip() for each in (text or "").splitlines() if each.strip()), "")
    return line if len(line) <= most else f"{line[: most - 1]}…"


@dataclass(frozen=True)
class Phrases:
    """How one page speaks.

    Attributes:
        lang: ``en`` or ``zh``.
        zone: the zone of every time on the page.
        now: the moment the page speaks of.
    """

    lang: str
    zone: ZoneInfo
    now: datetime

    def say(self, text: str, **values: object) -> str:
        """A sentence in the page's language; ``one|many`` chooses by `n`."""
        found = _translations().get(text, text) if self.lang == "zh" else text
        if "|" in found:
            found = found.split("|")[values.get("n") != 1]
        shown = {name: self.number(each) if isinstance(each, int) else each for name, each in values.items()}
        return found.format(**shown) if values else found

    @staticmethod
    def number(value: int | None) -> str:
        """A count with its thousands marked."""
        return "–" if value is None else f"{value:,}"

    @staticmethod
    def percent(rate: float | None) -> str:
        """A share; 100 % only when nothing failed.

        >>> Phrases.percent(0.9996), Phrases.percent(1.0), Phrases.percent(0.5), Phrases.percent(None)
        ('99.9 %', '100 %', '50 %', '–')
        """
        if rate is None:
            return "–"
        tenths = int(rate * 1000)
        return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths / 10:.1f} %"

    def duration(self, milliseconds: float | None) -> str:
        """A length of time in two units at most."""
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
        """A length of time in its largest whole unit; `page.js` says it the same way."""
        units = ((DAY, "{n} d"), (HOUR, "{n} h"), (MINUTE, "{n} min"), (1, "{n} s"))
        unit, words = next((each for each in units if seconds >= each[0]), units[-1])
        return self.say(words, n=int(seconds // unit))

    def moment(self, text: str | datetime) -> datetime:
        """A document's time in the page's zone."""
        found = datetime.fromisoformat(text) if isinstance(text, str) else text
        try:
            return found.astimezone(self.zone)
        except OverflowError:  # the first or the last hours of all years, in a zone where another year has begun
            return found

    def absolute(self, text: str | datetime) -> str:
        """A time in full, its zone named."""
        moment = self.moment(text)
        return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}"

    def short(self, text: str | datetime, *, seconds: bool = True) -> str:
        """A time without what is plain: the day if it is today, the year if it is this one."""
        moment, now = self.moment(text), self.now.astimezone(self.zone)
        clock = f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}"
        if moment.date() == now.date():
            return clock
        return f"{moment:%m-%d} {clock}" if moment.year == now.year else f"{moment:%Y-%m-%d} {clock}"

    def at(self, text: str | None) -> Markup:
        """The element of a time of day."""
        if text is None:
            return Markup("<span class=none>–</span>")
        moment = self.moment(text)
        return _time(moment, self.absolute(moment), self.short(moment))

    def relative(self, text: str | None, form: str = "near") -> Markup:
        """The element of a distance from now, kept up by `page.js`: `near`, `age`, or `late` for one that passed."""
        if text is None:
            return Markup("<span class=none>–</span>")
        moment = self.moment(text)
        return _time(moment, self.absolute(moment), self.distance(moment, form), f' data-rel="{form}"')

    def distance(self, moment: datetime, form: str) -> str:
        """How far a time is from now: ``3 min ago``, ``in 3 min``; as an age alone, ``3 min``."""
        seconds = (self.now - moment).total_seconds()
        if form == "age":
            return self.span(max(0, seconds))
        if form == "late" and seconds > 0:
            return self.say("late by {x}", x=self.span(seconds))
        return self.say("{x} ago", x=self.span(seconds)) if seconds >= 0 else self.say("in {x}", x=self.span(-seconds))

    def json(self, value: Any) -> str:
        """A value as indented JSON."""
        return json.dumps(value, ensure_ascii=False, indent=2)


def _time(moment: datetime, title: str, words: str, more: str = "") -> Markup:
    """Hundreds of these are on a page, and all of their text is our own: `Markup.format` would take half its time."""
    iso = moment.isoformat(timespec="seconds")
    return Markup(f'<time datetime="{iso}" title="{title}"{more}>{words}</time>')  # noqa: S704  # nosec B704


def marked(text: str | None) -> Markup:
    """Text of somebody else's: escaped, its hidden characters shown, its direction its own."""
    return Markup("<bdi>") + visible(text or "") + Markup("</bdi>")  # what is added to Markup is escaped


def rounded(moment: datetime, step: timedelta) -> datetime:
    """The moment before or at `moment` that is a whole number of steps into its day."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // step * step

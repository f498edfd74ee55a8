"""The page as a function: what is asked goes in, status, headers and body come out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobstore.language.errors import InvalidParameter, JobStoreError, NotFound
from jobstore.language.zones import check_timezone
from jobstore.web import charts, one_job, timeline, views
from jobstore.web.links import Links, check_names, links, safe_place
from jobstore.web.phrases import LANGUAGES, Phrases, first_line, language, marked, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FOLDER: Final = Path(__file__).parent
_NO_NEWS = re.compile(rb"(?<=data-rel=)(\"\w+\">)[^<]*|(data-now)=\"[^\"]*\"")
"""Ages go on by themselves in the browser."""
_YEAR_SECONDS: Final = 31_536_000
TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
SETTINGS: Final = {
    "lang": ("", *LANGUAGES),
    "live": ("0", "5", "10", "30", "60"),
    "theme": ("", "light", "dark"),
}
"""What a reader may choose beside the zone, and a cookie keeps; the first is the default."""
COOKIE: Final = "jobstore_"
_OTHER_CLOCK: Final = timedelta(minutes=5)
"""A store whose clock is so far from the system's has one of its own: the browser's must not count on from it."""
_LIVE_DEFAULT: Final = "30"
_WORDS: Final = (
    "{n} s", "{n} min", "{n} h", "{n} d", "{x} ago", "in {x}", "late by {x}", "Updated {x}", "Not updated since {x}",
    "Copied", "Copy", "The list has changed", "Show", "Now: {x}", "This browser: {x}",
)  # fmt: skip
"""What `page.js` says."""


@dataclass(frozen=True)
class Ask:
    """A request, without its framework.

    Attributes:
        path: decoded, from ``/``.
        here: the same below the top, as it stood in the address.
        pairs: the query string.
        signed_in: whether a cookie let the reader in, so that there is something to sign out of.
        now: the clock of the store.
        timezone: the zone of the store.
    """

    path: str
    here: str
    pairs: Sequence[tuple[str, str]]
    cookies: Mapping[str, str] = field(default_factory=dict)
    accept_language: str = ""
    signed_in: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    timezone: str = "UTC"


@dataclass(frozen=True)
class Reply:
    """An answer, without its framework; `tag` names what is on it, ages left out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()
    tag: str | None = None


class Page:
    """Renders the views of a store."""

    def __init__(self, *, log_url: str | None = None) -> None:
        """`log_url` is where the log of a trace is read, such as ``https://logs.example.com/{trace_id}``.

        Raises:
            InvalidParameter: it is no http or https address with ``{trace_id}`` in it.
        """
        if log_url is not None and not re.fullmatch(r"https?://[^\s{}]+\{trace_id\}[^\s{}]*", log_url):
            raise InvalidParameter("log_url must be an http or https address with {trace_id} in it")
        self._log_url = log_url
        self._templates = _templates()

    def answer(self, store: Any, ask: Ask) -> Reply:
        """The view at a path.

        Raises:
            NotFound: there is no view here, or no such job or execution.
            InvalidParameter: a parameter breaks its rule.
            StoreError: the store cannot be read.
        """
        if ask.path == "/settings":
            return _settings(ask)
        check_names(ask.pairs)
        phrases, there = self._phrases(ask), links(ask.path, ask.here, ask.pairs)
        look = views.Look(store, there, phrases, ask.timezone)
        kind, _, rest = ask.path.removeprefix("/").partition("/")
        if ask.path == "/":
            return self._render("jobs.html", ask, phrases, there, views.jobs(look))
        if kind == "jobs" and rest:
            return self._job(ask, look, rest)
        if ask.path == "/executions":
            return self._render("executions.html", ask, phrases, there, views.executions(look))
        if kind == "executions" and rest:
            return self._render("execution.html", ask, phrases, there, views.execution(look, rest, self._log_url))
        if ask.path == "/timeline":
            return self._render("timeline.html", ask, phrases, there, timeline.timeline(look))
        raise NotFound("There is no page at this address")

    def _job(self, ask: Ask, look: views.Look, name: str) -> Reply:
        try:
            context = one_job.job(look, name)
        except NotFound:
            was = look.links.one("was")
            if was is None:
                raise
            return Reply(303, headers={"location": look.links.to("executions", search=was, range="all")})
        if context["job"]["name"] != name:  # asked by its number: one address for each view
            return Reply(303, headers={"location": look.links.job(context["job"]["name"])})
        return self._render("job.html", ask, look.phrases, look.links, context)

    def login(self, ask: Ask, problem: str | None = None, *, status: int = 401, again: bool = False) -> Reply:
        """The form that takes a token; `again` for a reader who came by a link from elsewhere.

        A cookie with ``SameSite=Strict`` does not come along from there; loaded again from here, it does.
        """
        phrases, there = self._phrases(ask), links(ask.path, ask.here, ask.pairs)
        place = dict(ask.pairs).get("next", "") if ask.path == "/login" else there.place
        context = {"title": phrases.say("Sign in"), "problem": problem, "place": place, "again": again}
        return self._render("login.html", ask, phrases, there, context, status=status)

    def failed(self, ask: Ask, error: JobStoreError, message: str) -> Reply:
        """An error as a page, with a way on."""
        try:
            phrases = self._phrases(ask)
        except InvalidParameter:  # the zone itself was wrong
            phrases = Phrases("en", ZoneInfo("UTC"), ask.now)
        there = links(ask.path, ask.here, ())
        context = {"title": phrases.say(_TITLES.get(error.http_status, "Something went wrong")), "message": message,
                   "code": error.code, "status": error.http_status,
                   "name": ask.path.removeprefix("/jobs/") if ask.path.startswith("/jobs/") else None}  # fmt: skip
        return self._render("error.html", ask, phrases, there, context, status=error.http_status)

    def _phrases(self, ask: Ask) -> Phrases:
        asked, kept = links(ask.path, "", ask.pairs), ask.cookies
        zone = asked.one("tz") or kept.get(f"{COOKIE}tz") or ask.timezone
        try:
            found = ZoneInfo(check_timezone(zone))
        except JobStoreError as error:
            if asked.one("tz"):
                raise InvalidParameter(f"tz: {error.message}") from None
            found = ZoneInfo("UTC")
        return Phrases(language(asked.one("lang"), kept.get(f"{COOKIE}lang"), ask.accept_language), found, ask.now)

    def _render(
        self, template: str, ask: Ask, phrases: Phrases, there: Links, context: dict[str, Any], *, status: int = 200
    ) -> Reply:
        chosen = {name: ask.cookies.get(f"{COOKIE}{name}") for name in SETTINGS}
        shared = {
            "_": phrases.say, "p": phrases, "links": there, "lang": phrases.lang, "zone": str(phrases.zone),
            "store_zone": ask.timezone, "signed_in": ask.signed_in,
            "asset": lambda name: f"{there.root}{address(name)}",
            "theme": chosen["theme"] if chosen["theme"] in SETTINGS["theme"] else "",
            "live": chosen["live"] if chosen["live"] in SETTINGS["live"] else _LIVE_DEFAULT,
            "words": json.dumps({each: phrases.say(each) for each in _WORDS}, ensure_ascii=False),
            "fixed_now": ask.now.isoformat() if abs(datetime.now(UTC) - ask.now) > _OTHER_CLOCK else None,
            "languages": {"en": "English", "zh": "中文"}, "settings": SETTINGS,
        }  # fmt: skip
        body = self._templates.get_template(template).render(shared | context).encode()
        tag = hashlib.sha256(_NO_NEWS.sub(rb"\1\2", body)).hexdigest()[:32]
        headers = HEADERS | {"content-type": "text/html; charset=utf-8", "cache-control": "private, no-cache",
                             "content-language": phrases.lang}  # fmt: skip
        return Reply(status, body, headers, tag=tag)


_TITLES: Final = {400: "This address cannot be answered", 403: "Not allowed", 404: "Not found",
                  503: "The store cannot be read right now"}  # fmt: skip


def _settings(ask: Ask) -> Reply:
    """Keep what was chosen in cookies and go back; the cookies belong to the folder of this very address."""
    given = dict(ask.pairs)
    kept = {name: given[name] for name, known in SETTINGS.items() if given.get(name) in known}
    if given.get("tz"):
        kept["tz"] = check_timezone(given["tz"])
    cookies = [
        f"{COOKIE}{name}={value}; Max-Age={_YEAR_SECONDS if value else 0}; HttpOnly; SameSite=Lax"
        for name, value in kept.items()
    ]
    return Reply(303, headers={"location": safe_place(given.get("next"))}, cookies=cookies)


# Assets --------------------------------------------------------------------------------------------


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Each file by the name it is asked by, which has the hash of its content in it: bytes and type."""
    found = {}
    for path in sorted((_FOLDER / "assets").iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:12]
            found[f"{path.stem}.{digest}{path.suffix}"] = (body, TYPES[path.suffix])
    return found


@cache
def address(name: str) -> str:
    """The address of an asset below the top."""
    stem, _, suffix = name.rpartition(".")
    return next(f"assets/{each}" for each in assets() if each.startswith(f"{stem}.") and each.endswith(f".{suffix}"))


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, auto_reload=False,
        # Whatever a template writes is fit to be read; what a form sends back as it came, it writes with `|e`.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    templates.filters |= {"marked": marked, "first_line": first_line}
    templates.globals |= {
        "classes": charts.CLASSES, "status_words": views.STATUS_WORDS,
        "strip_width": charts.STRIP_WIDTH, "strip_height": charts.STRIP_HEIGHT, "bars_height": charts.BARS_HEIGHT,
        "dots_height": charts.DOTS_HEIGHT,
    }  # fmt: skip
    return templates

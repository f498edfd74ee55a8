"""The web page as a function from a request to status, headers and body."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobstore.language.errors import InvalidParameter, JobStoreError, NotFound
from jobstore.language.zones import check_timezone
from jobstore.web import charts, one_job, timeline, views
from jobstore.web.links import KEPT, Links, links, safe_place
from jobstore.web.phrases import LANGUAGES, Phrases, first_line, language, marked, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FOLDER: Final = Path(__file__).parent
_NO_NEWS = re.compile(
    rb"(?<=data-rel=)(\"\w+\">)[^<]*|(data-now)=\"[^\"]*\"|(<line class=\"now\") x1=\"[^\"]*\" x2=\"[^\"]*\""
)
"""What the ETag ignores: the ages on a page, which the browser updates itself, and the place of now on the timeline."""
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
"""The settings kept in cookies, beside the time zone, and their values."""
COOKIE: Final = "jobstore_"
_OTHER_CLOCK: Final = timedelta(minutes=5)
"""A store whose clock differs by more than this has a clock of its own, so the browser must not advance the ages."""
_LIVE_DEFAULT: Final = "30"
_WORDS: Final = (
    "{n} s", "{n} min", "{n} h", "{n} d", "{x} ago", "in {x}", "late by {x}", "Updated {x}", "Not updated since {x}",
    "Copied", "Copy", "The list has changed", "Show", "Now: {x}", "This browser: {x}",
)  # fmt: skip
"""The texts of `page.js`, translated on the server."""


@dataclass(frozen=True)
class Ask:
    """A request, independent of any framework.

    Attributes:
        path: the decoded path, from ``/``.
        here: the path below the page's root, percent-encoded.
        pairs: the query string, as names and values.
        signed_in: whether the reader was let in by a cookie and so can sign out.
        now: the store's current time.
        timezone: the store's time zone.
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
    """A response, independent of any framework. `tag`, for the ETag, identifies the content without the ages."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()
    tag: str | None = None


class Page:
    """Renders the views of a store."""

    def __init__(self, *, log_url: str | None = None) -> None:
        """`log_url` is the address of a trace's log, such as ``https://logs.example.com/{trace_id}``.

        Raises:
            InvalidParameter: it is not an http or https address with ``{trace_id}`` in it.
        """
        if log_url is not None and not re.fullmatch(r"https?://[^\s{}]+\{trace_id\}[^\s{}]*", log_url):
            raise InvalidParameter("log_url must be an http or https address with {trace_id} in it")
        self._log_url = log_url
        self._templates = _templates()

    def answer(self, store: Any, ask: Ask) -> Reply:
        """Render the view at the request's path.

        Raises:
            NotFound: there is no such view, job or execution.
            InvalidParameter: a parameter is not valid.
            StoreError: the store cannot be read.
        """
        if ask.path == "/settings":
            return _settings(ask)
        phrases = self._phrases(ask)
        there = views.with_exact_bounds(links(ask.path, ask.here, ask.pairs), phrases)
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
        if context["job"]["name"] != name:  # requested by number: redirect, so each view has one address
            return Reply(303, headers={"location": look.links.job(context["job"]["name"])})
        return self._render("job.html", ask, look.phrases, look.links, context)

    def login(self, ask: Ask, problem: str | None = None, *, status: int = 401, again: bool = False) -> Reply:
        """Render the sign-in form; with `again`, the page reloads itself once.

        `again` is for a reader who follows a link from another site: the browser then withholds the cookie
        (``SameSite=Strict``), and sends it when the page is loaded again from here.
        """
        place = links(ask.path, ask.here, ask.pairs).place
        if ask.path == "/login":  # the form was sent; the address of the view that it leads to names the language
            place = dict(ask.pairs).get("next", "")
            query = parse_qsl(place.partition("?")[2])
            ask = replace(ask, pairs=[(name, value) for name, value in query if name == "lang"])
        phrases, there = self._phrases(ask), links(ask.path, ask.here, ask.pairs)
        context = {"title": phrases.say("Sign in"), "problem": problem, "place": place, "again": again}
        return self._render("login.html", ask, phrases, there, context, status=status)

    def failed(self, ask: Ask, error: JobStoreError, message: str) -> Reply:
        """Render an error as a page with links to go on."""
        kept = [pair for pair in ask.pairs if pair[0] in KEPT]
        try:
            phrases = self._phrases(replace(ask, pairs=kept))
        except InvalidParameter:  # the time zone may be what is not valid
            kept = [pair for pair in kept if pair[0] != "tz"]
            phrases = self._phrases(replace(ask, pairs=kept))
        there = links(ask.path, ask.here, kept)
        context = {"title": phrases.say(_TITLES.get(error.http_status, "Something went wrong")), "message": message,
                   "code": error.code, "status": error.http_status,
                   "name": ask.path.removeprefix("/jobs/") if ask.path.startswith("/jobs/") else None}  # fmt: skip
        return self._render("error.html", ask, phrases, there, context, status=error.http_status)

    def _phrases(self, ask: Ask) -> Phrases:
        asked, kept = links(ask.path, "", ask.pairs), ask.cookies
        zone = asked.one("tz") or kept.get(f"{COOKIE}tz") or ask.timezone
        try:
            found = ZoneInfo(_checked_zone(zone))
        except InvalidParameter:
            if asked.one("tz"):
                raise
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
            "is_frozen": abs(datetime.now(UTC) - ask.now) > _OTHER_CLOCK,
            "languages": {"en": "English", "zh": "中文"}, "settings": SETTINGS,
        }  # fmt: skip
        body = self._templates.get_template(template).render(shared | context).encode()
        tag = hashlib.sha256(_NO_NEWS.sub(rb"\1\2\3", body)).hexdigest()[:32]
        headers = HEADERS | {"content-type": "text/html; charset=utf-8", "cache-control": "private, no-cache",
                             "content-language": phrases.lang}  # fmt: skip
        return Reply(status, body, headers, tag=tag)


_TITLES: Final = {400: "This address cannot be answered", 403: "Not allowed", 404: "Not found",
                  503: "The store cannot be read right now"}  # fmt: skip


def _checked_zone(name: str) -> str:
    try:
        return check_timezone(name)
    except JobStoreError as error:
        raise InvalidParameter(f"tz: {error.message}") from None


def _settings(ask: Ask) -> Reply:
    """Store the chosen settings in cookies and redirect. Without a path, cookies are valid below the page's root."""
    given = dict(ask.pairs)
    kept = {name: given[name] for name, known in SETTINGS.items() if given.get(name) in known}
    if given.get("tz"):
        kept["tz"] = _checked_zone(given["tz"])
    cookies = [
        f"{COOKIE}{name}={value}; Max-Age={_YEAR_SECONDS if value else 0}; HttpOnly; SameSite=Lax"
        for name, value in kept.items()
    ]
    return Reply(303, headers={"location": safe_place(given.get("next"), without=KEPT)}, cookies=cookies)


# Assets --------------------------------------------------------------------------------------------


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Return content and type of each asset by name; the name contains a hash, so browsers may cache it for ever."""
    found = {}
    for path in sorted((_FOLDER / "assets").iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:12]
            found[f"{path.stem}.{digest}{path.suffix}"] = (body, TYPES[path.suffix])
    return found


@cache
def address(name: str) -> str:
    """Return the address of an asset below the page's root."""
    stem, _, suffix = name.rpartition(".")
    return next(f"assets/{each}" for each in assets() if each.startswith(f"{stem}.") and each.endswith(f".{suffix}"))


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, auto_reload=False,
        # All output shows hidden characters; a form's value, which must come back unchanged, is written with `|e`.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    templates.filters |= {"marked": marked, "first_line": first_line}
    templates.globals |= {
        "classes": charts.CLASSES, "status_words": views.STATUS_WORDS,
        "strip_width": charts.STRIP_WIDTH, "strip_height": charts.STRIP_HEIGHT, "bars_height": charts.BARS_HEIGHT,
        "dots_height": charts.DOTS_HEIGHT,
    }  # fmt: skip
    return templates

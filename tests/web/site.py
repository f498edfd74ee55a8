"""The page without a browser: requests straight to the application, and what stands in its HTML."""

from __future__ import annotations

import gzip
import re
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode, urljoin, urlsplit

NOW = datetime(2026, 3, 11, 9, 26, 53, tzinfo=UTC)
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
VIEWS = ("/", "/jobs/sync_balances", "/executions", "/executions/{failed}", "/timeline")
"""One address of each view; `{failed}` is the number of a failed run."""


class Answer:
    target = ""
    """What was asked in the end."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.cookies = [value for name, value in headers if name.lower() == "set-cookie"]
        self.wire = body
        self.body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def words(self) -> str:
        """What a reader reads."""
        return Words.of(self.text)


class Site:
    """An application, mounted under a prefix; keeps cookies, as a browser does."""

    def __init__(self, app: Any, prefix: str = "") -> None:
        self.app = app
        self.prefix = prefix
        self.jar: dict[str, str] = {}

    def get(self, target: str, *, follow: bool = True, **headers: str) -> Answer:
        answer = self.ask("GET", target, b"", **headers)
        if follow and answer.status in {302, 303, 307, 308}:
            return self.get(urljoin(self.prefix + target, answer.headers["location"]).removeprefix(self.prefix))
        answer.target = target
        return answer

    def post(self, target: str, fields: dict[str, str], **headers: str) -> Answer:
        return self.ask("POST", target, urlencode(fields).encode(), **headers)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        given = {
            "Accept": BROWSER,
            "Host": "127.0.0.1",
            **{name.replace("_", "-"): each for name, each in headers.items()},
        }
        if self.jar:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": self.prefix, "QUERY_STRING": query,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": "application/x-www-form-urlencoded", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()},
        }  # fmt: skip
        started: list[Any] = []
        content = b"".join(self.app(environ, lambda status, sent, _error=None: started.append((status, sent))))
        ((status, sent),) = started
        answer = Answer(int(status[:3]), sent, content)
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            if "Max-Age=0" in cookie:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return answer

    def crawl(self, start: str = "/", most: int = 400, *, each: int = 3) -> dict[str, Answer]:
        """What every link from `start` on leads to, by its target below the prefix; a few of each kind of address."""
        found: dict[str, Answer] = {}
        kinds: dict[str, int] = {}
        waiting = [start]
        while waiting and len(found) < most:
            target = waiting.pop(0)
            if target in found:
                continue
            found[target] = answer = self.get(target)
            if "text/html" not in answer.headers.get("content-type", ""):
                continue
            for link in links(answer.text):
                address = urljoin(self.prefix + answer.target, link)
                assert address.startswith(self.prefix + "/"), f"{link} on {target} leads out of {self.prefix}"
                below = address.removeprefix(self.prefix).partition("#")[0]
                kind = re.sub(r"/(executions)/\d+", r"/\1/N", re.sub(r"=[^&]*", "", below))
                kinds[kind] = kinds.get(kind, 0) + 1
                if kinds[kind] <= each:
                    waiting.append(below)
        return found


def links(html: str) -> list[str]:
    """Every address in a page that is on this server."""
    found = re.findall(r'\b(?:href|src|action)="([^"#]*)(?:#[^"]*)?"', html)
    return [each.replace("&amp;", "&") for each in found if each and not urlsplit(each).scheme]


class Words(HTMLParser):
    """Collects the text of a page, and what tags it has."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []
        self._skipped = 0

    @classmethod
    def of(cls, html: str) -> str:
        parser = cls()
        parser.feed(html)
        return " ".join(" ".join(parser.parts).split())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._skipped += tag in {"script", "style", "title", "symbol"}

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in {"script", "style", "title", "symbol"}

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.parts.append(data)

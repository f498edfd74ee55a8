"""A store with the demo's world at a fixed moment, its page on a socket, and a browser where there is one."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.cli import demo
from jobstore.http.serve import Server
from jobstore.language.instants import instant_us
from jobstore.testing import FrozenClock
from jobstore.wsgi import create_app
from tests.waiting import LONG_SECONDS
from tests.web.site import NOW, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG_URL = "https://logs.example.com/trace/{trace_id}"


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store as of `NOW`."""
    path = tmp_path_factory.mktemp("page") / "demo.db"
    jobstore.load(path, demo.document(instant_us(NOW)))
    return path


@pytest.fixture(scope="session")
def store(path: Path) -> Iterator[jobstore.JobStore]:
    with jobstore.open(path, clock=FrozenClock(NOW)) as store:
        yield store


@pytest.fixture(scope="session")
def app(store: jobstore.JobStore) -> Any:
    return create_app(store, open_access=True, page=True, log_url=LOG_URL)


@pytest.fixture
def site(app: Any) -> Site:
    return Site(app)


@pytest.fixture(scope="session")
def failed(store: jobstore.JobStore) -> str:
    """The number of a failed run."""
    return store.get_job_executions("sync_balances", status="FAILURE", limit=1)["data"][0]["id"]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """The application on a free port of this machine."""
    server = Server(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(LONG_SECONDS)


@pytest.fixture(scope="session")
def url(app: Any) -> Iterator[str]:
    with served(app) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's browser, driven by playwright; without either, the tests that need it are skipped.

    While playwright is open an event loop runs in this thread, so it must not stay open beside tests that run their own.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra test has it)")
    program = next((found for name in ("chromium", "chromium-headless-shell") if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no browser: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            timeout=LONG_SECONDS * 1000,
            args=["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP jobs.lan 127.0.0.1"],
        )
        yield browser
        browser.close()


class Visitor:
    """Opens pages; whatever a page complains about, and any request elsewhere, fails the test at its end."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._contexts: list[Any] = []

    def open(self, target: str = "/", *, width: int = 1280, url: str | None = None, **options: Any) -> Any:
        """A page in a context of its own."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-GB"} | options)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONG_SECONDS * 1000)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective));"
        )
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._request(request.url, url or self.url))
        page.goto((url or self.url) + target)
        return page

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _request(self, address: str, home: str) -> None:
        self.requests.append(address)
        if not address.startswith(home + "/"):
            self.complaints.append(f"a request to {address}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.complaints == []


@pytest.fixture
def visitor(chromium: Any, url: str) -> Iterator[Visitor]:
    visitor = Visitor(chromium, url)
    yield visitor
    visitor.close()

"""The page inside other applications and behind a proxy, by what docs/page.md prints; and out of a wheel."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

from jobstore.wsgi import create_app
from tests.ports import free_port
from tests.waiting import LONG_SECONDS, until
from tests.web.conftest import served
from tests.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GOOD = "s3cret"


def printed(language: str, word: str) -> str:
    """The block of docs/page.md in this language that holds a word."""
    text = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if word in each]
    return str(block)


def run(block: str, path: Path) -> Any:
    """The application that a printed block makes, over this store."""
    names: dict[str, Any] = {"__name__": "printed"}
    exec(block.replace('"jobs.db"', repr(str(path))), names)
    return names["app"]


def check(visitor: Any, url: str) -> None:
    """Sign in, go through every view by its links, sign out."""
    context = visitor.browser.new_context()
    wrong: list[str] = []
    page = context.new_page()
    page.set_default_timeout(LONG_SECONDS * 1000)

    def note(response: Any) -> None:
        if response.status >= 400:
            wrong.append(f"{response.status} {response.url}")

    page.on("response", note)
    page.goto(f"{url}/ops/jobs/executions?range=all")
    assert wrong == [f"401 {url}/ops/jobs/executions?range=all"]
    wrong.clear()
    page.locator("#token").fill(GOOD)
    page.keyboard.press("Enter")
    page.wait_for_selector("table.runs")
    assert page.url == f"{url}/ops/jobs/executions?range=all"
    page.locator("table.runs .c-id a").first.click()
    page.locator("h1 a").click()
    page.locator(".top nav a").nth(2).click()
    page.locator(".top nav a").nth(0).click()
    page.wait_for_selector("table.jobs")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.top')).position") == "sticky"
    )  # the stylesheet is there
    page.locator("#settings > summary").click()
    page.locator("select[name=lang]").select_option("zh")
    page.locator("#settings button").first.click()
    until(lambda: page.locator("h1").inner_text() == "任务")
    assert {each["path"] for each in context.cookies()} == {"/ops/jobs"}
    page.locator("#settings > summary").click()
    page.locator("form[action$=logout] button").click()
    page.wait_for_selector("#token")
    assert wrong == [f"401 {url}/ops/jobs/"]
    context.close()


def check_without_browser(url: str) -> None:
    """The same by requests alone; what a browser makes of them under a prefix is seen in another mount."""
    site = Site(Remote(url), "/ops/jobs")
    wanted = "/executions?range=all"
    form = site.get(wanted)
    assert form.status == 401
    (action,) = re.findall(r'<form action="([^"]+)" method="post"', form.text)
    assert urljoin("/ops/jobs" + wanted, action) == "/ops/jobs/login"
    answer = site.post("/login", {"token": GOOD, "next": wanted[1:]})
    assert answer.status == 303
    assert urljoin("/ops/jobs/login", answer.headers["location"]) == "/ops/jobs" + wanted
    assert 'class="runs' in site.get(wanted).text
    assert '<html lang="zh-CN"' in site.get("/settings?lang=zh&next=").text
    found = site.crawl(each=1)
    assert len(found) > 40
    wrong = {target: answer.status for target, answer in found.items() if answer.status != 200}
    assert wrong == {"/logout": 405}  # the address of a form, which is not asked
    assert site.post("/logout", {}).status == 303
    assert site.get("/").status == 401


def test_in_flask(visitor, path):
    pytest.importorskip("flask")
    with served(run(printed("python", "Flask"), path)) as url:
        check(visitor, url)


def test_in_fastapi(path):
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    server = uvicorn.Server(uvicorn.Config(run(printed("python", "FastAPI"), path), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        check_without_browser(f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(120)


@contextlib.contextmanager
def nginx(location: str, folder: Path) -> Iterator[str]:
    """A real nginx with this location, on a free port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx: apt-get install nginx-light")
    port = free_port()
    temporary = "".join(f"{name}_temp_path {folder};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
    )
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.PIPE)
    try:
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=120)


class Remote:
    """A server at an address, as an application for `Site`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        path = urllib.request.quote((environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode("latin-1"))  # type: ignore[attr-defined]
        given = {"Accept": environ["HTTP_ACCEPT"], "Content-Type": environ["CONTENT_TYPE"]}
        given |= {"Cookie": environ["HTTP_COOKIE"]} if "HTTP_COOKIE" in environ else {}
        body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else None
        request = urllib.request.Request(self.url + path + query, body, given, method=environ["REQUEST_METHOD"])

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_args: Any) -> None:
                return None

        try:
            answer = urllib.request.build_opener(Stay).open(request, timeout=120)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            start_response(f"{answer.status} -", list(answer.headers.items()))
            return [answer.read()]


def test_behind_nginx_under_a_prefix_that_it_takes_off(path, tmp_path):
    with (
        served(create_app(path, tokens={GOOD: {"read:jobs"}}, page=True)) as inner,
        nginx(printed("nginx", "proxy_pass").replace("http://127.0.0.1:8000", inner), tmp_path) as url,
    ):
        check_without_browser(url)


def test_out_of_a_wheel_the_page_loads_with_all_its_assets(tmp_path, path):
    pytest.importorskip("hatchling")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    program = f"""
import re, sys
sys.path.insert(0, {str(tmp_path / "site")!r})
import jobstore
assert jobstore.__file__.startswith({str(tmp_path)!r})
from wsgiref.util import setup_testing_defaults
from jobstore.wsgi import create_app
app = create_app({str(path)!r}, open_access=True, page=True)
def get(path):
    environ = {{"PATH_INFO": path}}
    setup_testing_defaults(environ)
    said = []
    body = b"".join(app(environ, lambda status, headers, error=None: said.append(status)))
    assert said == ["200 OK"], (path, said)
    return body.decode()
for view in ("/", "/executions", "/timeline", "/jobs/sync_balances", "/executions/1"):
    html = get(view)
assets = re.findall(r'"\\.\\./(assets/[^"]+)"', html)
assert len(assets) == 3
for asset in assets:
    assert get("/" + asset)
"""
    subprocess.run([sys.executable, "-I", "-c", program], check=True, timeout=120, cwd=tmp_path)


SHORT_DEMO = """
from jobstore.cli import demo, main
demo.HISTORY_DAYS = 2
main()
"""


def test_the_demo_serves_its_page_and_says_where(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SHORT_DEMO, "demo", "--serve"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr
        line = next(line for line in process.stderr if "http://" in line)
        address = re.search(r"http://\S+", line)
        assert address is not None
        request = urllib.request.Request(address[0], headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert b"sync_balances" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert "serve jobstore-demo.db --open" in out.splitlines()[-1]
    assert process.returncode in {0, 130}

"""Signing in: who may look, what the cookie is, and where a token never is."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

import jobstore.tokens
from jobstore.http.session import Sessions, Throttle, form, reader_address
from jobstore.wsgi import create_app
from tests.waiting import LONG_SECONDS
from tests.web.conftest import served
from tests.web.site import Site

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "s3cret-token"
POOR = "lacks-permission"


@pytest.fixture
def kept(path: Path) -> Site:
    """The page of a server with tokens."""
    return Site(create_app(path, tokens={GOOD: {"read:jobs"}, POOR: {"read:metrics"}}, page=True))


def sign_in(site: Site, token: str, **headers: str) -> Any:
    return site.post("/login", {"token": token, "next": "executions?status=FAILURE"}, **headers)


@pytest.mark.parametrize(
    "target", ["/", "/jobs/sync_balances", "/jobs/nothing", "/executions", "/executions/1", "/timeline", "/x"]
)
def test_without_a_token_every_view_is_the_form_and_says_nothing_of_jobs(kept, target):
    answer = kept.get(target)
    assert answer.status == 401
    assert 'type="password"' in answer.text
    assert "sync_symbols" not in answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_good_token_leads_to_where_one_wanted_to_go(kept):
    assert 'name="next" value="executions?status=FAILURE"' in kept.get("/executions?status=FAILURE").text
    answer = sign_in(kept, GOOD)
    assert (answer.status, answer.headers["location"]) == (303, "./executions?status=FAILURE")
    assert kept.get("/executions?status=FAILURE").status == 200
    assert "Sign out" in kept.get("/").words


def test_the_form_and_what_it_leads_to_keep_the_language_of_the_address(kept):
    chinese = '<html lang="zh-CN"'
    assert chinese in kept.get("/executions?lang=zh").text
    place = {"next": "executions?lang=zh"}
    assert chinese in kept.post("/login", {"token": "wrong", **place}).text
    answer = kept.post("/login", {"token": GOOD, **place})
    assert answer.headers["location"] == "./executions?lang=zh"


def test_the_cookie_has_its_flags_and_is_neither_the_token_nor_of_use_to_the_api(kept):
    (cookie,) = sign_in(kept, f"  {GOOD}\n").cookies
    value, *flags = cookie.split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
    assert not any(flag.startswith(("Path", "Domain")) or flag == "Secure" for flag in flags)
    value = value.partition("=")[2]
    assert re.fullmatch("[0-9a-f]{64}", value)
    assert GOOD not in cookie
    kept.jar = {}
    assert kept.get("/api/v1/jobs", Authorization=f"Bearer {value}").status == 401
    assert kept.get("/", Authorization=f"Bearer {value}").status == 401
    kept.jar = {"jobstore_session": value}
    assert kept.get("/").status == 200
    assert kept.get("/api/v1/jobs").status == 401  # so no page elsewhere can use a cookie to read the API


@pytest.mark.parametrize("target", ["//api/v1/jobs", "///api/v1/states", "/metrics", "//metrics"])
def test_the_cookie_opens_no_other_spelling_of_the_api(kept, target):
    sign_in(kept, GOOD)
    assert kept.get(target).status == 401
    assert kept.get(target, Authorization=f"Bearer {GOOD}").status == 200


@pytest.mark.parametrize("target", ["/loginx", "/login/", "/logout/x", "/settingsx", "/settings/", "/assets"])
def test_beside_the_form_and_its_files_no_address_is_open(kept, target):
    assert kept.get(target, follow=False).status == 401


def test_cookies_of_other_programs_on_this_host_do_not_hide_ours(kept):
    sign_in(kept, GOOD)
    ours = f"jobstore_session={kept.jar['jobstore_session']}"
    kept.jar = {}
    for header in (
        f'a={{"b": 1}}; {ours}',
        f"c[]=1 2; {ours};",
        f"bare; {ours}",
        f"{ours}; jobstore_session=elsewhere",
    ):
        assert kept.get("/", Cookie=header).status == 200, header


def test_servers_on_two_ports_of_a_host_do_not_sign_each_other_out(path):
    first, second = (Site(create_app(path, tokens={token: {"read:jobs"}}, page=True)) for token in (GOOD, "other"))
    second.jar = first.jar  # as in a browser, where a host's cookies go to all of its ports
    for site, token, port in ((first, GOOD, 8080), (second, "other", 9090)):
        sign_in(site, token, Host=f"127.0.0.1:{port}")
    assert first.get("/", Host="127.0.0.1:8080").status == second.get("/", Host="127.0.0.1:9090").status == 200
    first.post("/logout", {}, Host="127.0.0.1:8080")
    assert first.get("/", Host="127.0.0.1:8080").status == 401
    assert second.get("/", Host="127.0.0.1:9090").status == 200


@pytest.mark.parametrize("host", ["", "127.0.0.1", "[::1]", "127.0.0.1:", "127.0.0.1:８０", "127.0.0.1:1;x=2"])
def test_a_host_without_a_sensible_port_adds_nothing_to_the_name(host):
    assert Sessions.sign_out({"HTTP_HOST": host, "wsgi.url_scheme": "http"}).startswith("jobstore_session=;")


def test_the_form_comes_though_the_address_names_no_zone(kept):
    answer = kept.get("/?tz=nonsense")
    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("length", ["\xb2", "9" * 5_000, "-1", "x"])
def test_a_body_without_a_sensible_length_is_no_form(length):
    assert form({"CONTENT_LENGTH": length, "wsgi.input": BytesIO(b"token=a")}) == {}


def test_behind_tls_the_cookie_is_secure(kept):
    (cookie,) = sign_in(kept, GOOD, X_Forwarded_Proto="https").cookies
    assert "; Secure" in cookie


@pytest.mark.parametrize(("proto", "is_secure"), [("https", True), ("http", False)])
def test_a_real_server_hears_from_its_proxy_that_the_reader_uses_tls(kept, proto, is_secure):
    with served(kept.app) as url:
        server = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LONG_SECONDS)
        server.request("POST", "/login", f"token={GOOD}", {"X-Forwarded-Proto": proto})
        with contextlib.closing(server), server.getresponse() as answer:
            assert answer.status == 303
            assert ("; Secure" in answer.headers["Set-Cookie"]) == is_secure


@pytest.mark.parametrize("value", ["", "0" * 64, GOOD, "é", "a;b", "x" * 5000])
def test_a_made_up_cookie_opens_nothing(kept, value):
    kept.jar = {"jobstore_session": value}
    assert kept.get("/").status == 401


def test_the_digests_of_the_token_file_open_nothing(tmp_path, path):
    tokens = tmp_path / "tokens"
    jobstore.tokens.create(tokens, label="a")
    site = Site(create_app(path, authenticate=jobstore.tokens.load(tokens), page=True))
    for digest in re.findall("[0-9a-f]{64}", tokens.read_text()):
        site.jar = {"jobstore_session": digest}
        assert site.get("/").status == 401
        assert site.get("/", Authorization=f"Bearer {digest}").status == 401


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_session_ends_with_its_token(tmp_path, path, end):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    tokens = tmp_path / "tokens"
    token = jobstore.tokens.create(tokens, label="a", expires_at=now[0] + timedelta(days=1), now=now[0])
    jobstore.tokens.create(tokens, label="other", now=now[0])
    site = Site(create_app(path, authenticate=jobstore.tokens.load(tokens, clock=lambda: now[0]), page=True))
    assert sign_in(site, token).status == 303
    # Another worker process, or the server after a restart, knows the cookie as well.
    again = Site(create_app(path, authenticate=jobstore.tokens.load(tokens, clock=lambda: now[0]), page=True))
    again.jar = dict(site.jar)
    assert again.get("/").status == 200
    if end == "revoked":
        jobstore.tokens.revoke(tokens, "a")
    else:
        now[0] += timedelta(days=2)
    assert site.get("/").status == again.get("/").status == 401
    assert sign_in(site, token).status == 401


def test_a_token_without_the_permission_is_told_so(kept):
    answer = sign_in(kept, POOR)
    assert answer.status == 401
    assert "lacks the permission read:jobs" in answer.words
    assert answer.cookies == []
    assert kept.get("/", Authorization=f"Bearer {POOR}").status == 403


def test_signing_out_removes_the_cookie(kept):
    sign_in(kept, GOOD)
    answer = kept.post("/logout", {})
    assert (answer.status, answer.headers["location"]) == (303, "./")
    assert "Max-Age=0" in answer.cookies[0]
    assert kept.get("/").status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_a_form_of_another_site_is_refused(kept, headers):
    answer = sign_in(kept, GOOD, **headers)
    assert answer.status == 401
    assert answer.cookies == []
    sign_in(kept, GOOD)
    assert kept.post("/logout", {}, **headers).cookies == []


def test_our_own_form_is_taken(kept):
    assert sign_in(kept, GOOD, Origin="http://127.0.0.1").status == 303
    assert sign_in(kept, GOOD, Sec_Fetch_Site="same-origin", Origin="https://proxy.example").status == 303


def test_a_reader_who_comes_by_a_link_from_elsewhere_is_let_in_by_the_cookie_that_stayed_behind(kept):
    assert 'http-equiv="refresh" content="0"' in kept.get("/", Sec_Fetch_Site="cross-site").text
    assert "http-equiv" not in kept.get("/", Sec_Fetch_Site="same-origin").text


def test_wrong_tokens_slow_down(path, monkeypatch):
    monkeypatch.setattr("jobstore.http.session.Throttle", lambda: Throttle(lambda: 0.0))  # no time passes
    kept = Site(create_app(path, tokens={GOOD: {"read:jobs"}}, page=True))
    statuses = [sign_in(kept, f"wrong-{number}").status for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    answer = sign_in(kept, GOOD)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_behind_a_proxy_one_stranger_keeps_nobody_else_out(path):
    app = create_app(path, tokens={GOOD: {"read:jobs"}}, page=True)
    with served(app) as url:

        def sign_in_from(address: str, token: str) -> int:
            server = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LONG_SECONDS)
            server.request("POST", "/login", f"token={token}", {"X-Forwarded-For": address})
            with contextlib.closing(server), server.getresponse() as answer:
                return answer.status

        # What stands in front of the last word comes from the stranger, who may choose another each time.
        assert [sign_in_from(f"10.0.0.{number}, 192.0.2.7", "wrong") for number in range(6)] == [401] * 5 + [429]
        assert sign_in_from("192.0.2.7", GOOD) == 429
        assert sign_in_from("192.0.2.8", GOOD) == 303


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [("127.0.0.1", None, "127.0.0.1"), ("127.0.0.1", " ", "127.0.0.1"), ("::1", "a, ::2", "::2"),
     ("192.0.2.9", "192.0.2.7", "192.0.2.9"), ("", "192.0.2.7", ""), ("127.0.0.1", "x" * 9_000, "x" * 64)],
)  # fmt: skip
def test_only_a_proxy_on_this_machine_says_who_asks(remote, forwarded, address):
    given = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert reader_address({"REMOTE_ADDR": remote, **given}) == address


def test_the_wait_doubles_and_ends():
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    here, there = {"REMOTE_ADDR": "a"}, {"REMOTE_ADDR": "b"}
    waits = []
    for _ in range(14):
        throttle.count(here)
        waits.append(throttle.wait(here))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert throttle.wait(there) == 0
    now[0] = 200
    assert throttle.wait(here) == 0
    throttle.count(here)
    assert throttle.wait(here) == 0


@pytest.mark.parametrize("body", [b"", b"token=" + b"x" * 20_000, b"token=%ff", b"\xff\xfe", b"token=a&token=b", b"{}"])
def test_a_form_that_is_none_is_a_wrong_token(kept, body):
    assert kept.ask("POST", "/login", body).status == 401


def test_other_methods_are_refused(kept):
    assert "POST" in kept.ask("OPTIONS", "/login").headers["allow"]
    for method, path in (("PUT", "/login"), ("DELETE", "/logout"), ("GET", "/logout")):
        answer = kept.ask(method, path)
        assert answer.status == 405
        assert "POST" in answer.headers["allow"]
        assert "read-only" not in answer.text
    assert kept.get("/login", follow=False).status == 303


def test_an_application_that_lets_readers_in_by_its_own_means_has_no_form(path):
    def authenticate(environ: dict[str, Any]) -> set[str] | None:
        return {"read:jobs"} if "flask=1" in environ.get("HTTP_COOKIE", "") else None

    site = Site(create_app(path, authenticate=authenticate, page=True))
    answer = site.get("/")
    assert answer.status == 401
    assert "password" not in answer.text
    site.jar = {"flask": "1"}
    assert site.get("/").status == 200


def test_another_host_is_refused_with_a_page(path):
    site = Site(create_app(path, open_access=True, page=True))
    answer = site.get("/", Host="rebound.example")
    assert 400 <= answer.status < 500
    assert "sync_balances" not in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_the_log_has_the_query_of_a_page_that_failed(path, caplog):
    site = Site(create_app(path, open_access=True, page=True))
    with caplog.at_level(logging.INFO, "jobstore.http"):
        assert site.get("/jobs/nope?tz=UTC").status == 404
    assert "/jobs/nope?tz=UTC" in caplog.text


def test_no_token_is_in_a_log_or_on_a_page(kept, caplog):
    caplog.set_level(logging.DEBUG)
    texts = [sign_in(kept, "wrong-token-1").text, sign_in(kept, GOOD).text]
    texts += [kept.get(target).text for target in ("/", "/executions", "/timeline")]
    by_mistake = [f"/?token={GOOD}", f"/login?token={GOOD}", f"/executions?search=a&access_token={GOOD}"]
    texts += [kept.get(target, follow=False).text for target in by_mistake]
    session = kept.jar["jobstore_session"]
    unread = [f"{path}?token={GOOD}" for path in ("/healthz", "/metrics", "/settings", "/logout", "/api/v1/jobs")]
    texts += [kept.ask(method, target).text for method in ("OPTIONS", "GET", "POST") for target in unread]
    kept.post("/logout", {})
    texts += [kept.get(target, follow=False).text for target in by_mistake]
    for secret in (GOOD, "wrong-token-1", session):
        assert not any(secret in text for text in texts)
        assert secret not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "jobs.lan"])  # without TLS, a name is less trusted than an address here
def test_in_a_browser(chromium, path, host):
    app = create_app(path, tokens={GOOD: {"read:jobs"}}, page=True)
    with served(app) as address:
        url = address.replace("127.0.0.1", host)
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(LONG_SECONDS * 1000)
        page.goto(f"{url}/executions?range=all")
        page.locator("#token:focus").wait_for()  # the field has the focus
        page.keyboard.type(GOOD)
        page.keyboard.press("Enter")
        page.wait_for_selector("table.runs")
        page.wait_for_load_state()  # with all of its rows
        assert page.url == f"{url}/executions?range=all"
        assert page.locator("table.runs tbody tr").count() == 50
        assert page.evaluate("document.cookie") == ""
        assert GOOD not in page.content() + page.url + page.evaluate("JSON.stringify([localStorage, sessionStorage])")
        context.clear_cookies()  # as if the token had ended: the next refresh asks for one
        page.evaluate("dispatchEvent(new Event('jobstore:refresh'))")
        page.locator("#token").fill(GOOD)
        page.keyboard.press("Enter")
        page.wait_for_selector("table.runs")
        assert page.url == f"{url}/executions?range=all"
        page.locator("#settings > summary").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("#token")
        context.close()

"""The page in a real browser. Every test also holds: no request elsewhere, no CSP violation, no error on the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.testing import FrozenClock
from jobstore.wsgi import create_app
from tests.waiting import until
from tests.web.conftest import Visitor, served
from tests.web.site import NOW, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFRESH = "() => dispatchEvent(new Event('jobstore:refresh'))"

# The page's own `onloadend` was set first, so it has run when this one does: a response's head, which
# playwright reports, comes before the page has read and shown the rest of it.
REFRESHED = """() => new Promise(done => {
    const send = XMLHttpRequest.prototype.send;
    XMLHttpRequest.prototype.send = function (...given) {
        XMLHttpRequest.prototype.send = send;
        this.addEventListener('loadend', done);
        send.apply(this, given);
    };
    dispatchEvent(new Event('jobstore:refresh'));
})"""


def refresh(page: Any) -> None:
    """Let the page refresh now, and wait until it shows what came."""
    page.evaluate(REFRESHED)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.evaluate("() => new Promise(requestAnimationFrame)")


# Weight, rules of access, layout.


def test_a_first_view_needs_at_most_five_requests(visitor):
    page = visitor.open("/")
    page.wait_for_load_state("networkidle")
    assert len(visitor.requests) <= 5


AXE = [(scheme, lang, width) for scheme in ("light", "dark") for lang in ("en", "zh") for width in (1280, 360)]
IN_SHORT = {("light", "en", 1280), ("dark", "zh", 360)}


@pytest.mark.parametrize(
    ("scheme", "lang", "width"),
    [pytest.param(*each, marks=[] if each in IN_SHORT else [pytest.mark.slow]) for each in AXE],
)
def test_axe_finds_nothing(visitor, failed, scheme, lang, width):
    run = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().run
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    page = visitor.open("/", color_scheme=scheme, width=width, bypass_csp=True)  # axe is put into the page from outside
    for view in (*VIEWS, "/?search=nothing", "/nothing"):
        address = view.format(failed=failed)
        page.goto(f"{visitor.url}{address}{'&' if '?' in address else '?'}lang={lang}")
        found = run(page, options=options).response["violations"]
        told = [(each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in found]
        assert told == [], view
    visitor.complaints[:] = [each for each in visitor.complaints if "404" not in each]  # of /nothing


@pytest.mark.parametrize("width", [1280, 640, 360])
def test_no_view_scrolls_sideways(visitor, failed, width):
    """640 pixels are 1280 at 200 % zoom."""
    page = visitor.open("/", width=width)
    for view in (*VIEWS, "/executions?range=30d", "/jobs/sync_tickers_5m"):
        page.goto(visitor.url + view.format(failed=failed))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


@pytest.mark.parametrize("width", [1280, 360])
def test_long_words_are_broken(visitor, tmp_path, width):
    word = "x" * 200
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder:
        recorder.save_job(
            word, job_type=word, job_category=word, interval_seconds=60, description=word, parameters={word: word}
        )
        with recorder.run(word, trace_id=word, worker_id=word, parameters={word: "before"}):
            pass
    with served(create_app(tmp_path / "jobs.db", open_access=True, page=True)) as url:
        page = visitor.open("/", url=url, width=width)
        for view in ("/", f"/jobs/{word}", "/executions", f"/executions?trace_id={word}", "/executions/1", "/timeline"):
            page.goto(url + view)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_a_phone_shows_cards(visitor):
    page = visitor.open("/", width=360)
    row, name = page.locator("table.jobs tbody tr").first, page.locator("table.jobs tbody .c-name").first
    assert row.evaluate("each => getComputedStyle(each).display") == "grid"
    assert name.bounding_box()["width"] > 200


def test_a_phone_shows_the_names_of_the_lanes(visitor):
    """A name that is too long is cut at its end, and not left out."""
    page = visitor.open("/timeline", width=360)
    beyond = "each => each.getBoundingClientRect().right - each.parentElement.getBoundingClientRect().right"
    names = page.locator(".lane-name a").all()
    assert len(names) == 16
    assert [each.inner_text() for each in names if each.evaluate(beyond) > 0] == []


def test_a_phone_shows_now_beside_the_names(visitor):
    page = visitor.open("/timeline", width=360)
    page.wait_for_selector("#live:not([hidden])")
    places = page.evaluate(
        "[...document.querySelectorAll('.lanes, .lane-name, .bars-row')].map(each => each.getBoundingClientRect().toJSON())"
    )
    lanes, name, row = places[0], places[1], places[2]
    assert name["left"] >= lanes["left"]
    assert row["right"] <= lanes["right"] + 1


def test_nothing_moves_where_motion_is_unwelcome(visitor):
    page = visitor.open("/", reduced_motion="reduce")
    moving = """() => [...document.querySelectorAll('*')].filter(each => {
        const style = getComputedStyle(each);
        return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;
    }).length"""
    assert page.evaluate(moving) == 0


def test_forced_colours_keep_every_mark(visitor):
    page = visitor.open("/executions?range=7d", forced_colors="active")
    fill = page.evaluate("getComputedStyle(document.querySelector('.bars rect.ok')).fill")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert fill != ground
    assert page.locator(".state .icon").first.is_visible()


def test_forced_colours_tell_the_kinds_of_bars_and_the_current_view_apart(visitor):
    page = visitor.open("/timeline", forced_colors="active")
    fills = page.evaluate("[...document.querySelectorAll('.key rect')].map(each => getComputedStyle(each).fill)")
    assert len(set(fills[:5])) == 5
    lines = page.evaluate(
        "[...document.querySelectorAll('.top nav a')].map(each => getComputedStyle(each).borderBottomColor)"
    )
    ground = page.evaluate("getComputedStyle(document.querySelector('.top')).backgroundColor")
    assert [line == ground for line in lines] == [True, True, False]


def test_one_run_prints_whole(visitor, failed):
    page = visitor.open(f"/executions/{failed}")
    page.emulate_media(media="print")
    assert not page.locator("header.top").is_visible()
    assert page.locator("#error-text").evaluate("each => getComputedStyle(each).maxHeight") == "none"
    assert page.locator("#error-text").is_visible()


# By keyboard, and without a script.


def test_by_keyboard_alone_from_the_first_view_to_the_error_of_a_failed_run(visitor):
    page = visitor.open("/")
    press = page.keyboard.press
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    press("Escape")
    assert page.evaluate("document.activeElement.id") == "main"
    press("/")
    page.keyboard.type("sync_balances")
    with page.expect_navigation():
        press("Enter")
    for _ in range(60):
        press("Tab")
        if page.evaluate("document.activeElement.textContent") == "sync_balances":
            break
        box = page.evaluate(
            "(() => { const b = document.activeElement.getBoundingClientRect(); return b.width * b.height; })()"
        )
        assert box > 0, "the focus is on something that is not to be seen"
    with page.expect_navigation():
        press("Enter")
    for _ in range(60):
        press("Tab")
        if page.evaluate("document.activeElement.closest('.alarm') !== null"):
            break
    with page.expect_navigation():
        press("Enter")
    assert "HTTP 401 Unauthorized" in page.locator("#error-text").inner_text()


def test_escape_closes_the_settings_and_gives_the_focus_back(visitor):
    page = visitor.open("/")
    page.locator("#settings > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#zone").is_visible()
    page.locator("#zone").focus()
    page.keyboard.press("Escape")
    assert not page.locator("#zone").is_visible()
    assert page.evaluate("document.activeElement.matches('#settings > summary')")


def test_without_a_script_every_view_and_filter_works(visitor, failed):
    page = visitor.open("/", java_script_enabled=False)
    page.locator("#n-failing").click()
    until(lambda: page.locator("table.jobs tbody tr").count() == 1)  # a click does not wait for the page it leads to
    page.locator("table.jobs .c-name a").click()
    page.locator(".alarm").wait_for()
    page.locator(".alarm a").click()
    assert "401" in page.locator("#error-text").inner_text()
    page.locator(".top nav a").nth(1).click()
    page.locator("#search").fill("klines")
    page.locator(".filters button").click()
    page.wait_for_url(re.compile("search=klines"))
    page.locator(".ranges a").nth(3).click()
    page.wait_for_url(re.compile("search=klines.*range=7d|range=7d.*search=klines"))
    page.locator(".top nav a").nth(2).click()
    until(lambda: page.locator(".lane").count() == 17)
    page.locator("#settings > summary").click()
    page.locator("select[name=lang]").select_option("zh")
    page.locator("#settings button").first.click()
    until(lambda: page.locator("h1").inner_text() == "时间线")


# The address is the state.


@pytest.mark.parametrize(
    "target",
    ["/?state=ok&order_by=name&lang=zh", "/?search=sync&job_type=kline", "/executions?status=FAILURE&range=7d&page=2",
     "/executions?after=2026-03-10T12:00:00&before=2026-03-10T18:00:00&tz=Asia/Shanghai", "/timeline?range=1h&search=sync"],
)  # fmt: skip
def test_an_address_is_the_state_of_its_view(visitor, target):
    page = visitor.open(target)
    rows = "() => [...document.querySelectorAll('#main tr[id], .lane')].map(each => each.textContent.replace(/\\s+/g, ' '))"
    first = page.evaluate(rows)
    assert first
    page.reload()
    assert page.evaluate(rows) == first
    here = page.url
    page.locator(".top nav a").nth(1 if "executions" not in target else 0).click()
    page.wait_for_url(lambda url: url != here)  # a way back that begins before the way there has ended is an error
    page.go_back()
    assert page.evaluate(rows) == first
    assert visitor.open(target).evaluate(rows) == first


# Refresh.


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[jobstore.Recorder, FrozenClock, str, Any]]:
    """A store that a recorder changes, and its page."""
    clock = FrozenClock(NOW)
    with jobstore.Recorder(tmp_path / "jobs.db", clock=clock) as recorder:
        for number in range(60):
            recorder.save_job(f"job_{number:02}", job_type="t", job_category="c", interval_seconds=3600)
            with recorder.run(f"job_{number:02}"):
                clock.advance(seconds=1)
        with jobstore.open(tmp_path / "jobs.db", clock=clock) as store:
            app = create_app(store, open_access=True, page=True)
            with served(app) as url:
                yield recorder, clock, url, store


SHIFT = """() => {
    window.shift = 0;
    new PerformanceObserver(list => { for (const e of list.getEntries()) window.shift += e.value; })
        .observe({type: 'layout-shift', buffered: false});
}"""


def test_twenty_refreshes_disturb_nothing(visitor: Visitor, changing: Any) -> None:
    recorder, clock, url, _store = changing
    page = visitor.open("/?order_by=name", url=url)
    page.evaluate(SHIFT)
    page.locator("#settings > summary").click()
    page.evaluate("scrollTo({top: 700, behavior: 'instant'})")
    assert page.evaluate("scrollY") > 600
    page.locator("#job-job_20 .c-name a").focus()
    page.evaluate("() => getSelection().selectAllChildren(document.querySelector('#job-job_21 .c-name'))")
    place = page.evaluate("scrollY")
    order = "() => [...document.querySelectorAll('tr[id]')].map(each => each.id)"
    rows = page.evaluate(order)
    for number in range(20):
        clock.advance(minutes=1)
        run = recorder.enqueue(f"job_{number + 15:02}")
        recorder.finish(run, "FAILURE", error=f"broken {number}") if number % 2 else recorder.start(run)
        refresh(page)
    assert page.evaluate("document.activeElement.textContent") == "job_20"
    assert page.evaluate("getSelection().toString()").startswith("job_21")
    assert page.evaluate("scrollY") == place
    assert page.evaluate("document.querySelector('#settings').open")
    assert page.evaluate(order) == rows
    assert page.evaluate("window.shift") < 0.01
    assert "Failing" in page.locator("#job-job_16").inner_text()
    assert "Running" in page.locator("#job-job_15").inner_text()
    assert "Now: 10 of 60 jobs need attention" in page.locator("#news").inner_text()


def test_a_new_order_waits_until_the_reader_asks(visitor, changing):
    recorder, clock, url, _store = changing
    page = visitor.open("/", url=url)
    clock.advance(minutes=1)
    recorder.finish(recorder.enqueue("job_40"), "FAILURE", error="broken")
    refresh(page)
    first = page.locator("table.jobs tbody tr").first
    assert first.get_attribute("id") != "job-job_40"
    page.locator("#live-apply").click()
    assert first.get_attribute("id") == "job-job_40"
    assert not page.locator("#live-apply").is_visible()


def test_a_failed_refresh_keeps_the_data_and_says_since_when(visitor, changing):
    _recorder, _clock, url, _store = changing
    page = visitor.open("/", url=url)
    shown = page.locator("#live-text").inner_text()
    page.route("**/*", lambda route: route.abort())
    page.evaluate(REFRESH)
    page.wait_for_selector(".live.stale")
    assert page.locator("#live-text").inner_text() == shown.replace("Updated", "Not updated since")
    assert page.locator("table.jobs tbody tr").count() == 50
    visitor.complaints[:] = [each for each in visitor.complaints if "ERR_FAILED" not in each]


def test_a_hidden_page_asks_nothing(visitor, changing):
    *_, url, _store = changing
    page = visitor.open("/settings?live=5", url=url)
    page.clock.install()
    page.reload()
    with page.expect_response(lambda response: response.request.resource_type == "xhr"):
        page.clock.run_for(6_000)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.requests.clear()
    page.clock.run_for(60_000)
    assert visitor.requests == []


def test_the_first_ages_are_right_though_the_browsers_clock_is_wrong(visitor, tmp_path):
    now = datetime.now(UTC)
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder:
        recorder.save_job("slow", job_type="t", job_category="c", interval_seconds=3600)
        recorder.start(recorder.enqueue("slow", at=now - timedelta(hours=2)), at=now - timedelta(hours=2))
    with served(create_app(tmp_path / "jobs.db", open_access=True, page=True)) as url:
        page = visitor.open("/settings?live=0", url=url)
        page.clock.install(time=now + timedelta(hours=5))
        page.goto(f"{url}/jobs/slow")
        until(lambda: page.locator("#live-text").inner_text().startswith("Updated"))
        assert not page.locator("#live-text").inner_text().startswith(f"Updated {now + timedelta(hours=5):%H:}")
        assert "2 h" in page.locator("#summary").inner_text()


def test_a_page_that_the_browser_kept_is_asked_again_when_the_reader_comes_back(visitor, changing):
    recorder, _clock, url, _store = changing
    page = visitor.open("/settings?live=0", url=url)
    page.goto(f"{url}/jobs/job_00")
    recorder.finish(recorder.enqueue("job_00"), "FAILURE", error="broken")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    page.wait_for_selector(".alarm")


def test_an_error_that_is_open_stays_open(visitor, changing):
    recorder, _clock, url, _store = changing
    recorder.finish(recorder.enqueue("job_00"), "FAILURE", error="broken")
    page = visitor.open("/jobs/job_00", url=url)
    page.locator("#dots-table > summary").click()
    recorder.finish(recorder.enqueue("job_00"), "FAILURE", error="broken again")
    refresh(page)
    assert page.evaluate("document.querySelector('#dots-table').open")
    assert "broken again" in page.locator(".alarm").inner_text()


def test_a_refresh_keeps_the_buttons_that_copy_and_their_focus_and_shows_new_ones(visitor, changing):
    recorder, clock, url, _store = changing
    run = recorder.enqueue("job_00", trace_id="t")
    recorder.start(run)
    page = visitor.open(f"/executions/{run}", url=url)
    page.locator("[data-copy=trace]").focus()
    clock.advance(minutes=1)
    recorder.finish(run, "FAILURE", error="broken")
    refresh(page)
    assert page.locator("#error-text").inner_text() == "broken"
    assert page.evaluate("document.activeElement.dataset.copy") == "trace"
    refresh(page)
    assert [each.is_visible() for each in page.locator(".copy").all()] == [True, True]


def test_a_refresh_offers_the_types_that_there_are_now(visitor, changing):
    recorder, _clock, url, _store = changing
    page = visitor.open("/", url=url)
    recorder.save_job("job_00", job_type="a_new_type", job_category="c")
    refresh(page)
    offered = page.evaluate("[...document.querySelectorAll('#types option')].map(each => each.value)")
    assert "a_new_type" in offered
    assert len(offered) == len(set(offered))


# Small things.


def test_copy_takes_the_whole_error(visitor, failed):
    page = visitor.open(f"/executions/{failed}", permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("window.setTimeout = () => 0")  # the button goes on saying that it copied
    page.locator("[data-copy=error-text]").click()
    page.locator("[data-copy=error-text]", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#error-text").inner_text()


def test_the_zone_of_the_browser_is_offered(visitor):
    page = visitor.open("/", timezone_id="Asia/Tokyo")
    page.locator("#settings > summary").click()
    page.locator("#zone").select_option("Asia/Tokyo")
    page.locator("#settings button").first.click()
    until(lambda: "Times in Asia/Tokyo" in page.locator("footer").inner_text())


def test_a_click_on_a_bar_narrows(visitor):
    page = visitor.open("/executions?range=24h")
    page.locator("#histogram .bars a").nth(12).locator(".hit").click()
    page.wait_for_url(re.compile(r"after=2026-03-10T21:00:00Z"))
    assert page.locator("table.runs tbody tr").count() > 10


# The five ways of docs/page.md, each with at most three clicks.


def test_the_five_ways(visitor):
    page = visitor.open("/")
    # What is wrong now, and since when: no click.
    assert page.locator("#summary").inner_text() == "3 of 16 jobs need attention"
    assert re.search(r"Failing\s+17 h · 72 in a row", page.locator("#job-sync_balances").inner_text())
    # The whole error of one failed run, and its trace: two clicks.
    page.locator("#job-sync_balances .c-name a").click()
    page.locator(".alarm a").click()
    assert page.locator("#error-text").inner_text() == "HTTP 401 Unauthorized: the API key for BNC has expired"
    assert re.fullmatch(r"\w+", page.locator("#trace").inner_text())
    # Its log: a third.
    assert page.get_by_role("link", name="Log").get_attribute("href").startswith("https://logs.example.com/trace/")
    # Whether it got slower: one click.
    page.goto(visitor.url)
    page.locator("#job-sync_orders_open .c-name a").click()
    assert "the median of the last 20 successful runs" in page.locator(".trend").inner_text()
    # What runs in the next hour: one click.
    page.locator(".top nav a").nth(2).click()
    until(lambda: page.locator(".next-run").count() >= 10)

"""The page without a browser: what each view says, its links and counts, headers, languages, odd rows, errors."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import sqlite3
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

import pytest

import jobstore
import jobstore.testing
from jobstore.language.states import STATES
from jobstore.queries import find_state
from jobstore.testing import FrozenClock
from jobstore.web import one_job
from jobstore.web import page as web_page
from jobstore.wsgi import create_app
from tests.web.site import NOW, VIEWS, Site, Words, links

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(web_page.__file__).parent


def found(pattern: str, text: str) -> str:
    """The first group (or all) of what matches, which must be there."""
    match = re.search(pattern, text, re.DOTALL)
    assert match is not None, pattern
    return str(match[match.lastindex or 0])


def number(text: str) -> int:
    return int(text.replace(",", ""))


# What is on a view.


def test_the_first_view_says_what_is_wrong_first(site):
    answer = site.get("/")
    assert answer.status == 200
    names = re.findall(r'<tr role="row" id="job-(\w+)" class="is-(\w+)"', answer.text)
    assert len(names) == 16
    assert [state for _, state in names] == sorted((state for _, state in names), key=[*STATES].index)
    assert names[0] == ("sync_fills", "lost")
    assert "3 of 16 jobs need attention" in answer.words
    assert re.search(r"monitor_balances .*? Late .*? late by 2 d", answer.words)


def test_every_state_is_in_the_demo(site):
    counts = {name: number(n) for name, n in re.findall(r'id="n-(\w+)".*?<b>([\d,]+)</b>', site.get("/").text)}
    assert sum(counts.values()) == 16
    assert all(counts[state] for state in STATES)


def test_a_job_says_since_when_and_why_it_fails_and_what_comes_next(site):
    words = site.get("/jobs/sync_balances").words
    assert re.search(r"Failing 17 h · 72 in a row · since 03-10 15:30", words)
    assert "Last error: HTTP 401 Unauthorized" in words
    assert all(clock in words for clock in ("09:30:00", "09:45:00", "10:00:00", "10:15:00", "10:30:00"))
    assert "72 × HTTP 401 Unauthorized" in words


QUERIES = {
    "/": 1,
    "/jobs/sync_balances": 5,
    "/executions": 2,
    "/executions?range=all": 6,
    "/executions?job=sync_balances": 3,
    "/executions/{failed}": 4,
    "/timeline?range=1h": 5,
}
"""As docs/page.md says."""


@pytest.mark.parametrize(("target", "most"), QUERIES.items())
def test_a_view_asks_no_more_queries_than_it_says(site, failed, monkeypatch, target, most):
    asked: list[Any] = []
    answer = jobstore.JobStore.answer

    def count(store: jobstore.JobStore, query: Any) -> Any:
        asked.append(query)
        return answer(store, query)

    monkeypatch.setattr(jobstore.JobStore, "answer", count)
    assert site.get(target.format(failed=failed)).status == 200
    assert len(asked) == most, asked


def test_a_job_is_found_in_few_queries_among_all_that_have_its_name_in_theirs(tmp_path):
    names = ["x", *(f"{number:04}x" for number in range(3_000)), "0x", "zx", "~x"]
    contents = jobstore.testing.document(names, now=NOW)
    with jobstore.testing.build(tmp_path / "a.db", contents, FrozenClock(NOW)) as store:

        class Counting:
            asked = 0

            def list_job_states(self, **keywords: Any) -> Any:
                self.asked += 1
                return store.list_job_states(**keywords)

        for name in ("x", "0x", "zx", "~x", "0000x", "0049x", "0050x", "1499x", "2999x"):
            counting: Any = Counting()
            state = find_state(counting, store.get_job(name))
            assert state is not None
            assert state["name"] == name
            assert counting.asked <= 8
        gone: Any = {**store.get_job("x"), "name": "yx"}
        assert find_state(Counting(), gone) is None  # type: ignore[arg-type]


def test_one_run_shows_its_error_whole_and_first(site, failed):
    answer = site.get(f"/executions/{failed}")
    assert answer.text.index('id="error-text"') < answer.text.index('<h2 id="h-times"')
    trace = found(r'<code id="trace">(\w+)</code>', answer.text)
    assert f'href="https://logs.example.com/trace/{trace}"' in answer.text
    assert "The same as the job's parameters now." in answer.words


def test_from_run_to_run_one_gets_through_many_that_began_at_once(tmp_path):
    at_once = [{"id": f"{number}", "started_at": ago(hours=2)} for number in range(2, 32)]
    runs = [{"id": "1", "started_at": ago(hours=3)}, *at_once, {"id": "32", "started_at": ago(hours=1)}]
    with built(tmp_path, *runs) as site:

        def way(start: int, word: str) -> list[int]:
            seen, link = [start], f"/executions/{start}"
            while leads := re.findall(rf'<a href="\.\./executions/([0-9]+)"[^>]*>[^<]*{word} run', site.get(link).text):
                seen.append(int(leads[0]))
                link = f"/executions/{seen[-1]}"
            return seen

        assert way(1, "Later") == [*range(1, 33)]
        assert way(32, "Earlier") == [*range(32, 0, -1)]


@pytest.mark.parametrize("query", ["", "search=sync&", "state=ok&"])
def test_a_page_past_the_end_says_so(site, query):
    words = site.get(f"/?{query}page=9").words
    assert "This page is past the end" in words
    assert "No job matches" not in words


def test_parameters_that_changed_since_are_shown(tmp_path):
    with jobstore.Recorder(tmp_path / "a.db") as recorder:
        recorder.save_job(
            "a", job_type="t", job_category="c", interval_seconds=60, parameters={"days": 1, "same": True}
        )
        with recorder.run("a"):
            pass
        recorder.save_job("a", job_type="t", job_category="c", parameters={"days": 2, "same": True})
    words = Site(create_app(tmp_path / "a.db", open_access=True, page=True)).get("/executions/1").words
    assert "Name Then Now days 1 2" in words


def test_the_timeline_has_a_lane_for_each_job_and_buckets_where_runs_are_dense(site):
    text = site.get("/timeline?range=24h").text
    assert len(re.findall(r'class="lane" id="lane-', text)) == 16
    lanes = dict(re.findall(r'id="lane-(\w+)">(.*?)</svg>\s*</div>', text, re.DOTALL))
    assert "dense" in lanes["sync_tickers_5m"]
    assert "dense" not in lanes["sync_klines_1h"]
    assert "next-run" in lanes["sync_klines_1h"]


def ago(**duration: float) -> str:
    return f"{NOW - timedelta(**duration):%Y-%m-%dT%H:%M:%SZ}"


@contextlib.contextmanager
def built(folder: Path, *executions: dict[str, Any], clock: FrozenClock | None = None, **job: Any) -> Iterator[Site]:
    """The page of a store with one job and these executions."""
    contents = jobstore.testing.document([{"name": "a", **job}], executions, now=NOW)
    with jobstore.testing.build(folder / "a.db", contents, clock or FrozenClock(NOW)) as store:
        yield Site(create_app(store, open_access=True, page=True))


def lane_of(site: Site, target: str) -> tuple[set[str], bool]:
    """The runs that the only lane of a timeline shows, and whether it also has buckets."""
    lane = found("<svg class=.bars-row.*?</svg>", site.get(target).text)
    return set(re.findall(r'href="\./executions/([0-9]+)', lane)), "dense" in lane


def test_the_timeline_shows_the_runs_that_began_before_it(tmp_path):
    runs = [
        {"id": "1", "started_at": ago(hours=20), "completed_at": ago(hours=8)},
        {"id": "2", "started_at": ago(hours=10), "completed_at": ago(hours=5)},
        {"id": "3", "started_at": ago(hours=9), "status": "RUNNING"},
        {"id": "4", "started_at": ago(hours=4), "completed_at": ago(hours=2)},
        {"id": "5", "started_at": ago(minutes=2), "status": "RUNNING"},
    ]
    with built(tmp_path, *runs, max_instances=9) as site:
        assert lane_of(site, "/timeline?range=6h") == ({"2", "3", "4", "5"}, False)
        assert lane_of(site, "/timeline?range=1h") == ({"3", "5"}, False)
        assert lane_of(site, f"/timeline?after={ago(hours=19)}&before={ago(hours=9.5)}") == ({"1", "2"}, False)


def test_the_timeline_shows_what_still_runs_over_the_buckets_of_a_busy_job(tmp_path):
    runs = [{"id": f"{number}", "started_at": ago(minutes=350 - number)} for number in range(1, 90)]
    runs += [{"id": "90", "started_at": ago(hours=9), "status": "RUNNING"},
             {"id": "91", "started_at": ago(minutes=9), "status": "RUNNING"}]  # fmt: skip
    with built(tmp_path, *runs, max_instances=9) as site:
        assert lane_of(site, "/timeline?range=6h") == ({"90", "91"}, True)


def test_the_timeline_shows_the_runs_that_began_before_it_however_many_came_later(tmp_path):
    runs = [{"id": f"{number}", "started_at": ago(minutes=90 - number)} for number in range(1, 60)]
    runs += [{"id": "60", "started_at": ago(hours=12), "completed_at": ago(hours=9)},
             {"id": "61", "started_at": ago(hours=11), "completed_at": ago(hours=10.5)},
             {"id": "62", "started_at": ago(hours=11), "status": "PENDING", "created_at": ago(hours=11)}]  # fmt: skip
    with built(tmp_path, *runs, max_instances=9) as site:
        window = f"after={ago(hours=10)}&before={ago(hours=8)}"
        assert lane_of(site, f"/timeline?{window}") == ({"60", "62"}, False)


def test_no_chart_has_more_than_400_marks(site, failed):
    for target in ("/", "/jobs/sync_tickers_5m", "/executions?range=30d", "/executions?range=7d", "/timeline?range=7d"):
        for chart in re.findall(
            r"<svg class=\"(?:bars|dots|bars-row|strip)\".*?</svg>", site.get(target).text, re.DOTALL
        ):
            assert len(re.findall(r"<(?:a |path |g>)", chart)) <= 400


# Counts and links.


def total_of(words: str) -> int:
    shown = re.search(r"[\d,]+ to [\d,]+ of ([\d,]+)", words)
    return number(shown[1]) if shown else 0


@pytest.mark.parametrize(
    "target",
    ["/", "/?search=sync", "/executions", "/executions?range=7d&search=klines", "/executions?range=all",
     "/executions?job=sync_balances&range=30d", "/executions?trace_id=none&range=all",
     "/executions?after=2026-03-10T12:00:00Z&before=2026-03-10T18:30:00Z"],
)  # fmt: skip
def test_every_count_links_to_a_list_whose_total_equals_it(site, target):
    answer = site.get(target)
    counters = found(r'<nav class="counters".*?</nav>', answer.text)
    counted = re.findall(r'href="([^"]*)".*?<b>([\d,]+)</b>', counters, re.DOTALL)
    assert len(counted) in {6, 9}
    for link, count in counted:
        assert total_of(site.get(urljoin(target, unescape(link))).words) == number(count), link


def test_filters_narrow(site):
    names = re.findall(r'class="c-job"[^>]*><a[^>]*><bdi>(\w+)', site.get("/executions?range=7d&search=klines").text)
    assert set(names) == {"sync_klines_1h", "monitor_klines"}
    assert total_of(site.get("/executions?range=1h").words) < total_of(site.get("/executions?range=6h").words)
    assert "sync_fills" not in site.get("/?job_category=cleanup").words
    assert "1 to 4 of 4" in site.get("/?job_category=monitor").words


@pytest.mark.parametrize(
    ("query", "first"),
    [("order_by=name&order_desc=true", "sync_transfers"), ("order_by=p95_ms", "backfill_fills"),
     ("order_by=p95_ms&order_desc=false", "monitor_klines"), ("order_by=success_rate", "sync_balances")],
)  # fmt: skip
def test_orders_put_first_what_one_looks_for(site, query, first):
    assert re.findall(r'<tr role="row" id="job-(\w+)"', site.get(f"/?{query}").text)[0] == first


@pytest.mark.parametrize("target", ["/executions", "/executions?range=30d", "/jobs/sync_orders_open"])
def test_every_bar_links_to_its_own_runs(site, target):
    table = found(r'<details class="table" id="(?:histogram|days)-table">.*?</details>', site.get(target).text)
    rows = re.findall(r'<a href="([^"]*)">([\d,]+)</a>', table)
    assert rows
    for link, count in [rows[0], rows[len(rows) // 2], rows[-1]]:
        assert total_of(site.get(urljoin(target, unescape(link))).words) == number(count), link


FIELD = re.compile(r'<input type="(?:hidden|datetime-local|search)"[^>]* name="(\w+)" value="([^"]*)"')


@pytest.mark.parametrize(
    ("query", "total"),
    [("after=2026-03-10T21:00:00Z&before=2026-03-10T21:59:59.999999Z", 2),
     ("after=2025-10-26T01:00:00Z&before=2025-10-26T01:00:00Z&tz=Europe/Berlin", 1),  # the second 02:00 of that day
     ("after=2025-10-26T00:00:00Z&before=2025-10-26T00:00:00Z&tz=Europe/Berlin", 2),
     ("after=2025-10-26T02:00&before=2025-10-26T02:00&tz=Europe/Berlin", 2),
     ("before=9999-12-31T23:59:59Z&tz=Asia/Tokyo", 5), ("after=0001-01-01T00:00:00Z&tz=America/New_York", 5)],
)  # fmt: skip
def test_apply_with_nothing_changed_changes_no_row(tmp_path, query, total):
    starts = ["2025-10-26T00:00:00Z", "2025-10-26T00:00:00Z", "2025-10-26T01:00:00Z", "2026-03-10T21:00:00Z",
              "2026-03-10T21:59:59.500000Z"]  # fmt: skip
    with built(tmp_path, *({"started_at": start} for start in starts)) as site:
        first = site.get(f"/executions?{query}")
        fields = dict(FIELD.findall(found('<form class="filters".*?</form>', first.text)))
        second = site.get(f"/executions?{urlencode(fields)}")
        short = fields | {name: fields[name].removesuffix(":00") for name in ("after", "before")}  # as browsers send it
        for answer in (first, second, site.get(f"/executions?{urlencode(short)}")):
            assert total_of(answer.words) == total
        links_of = [found('<nav class="ranges".*?</nav>', each.text) for each in (first, second)]
        assert "exact" not in links_of[1]
        other = fields | {"before": "2025-10-27T00:00:00"}
        assert total_of(site.get(f"/executions?{urlencode(other | {'after': ''})}").words) == 3


def test_every_link_leads_somewhere(site):
    found = site.crawl()
    assert len(found) > 100
    assert {target: answer.status for target, answer in found.items() if answer.status != 200} == {}


def test_every_kind_of_link_stays_under_a_prefix(app):
    found = Site(app, "/ops/jobs").crawl(each=1)
    assert len(found) > 50
    assert {target: answer.status for target, answer in found.items() if answer.status != 200} == {}


@pytest.mark.parametrize(
    ("prefix", "location"),
    [("/ops/jobs", "jobs/"), ("/任务 1".encode().decode("latin-1"), "%E4%BB%BB%E5%8A%A1%201/"), ("/a:b", "a%3Ab/")],
)
def test_the_prefix_alone_is_led_to_its_slash(app, prefix, location):
    answer = Site(app, prefix).get("", follow=False)
    assert (answer.status, answer.headers["location"]) == (303, location)
    (server,) = json.loads(Site(app, prefix).get("/openapi.json").body)["servers"]
    assert f"{server['url']}/".endswith(f"/{location}")


def test_a_job_asked_by_its_number_has_one_address(site):
    answer = site.get("/jobs/4", follow=False)
    assert (answer.status, answer.headers["location"]) == (303, "../jobs/sync_balances")


# On the wire.


def test_all_assets_together_weigh_at_most_40_kb():
    page = sum(len(gzip.compress(body)) for body, _ in web_page.assets().values())
    assert page <= 40_000


def test_headers_of_a_view(site):
    headers = site.get("/").headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-cache"
    assert "Cookie" in headers["vary"]


def test_assets_are_immutable_and_named_by_their_content(site):
    for link in set(re.findall(r'"\./(assets/[^"]+)"', site.get("/").text)):
        answer = site.get(f"/{link}", Accept_Encoding="gzip")
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
        assert re.fullmatch(r"assets/\w+\.[0-9a-f]{12}\.\w+", link)


def test_a_refresh_that_finds_nothing_new_is_a_304_until_a_job_becomes_late_without_a_commit(tmp_path):
    clock = FrozenClock(NOW)
    with jobstore.Recorder(tmp_path / "a.db", clock=clock) as recorder:
        recorder.save_job("a", job_type="t", job_category="c", interval_seconds=600)
        with recorder.run("a"):
            pass
    with jobstore.open(tmp_path / "a.db", clock=clock) as store:
        site = Site(create_app(store, open_access=True, page=True))
        tag = site.get("/").headers["etag"]
        clock.advance(seconds=200)  # ages go on, and are no news
        assert site.get("/", If_None_Match=tag).status == 304
        clock.advance(seconds=800)
        late = site.get("/", If_None_Match=tag)
        assert late.status == 200
        assert "Late" in late.words


@pytest.mark.parametrize(
    "target",
    ["/", "/jobs/a", "/jobs/a?tz=Asia/Tokyo", "/executions", "/executions?range=30d", "/executions/1", "/timeline",
     "/timeline?range=7d", f"/timeline?after={NOW - timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"],
)  # fmt: skip
def test_of_an_idle_store_no_view_is_new_a_second_later(tmp_path, target):
    clock = FrozenClock(NOW)
    runs = [{"id": f"{number}", "started_at": ago(minutes=number)} for number in range(1, 100)]
    with built(tmp_path, *runs, clock=clock) as site:
        tag = site.get(target).headers["etag"]
        clock.advance(seconds=1.5)
        assert site.get(target, If_None_Match=tag).status == 304


# Languages and zones.


def test_every_sentence_has_its_chinese_and_every_chinese_its_sentence():
    texts = [each.read_text(encoding="utf-8") for each in [*FOLDER.rglob("*.html"), *FOLDER.glob("*.py")]]
    texts.append((FOLDER.parent / "http" / "session.py").read_text(encoding="utf-8"))
    texts.append((FOLDER.parent / "http" / "pages.py").read_text(encoding="utf-8"))
    chinese = json.loads((FOLDER / "zh.json").read_text(encoding="utf-8"))
    said = {each for text in texts for each in re.findall(r'(?:\b_|say)\(\s*"([^"]*)"', text)} - {"{n} "}
    assert said - chinese.keys() == set()
    assert [each for each in chinese if not any(f'"{each}"' in text for text in texts)] == []
    for english, translation in chinese.items():
        assert set(re.findall(r"\{\w+\}", translation)) == set(re.findall(r"\{\w+\}", english)), english


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_in_chinese_has_no_english_left(site, view, failed):
    words = site.get(view.format(failed=failed) + "?lang=zh").words
    chinese = json.loads((FOLDER / "zh.json").read_text(encoding="utf-8"))
    for english in chinese:
        if len(english) > 4 and not {"{", "|"} & set(english):
            assert not re.search(rf"(?<![\w']){re.escape(english)}(?![\w'])", words), english


def test_the_language_is_the_address_s_then_the_cookie_s_then_the_browser_s(site):
    assert '<html lang="zh-CN"' in site.get("/", Accept_Language="zh-CN,zh;q=0.9").text
    site.get("/settings?lang=en&next=timeline")
    assert '<html lang="en"' in site.get("/", Accept_Language="zh-CN,zh;q=0.9").text
    assert '<html lang="zh-CN"' in site.get("/?lang=zh").text
    assert "lang=zh" in site.get("/?lang=zh").text.split('aria-label="视图"')[1].split("</nav>")[0]


@pytest.mark.parametrize("target", ["/jobs/nothing?", "/executions?page=0&", "/nothing?", "/?tz=Mars/Olympus&"])
def test_an_error_page_is_in_the_language_of_its_address_and_leads_on_in_it(site, target):
    answer = site.get(f"{target}lang=zh")
    assert '<html lang="zh-CN"' in answer.text
    assert "lang=zh" in answer.text.split('aria-label="视图"')[1].split("</nav>")[0]
    assert "Mars" not in answer.text.split('aria-label="视图"')[1].split("</nav>")[0]
    site.get("/settings?lang=zh")
    assert '<html lang="zh-CN"' in site.get(target).text  # the cookie's language, whatever the address says


def test_an_error_page_keeps_the_zone_of_its_address(site):
    assert "Times in Asia/Tokyo" in site.get("/jobs/nothing?tz=Asia/Tokyo").words


def test_times_are_in_the_zone_that_is_named(site):
    assert "since 03-10 15:30:00" in site.get("/jobs/sync_balances").words
    answer = site.get("/jobs/sync_balances?tz=Asia/Shanghai")
    assert "since 03-10 23:30:00" in answer.words
    assert "Times in Asia/Shanghai" in answer.words
    site.get("/settings?tz=America/New_York")
    assert "since 03-10 11:30:00" in site.get("/jobs/sync_balances").words
    for wrong in ("/?tz=Mars/Olympus", "/settings?tz=Mars/Olympus"):
        refused = json.loads(site.get(wrong, Accept="*/*").body)["error"]
        assert refused["code"] == "INVALID_PARAMETER"
        assert refused["message"].startswith("tz: timezone must be an IANA name")


def test_a_bound_without_an_offset_is_in_the_zone_of_the_page(site):
    here = site.get("/executions?after=2026-03-10T20:00&before=2026-03-10T21:00&tz=Asia/Shanghai")
    there = site.get("/executions?after=2026-03-10T12:00:00Z&before=2026-03-10T13:00:00Z")
    assert total_of(here.words) == total_of(there.words) > 0


def test_a_time_in_a_zone_whose_offset_has_seconds_is_one_that_browsers_read(tmp_path):
    with built(tmp_path, {"started_at": "0001-01-01T00:00:00Z", "completed_at": "0001-01-01T00:00:01Z"}) as site:
        text = site.get("/executions?range=all&tz=Asia/Tokyo").text
    assert "09:18:59 LMT" in text
    assert set(re.findall(r'<time datetime="([^"]*)"', text)) == {"0001-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "place",
    ["//evil.example", "https://evil.example/", "javascript:alert(1)", "\\evil", "../x", "a\r\nb",
     "jobs/a\r\nSet-Cookie: b=1", "jobs/线", "jobs/a b"],
)  # fmt: skip
def test_settings_lead_nowhere_else(site, place):
    answer = site.ask("GET", "/settings?lang=en&next=" + "".join(f"%{byte:02x}" for byte in place.encode()))
    assert (answer.status, answer.headers["location"]) == (303, "./")


@pytest.mark.parametrize(
    "query",
    ["after=0001-01-01&tz=America/New_York", "before=9999-12-31&tz=Asia/Tokyo", "after=2026-03-10T12:00:00%2B08:00",
     "after=2026-03-10T12:00:00+08:00", "before=2026-03-10 12:00", "after=2026-03-29T02:30&tz=Europe/Berlin"],
)  # fmt: skip
def test_odd_bounds_are_answered(site, query):
    query = query.replace(" ", "%20")
    assert site.get(f"/executions?{query}").status == 200
    assert site.get(f"/timeline?{query}").status in {200, 400}


@pytest.mark.parametrize("query", ["page=0000000000000000000000001", "page=1000000000000000"])
def test_any_page_can_be_asked_for(site, query):
    assert site.get(f"/?{query}").status == 200


def test_a_job_that_next_runs_at_the_end_of_the_calendar_has_a_page(tmp_path):
    with built(tmp_path, interval_seconds=3600, anchor_at="9999-12-31T20:00:00Z") as site:
        answer = site.get("/jobs/a")
        assert answer.status == 200
        times = re.findall(r'title="9999-12-31 ([0-9:]+) UTC"', found('<ol class="next".*?</ol>', answer.text))
        assert list(dict.fromkeys(times)) == ["21:00:00", "22:00:00", "23:00:00"]


# Odd rows.

ODD = {
    "script": "<script>alert(1)</script>",
    "ansi": "\x1b[31mred\x1b[0m",
    "bidi": "abc\u202egnp.exe",
    "quotes": "\"'`&<>",
    "arabic": "مهمة النسخ الاحتياطي",
    "percent": "100% a+b?c#d",
    "unseen": "\u200b\u3164",
    "joined": "👩\u200d🚀 می\u200cخواهم ad\u200dmin",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Jobs and runs whose texts could break a page."""
    path = tmp_path_factory.mktemp("odd") / "odd.db"
    with jobstore.Recorder(path) as recorder:
        for text in ODD.values():
            recorder.save_job(
                visible_name(text), job_type="<b>", job_category="&amp;", schedule="0 0 1 1 *", description=text,
                parameters={text: [text, None, {"deep": text}]},
            )  # fmt: skip
            run = recorder.enqueue(visible_name(text), trace_id=text.replace("\x1b", "?"))
            recorder.finish(run, "FAILURE", error=f"{text}\nsecond line", result={text: text, "output": text})
        recorder.save_job("never", job_type="t", job_category="c")
        recorder.save_job("gone", job_type="t", job_category="c", interval_seconds=1)
        run = recorder.enqueue("gone")
        recorder.finish(run, "FAILURE", error="x" * 65_536)
        recorder.remove_job("gone")
        recorder.finish(recorder.enqueue("never"), "FAILURE", error=None)  # it never started
        recorder.enqueue("never")
    return Site(create_app(path, open_access=True, page=True, log_url="http://log/{trace_id}"))


def visible_name(text: str) -> str:
    """A name that a store takes: no controls."""
    return text.replace("\x1b", "~").replace("/", "|")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_odd_rows_are_shown_and_nothing_of_them_is_markup(odd, lang):
    targets = ["/", "/executions", "/timeline", *(f"/executions/{number}" for number in range(1, len(ODD) + 3))]
    for target in targets:
        answer = odd.get(f"{target}?lang={lang}")
        assert answer.status == 200
        parser = Words()
        parser.feed(answer.text)
        assert parser.tags.count("script") == 1, target
        assert "b" not in parser.tags or 'class="counters"' in answer.text
        for hidden in ("\x1b", "\u202e", "\x00"):
            assert hidden not in answer.text


def test_every_link_of_odd_rows_leads_somewhere(odd):
    found = odd.crawl()
    assert {target: answer.status for target, answer in found.items() if answer.status != 200} == {}


def test_hidden_characters_are_written_out(odd):
    words = odd.get("/executions").words
    assert "\\x1b[31mred" in words
    assert "abc\\u202egnp.exe" in words
    assert "\\u200b\\u3164" in words
    assert "👩\u200d🚀 می\u200cخواهم ad\\u200dmin" in words


def test_what_another_program_wrote_is_no_less_visible(tmp_path):
    with jobstore.Recorder(tmp_path / "a.db") as recorder:
        recorder.save_job("j", job_type="t", job_category="c", schedule="0 0 * * *")
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("UPDATE job SET schedule = schedule || char(0x202e, 0x1b), job_type = char(0x202e)")
    other.close()
    site = Site(create_app(tmp_path / "a.db", open_access=True, page=True))
    for view in ("/", "/jobs/j", "/timeline"):
        text = site.get(view).text.replace('<option value="\u202e">', "")
        assert not {"\u202e", "\x1b"} & set(text), view


def test_a_form_sends_back_what_came(site):
    assert 'value="a\u202eb"' in site.get("/?search=a%E2%80%AEb").text


def test_a_long_error_is_whole_in_its_run_and_one_line_in_a_list(odd):
    assert "x" * 65_536 in odd.get(f"/executions/{len(ODD) + 1}").text
    assert "x" * 201 not in odd.get("/executions").text
    assert "This job was removed" in odd.get(f"/executions/{len(ODD) + 1}").words


def test_an_empty_store_says_what_to_do(tmp_path):
    jobstore.Recorder(tmp_path / "a.db").close()
    site = Site(create_app(tmp_path / "a.db", open_access=True, page=True))
    assert "jobstore exec" in site.get("/").words
    assert "No execution matches" in site.get("/executions").words
    assert "Show all time" not in site.get("/executions?range=all").words
    assert "jobstore exec" in site.get("/timeline").words
    for view in ("/", "/timeline"):
        assert "No job matches" in site.get(f"{view}?search=nothing").words


def test_a_first_run_under_way_has_no_empty_chart(tmp_path):
    with jobstore.Recorder(tmp_path / "a.db") as recorder:
        recorder.save_job("first", job_type="t", job_category="c", interval_seconds=60)
        recorder.start(recorder.enqueue("first"))
    site = Site(create_app(tmp_path / "a.db", open_access=True, page=True))
    assert "No run has finished yet" in site.get("/jobs/first").words
    assert "No parameters were recorded." in site.get("/executions/1").words


# Errors.


def test_a_browser_gets_a_page_and_a_program_the_json_error(site):
    page = site.get("/nothing/here")
    assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "content-security-policy" in page.headers
    program = site.get("/nothing/here", Accept="*/*")
    assert program.status == 404
    assert json.loads(program.body)["error"]["code"] == "NOT_FOUND"
    api = site.get("/api/v1/jobs/nothing")
    assert json.loads(api.body)["error"]["message"] == "Job not found: nothing"


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [("/jobs/nothing", 404, "Job not found: nothing"), ("/executions/999999", 404, "Execution not found"),
     ("/executions?status=WRONG", 400, "status"), ("/?order_by=nothing", 400, "order_by"), ("/?page=0", 400, "page must be"),
     ("/executions?range=2y", 400, "range must be"), ("/executions?after=yesterday", 400, "after"),
     ("/executions?after=2026-01-01&exact_after=x", 400, "exact_after must be"),
     ("/?serach=a", 400, "Unknown parameter"), ("/?search=%ff", 400, "UTF-8"), ("/timeline?range=all", 400, "range must be"),
     ("/timeline?after=2026-W10-1", 400, "after"), ("/timeline?after=1999-01-01", 400, "at most 90 days"),
     ("/?page=" + "0" * 19 + "1" + "9" * 5_000, 400, "page must be"), ("/?page=1000000000000001", 400, "page must be"),
     *((f"/timeline?{each}", 400, "A timeline lies in the years 2 to 9998") for each in (
         "after=0001-01-01", "before=0001-01-01", "after=0001-01-01&before=0001-01-01T12:00",
         "before=9999-12-31T23:59:59", "after=9999-12-31T23:59:59&before=9999-12-31T23:59:59")),
     ("/executions?after=0001-01-01&tz=Asia/Tokyo", 400, "years 1 to 9999 of UTC; received '0001-01-01', in Asia/Tokyo"),
     ("/executions?before=9999-12-31T23:00&tz=America/New_York", 400, "before must be a time in the years 1 to 9999"),
     ("/timeline?after=2026-03-10&before=2026-03-09", 400, "from after to before"), ("/jobs/%ff", 400, "UTF-8")],
)  # fmt: skip
def test_an_error_is_a_page_with_the_words_of_the_api(site, target, status, words):
    answer = site.get(target)
    assert answer.status == status
    assert words in answer.words
    assert [link for link in links(answer.text) if link.partition("?")[0] in {"./", "../"}]


def test_head_is_get_without_its_body(site):
    for target in ("/", "/executions", links(site.get("/").text)[0][1:]):
        head, whole = site.ask("HEAD", target), site.get(target)
        assert (head.status, head.wire, head.headers.get("etag")) == (200, b"", whole.headers.get("etag"))


def test_a_store_that_is_away_is_said_without_its_path(tmp_path):
    site = Site(create_app(tmp_path / "secret-place.db", open_access=True, page=True))
    answer = site.get("/")
    assert answer.status == 503
    assert "The job store is unavailable" in answer.words
    assert "secret-place" not in answer.text


@pytest.mark.parametrize(
    "log_url", ["ftp://x/{trace_id}", "javascript:{trace_id}", "https://x/", "https://{trace_id}\n"]
)
def test_a_log_url_is_http_and_names_the_trace(tmp_path, log_url):
    with pytest.raises(jobstore.InvalidParameter, match="log_url"):
        create_app(tmp_path / "a.db", open_access=True, page=True, log_url=log_url)


def test_the_api_alone_has_no_page(path):
    site = Site(create_app(path, open_access=True))
    assert json.loads(site.get("/").body)["error"]["code"] == "NOT_FOUND"


# Numbers of one job.


def runs_of(*lengths: int) -> list[dict[str, Any]]:
    return [{"status": "SUCCESS", "duration_ms": each} for each in lengths]


@pytest.mark.parametrize(
    ("newest", "verdict"), [(100, ("same", 0)), (105, ("same", 5)), (150, ("slower", 50)), (50, ("faster", 50))]
)
def test_a_trend_needs_forty_runs_and_more_than_noise(newest, verdict):
    assert one_job.trend(runs_of(*[newest] * 20, *[100] * 19)) is None
    trend = one_job.trend(runs_of(*[newest] * 20, *[100] * 20))
    assert trend is not None
    assert (trend["verdict"], trend["percent"]) == verdict


def test_next_runs_follow_the_schedule_across_a_change_of_clocks():
    job = {
        "schedule_type": "cron",
        "schedule": "30 2 * * *",
        "interval_seconds": None,
        "next_run_at": "2026-03-28T01:30:00Z",
    }
    cron = one_job.next_runs(job, "Europe/Berlin", 3)
    assert [f"{each:%d %H:%M}" for each in cron] == ["28 01:30", "29 01:00", "30 00:30"]
    interval = {
        "schedule_type": "interval",
        "interval_seconds": 90,
        "schedule": None,
        "next_run_at": "2026-03-28T01:30:00Z",
    }
    assert [each - cron[0] for each in one_job.next_runs(interval, "UTC", 2)] == [timedelta(0), timedelta(seconds=90)]
    assert one_job.next_runs(interval | {"schedule_type": "external"}, "UTC", 5) == [cron[0]]
    assert one_job.next_runs(interval | {"next_run_at": None}, "UTC", 5) == []

"""Bodies on the wire: ETag and 304, gzip, the bound, and the links between pages."""

import gzip
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

import jobstore
from jobstore.http import reply
from jobstore.wsgi import create_app

PAGE = "/api/v1/jobs/executions"


# ETag and 304


def test_an_unchanged_answer_is_a_304_without_a_body(ask):
    first = ask(PAGE)
    again = ask(PAGE, if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    for name in ("etag", "cache-control", "vary"):
        assert again.headers[name] == first.headers[name]
    assert "content-length" not in again.headers
    assert "content-type" not in again.headers


@pytest.mark.parametrize("form", ["{0}", "W/{0}", '"x", {0}', '"x" ,W/{0} , "y"', "*", " * "])
def test_the_tag_may_be_weak_or_one_of_a_list(ask, form):
    tag = ask(PAGE).headers["etag"]
    assert ask(PAGE, if_none_match=form.format(tag)).status == 304
    assert ask(PAGE, "HEAD", if_none_match=form.format(tag)).status == 304


@pytest.mark.parametrize("other", ['"x"', "", '""', "x", "W/", '"*"'])
def test_any_other_tag_gets_the_body(ask, other):
    assert ask(PAGE, if_none_match=other).status == 200


def test_a_tag_without_its_quotes_is_another_one(ask):
    assert ask(PAGE, if_none_match=ask(PAGE).headers["etag"].strip('"')).status == 200


@pytest.mark.parametrize(
    "target", ["/api/v1/jobs", "/api/v1/jobs/1", PAGE, "/api/v1/stats", "/openapi.json", "/healthz"]
)
def test_every_answer_has_a_strong_tag(ask, target):
    assert re.fullmatch(r'"[0-9a-f]{32}"', ask(target).headers["etag"])


def test_errors_have_no_tag_and_are_never_a_304(ask):
    answer = ask("/api/v1/jobs/nowhere", if_none_match="*")
    assert answer.status == 404
    assert "etag" not in answer.headers


def test_a_304_needs_a_token_as_anything_else_does(ask):
    tag = ask(PAGE).headers["etag"]
    assert ask(PAGE, token="unknown", if_none_match=tag).status == 401


def test_the_tag_changes_when_the_clock_moves_the_next_run(seed_path, asker):
    now = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    with jobstore.open(seed_path, clock=lambda: now) as store:
        ask = asker(create_app(store, open_access=True))
        first = ask("/api/v1/jobs/1").headers["etag"]
        now += timedelta(minutes=29)
        assert ask("/api/v1/jobs/1", if_none_match=first).status == 304
        now += timedelta(minutes=1)
        later = ask("/api/v1/jobs/1", if_none_match=first)
        assert (later.status, later.json["next_run_at"]) == (200, "2026-01-15T10:00:00Z")


def test_the_tag_changes_when_an_execution_is_recorded(tmp_path, asker):
    with jobstore.Recorder(tmp_path / "jobs.db") as recorder:
        recorder.save_job("a", job_type="t", job_category="c", interval_seconds=60)
        ask = asker(create_app(tmp_path / "jobs.db", open_access=True))
        first = ask(PAGE).headers["etag"]
        assert ask(PAGE, if_none_match=first).status == 304
        recorder.enqueue("a")
        assert ask(PAGE, if_none_match=first).status == 200


# gzip


def test_a_page_is_compressed_where_the_client_asks(ask_history):
    plain, packed = ask_history(PAGE), ask_history(PAGE, accept_encoding="gzip, deflate, br")
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["content-length"] == str(len(packed.body))
    assert len(packed.body) < len(plain.body) / 5


def test_the_compressed_form_has_a_tag_of_its_own(ask_history):
    plain, packed = ask_history(PAGE).headers["etag"], ask_history(PAGE, accept_encoding="gzip").headers["etag"]
    assert packed == plain[:-1] + '-gzip"'
    assert ask_history(PAGE, accept_encoding="gzip", if_none_match=packed).status == 304
    assert ask_history(PAGE, accept_encoding="gzip", if_none_match=plain).status == 200
    assert ask_history(PAGE, if_none_match=packed).status == 200


def test_head_of_a_compressed_page_has_its_headers(ask_history):
    got, head = (ask_history(PAGE, method, accept_encoding="gzip") for method in ("GET", "HEAD"))
    assert head.body == b""
    assert head.headers | {"x-request-id": ""} == got.headers | {"x-request-id": ""}


def test_a_small_answer_is_left_as_it_is(ask):
    answer = ask("/api/v1/jobs/1", accept_encoding="gzip")
    assert len(answer.body) < 1024
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip;q=0.5", True),
        ("gzip; q=1.0, identity; q=0.5", True),
        ("*", True),
        ("*;q=0.1", True),
        ("br, *", True),
        ("gzip,", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=x", False),
        ("gzip;q=nan", False),
        ("gzip;q=", False),
        ("gzipped", False),
    ],
)
def test_what_asks_for_gzip(accept, asked):
    assert reply.wants_gzip(accept) is asked


# The bound


@pytest.fixture(scope="module")
def wide_path(tmp_path_factory, seed_jobs, seed_executions):
    """1,000 executions with a result of 64 KB: 63 MB of JSON."""
    wide = {**seed_executions[0], "result": {"text": "x" * 65_000}}
    path = tmp_path_factory.mktemp("wide") / "jobs.db"
    jobstore.load(path, {"jobs": seed_jobs, "executions": ({**wide, "id": str(number)} for number in range(1, 1001))})
    return path


def test_a_page_over_the_bound_names_a_limit_that_works(wide_path, asker):
    with jobstore.open(wide_path) as store:
        ask = asker(create_app(store, tokens={"s3cret": {"read:jobs"}}))
        answer = ask(f"{PAGE}?limit=1000")
        assert answer.status == 413
        assert answer.error == (
            "RESPONSE_TOO_LARGE",
            "The page would be 63 MB; the bound is 32 MB. Use limit=100 or less",
        )
        assert not {"etag", "link", "content-encoding"} & answer.headers.keys()
        assert ask(f"{PAGE}?limit=100").status == 200
        assert len(store.list_job_executions(limit=1000)["data"]) == 1000


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (30_000, "The page would be 47 KB; the bound is 30 KB. Use limit=10 or less"),
        (4_500, "The page would be 47 KB; the bound is 5 KB. Use limit=10 or less"),
        (4_000, "The page would be 47 KB; the bound is 4 KB. Use limit=1 or less"),
        (100, "The page would be 47 KB; the bound is 100 bytes. A single record is too large; read it from the file"),
    ],
)
def test_the_bound_is_adjustable(history_path, asker, bound, message):
    ask = asker(create_app(history_path, tokens={"s3cret": {"read:jobs"}}, max_body_bytes=bound))
    answer = ask(f"{PAGE}?limit=120")
    assert (answer.status, answer.error[1]) == (413, message)
    limit = re.search(r"limit=(\d+)", message)
    assert ask(f"{PAGE}?limit={limit[1] if limit else 1}").status == (200 if limit else 413)


def test_the_bound_counts_the_body_before_compression(history_path, asker):
    ask = asker(create_app(history_path, tokens={"s3cret": {"read:jobs"}}, max_body_bytes=10_000))
    assert ask(f"{PAGE}?limit=120", accept_encoding="gzip").status == 413


def test_a_document_over_the_bound_says_so(history_path, asker):
    ask = asker(create_app(history_path, tokens={"s3cret": {"read:jobs"}}, max_body_bytes=100))
    assert ask("/api/v1/jobs/1").error[1].startswith("The document would be 479 bytes; the bound is 100 bytes.")


# Links


def links_of(answer: Any) -> dict[str, str]:
    return {rel: target for target, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("link", ""))}


def offsets_of(answer: Any) -> dict[str, int]:
    return {rel: int(parse_qs(urlsplit(target).query)["offset"][0]) for rel, target in links_of(answer).items()}


@pytest.mark.parametrize(
    ("query", "offsets"),
    [
        ("limit=50", {"next": 50, "first": 0, "last": 100}),
        ("limit=50&offset=50", {"next": 100, "prev": 0, "first": 0, "last": 100}),
        ("limit=50&offset=100", {"prev": 50, "first": 0, "last": 100}),
        ("limit=50&offset=30", {"next": 80, "prev": 0, "first": 0, "last": 100}),
        ("limit=40&offset=5000", {"prev": 80, "first": 0, "last": 80}),
        ("limit=120", {}),
        ("limit=1000", {}),
        ("search=nothing&offset=10", {"prev": 0, "first": 0, "last": 0}),
    ],
)
def test_pages_link_to_each_other(ask_history, query, offsets):
    assert offsets_of(ask_history(f"{PAGE}?{query}")) == offsets


def test_following_next_reads_everything_once(ask_history):
    target: str | None = f"{PAGE}?limit=17&search=klines&order_desc=false"
    seen = []
    while target:
        answer = ask_history(target)
        seen += [each["id"] for each in answer.json["data"]]
        target = links_of(answer).get("next")
    assert seen == [str(number) for number in range(1, 121)]


def test_following_prev_goes_back_to_the_first_page(ask_history):
    target: str | None = f"{PAGE}?limit=50&offset=100"
    pages = 0
    while target:
        target, pages = links_of(ask_history(target)).get("prev"), pages + 1
    assert pages == 3


def test_links_keep_the_other_parameters_as_they_were(ask_history):
    query = f"trace_id={quote('跟踪 5')}&limit=1&search=K+l%26%3D%3C%3E&after=2026-01-01T00:00:00%2B08:00&offset=3"
    for target in links_of(ask_history(f"{PAGE}?{query}")).values():
        kept = parse_qs(urlsplit(target).query)
        assert kept["trace_id"] == ["跟踪 5"]
        assert kept["search"] == ["K l&=<>"]
        assert kept["after"] == ["2026-01-01T00:00:00+08:00"]
        assert target.isascii()
        assert list(kept)[-2:] == ["limit", "offset"]


def test_links_stay_under_the_prefix_and_in_the_jobs_own_history(ask_history):
    answer = ask_history(
        "/api/v1/jobs/sync_klines_1h/executions?limit=50", prefix="/ops/数据".encode().decode("latin-1")
    )
    assert links_of(answer)["next"] == f"{quote('/ops/数据')}/api/v1/jobs/sync_klines_1h/executions?limit=50&offset=50"


def test_links_never_name_another_host(ask_history):
    answer = ask_history("//api/v1/jobs/executions?limit=1")
    assert answer.headers["link"].startswith("</api/v1/jobs/executions?")


def test_a_304_keeps_its_links(ask_history):
    first = ask_history(f"{PAGE}?limit=50")
    again = ask_history(f"{PAGE}?limit=50", if_none_match=first.headers["etag"])
    assert (again.status, again.headers["link"]) == (304, first.headers["link"])


def test_links_too_long_for_a_proxy_are_left_out(ask_history):
    answer = ask_history(f"{PAGE}?search={quote('线' * 200)}&trace_id={quote('跟' * 200)}&offset=1")
    assert answer.status == 200
    assert "link" not in answer.headers

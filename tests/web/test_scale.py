"""The page over 10,000 jobs and a million executions: the server's own time for each view, and first paint.

Slow, and for a quiet machine: ``pytest -m slow -s tests/web/test_scale.py`` prints the figures of docs/page.md.
PAGE_STORE names a file to keep the store in, for the next time.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.language.instants import instant_text, instant_us
from jobstore.testing import FrozenClock
from jobstore.wsgi import create_app
from tests.web.conftest import Visitor, served
from tests.web.site import NOW, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
JOBS, HOURS = 10_000, 100
MINUTE_US = 60_000_000
TARGETS = (
    "/", "/?state=failing", "/?order_by=next_run_at", "/?search=job_0005", "/jobs/job_00050", "/executions",
    "/executions?range=30d", "/executions?range=30d&search=job_0005", "/executions?status=FAILURE&range=all",
    "/executions/500000", "/timeline", "/timeline?range=7d",
)  # fmt: skip


def jobs() -> Iterator[dict[str, Any]]:
    for number in range(1, JOBS + 1):
        last = instant_text(instant_us(NOW) - (number % 60 + 1) * MINUTE_US)
        yield {
            "id": f"job_{number:05}", "job_type": ("kline", "order", "fill")[number % 3], "name": f"job_{number:05}",
            "job_category": "sync", "description": "One of ten thousand", "schedule_type": "cron",
            "schedule": f"{number % 60} * * * *", "interval_seconds": None, "parameters": {"n": number},
            "timeout_seconds": 600, "max_instances": 1, "enabled": number % 97 != 0, "last_run_at": last,
            "next_run_at": None, "created_at": "2026-01-01T00:00:00Z", "updated_at": last,
        }  # fmt: skip


def executions() -> Iterator[dict[str, Any]]:
    chance = random.Random(1)
    for hour in range(HOURS):
        for number in range(1, JOBS + 1):
            start = instant_us(NOW) - (HOURS - hour) * 60 * MINUTE_US + (59 - number % 60) * MINUTE_US
            duration_ms = chance.randrange(100, 90_000)
            is_bad = chance.random() < (0.02 if number % 50 else 0.9)
            yield {
                "id": str(hour * JOBS + number), "job_id": str(number), "job_name": f"job_{number:05}",
                "status": "FAILURE" if is_bad else "SUCCESS", "started_at": instant_text(start),
                "completed_at": instant_text(start + duration_ms * 1000), "duration_ms": duration_ms,
                "result": {"rows": duration_ms}, "error": "Connection timeout\n  at sync" if is_bad else None,
                "trace_id": f"{hour:04x}{number:08x}", "worker_id": "w1", "parameters_snapshot": {"n": number},
                "created_at": instant_text(start),
            }  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = Path(os.environ.get("PAGE_STORE") or tmp_path_factory.mktemp("scale") / "large.db")
    if not path.exists():
        jobstore.load(path, {"jobs": jobs(), "executions": executions()})
    with jobstore.open(path, clock=FrozenClock(NOW)) as store:
        yield create_app(store, open_access=True, page=True)


def test_no_view_takes_the_server_more_than_30_ms(large):
    site, slow = Site(large), {}
    for target in TARGETS:
        site.get(target, Accept_Encoding="gzip")
        times = []
        for _ in range(9):
            begun = time.thread_time()
            answer = site.get(target, Accept_Encoding="gzip")
            times.append((time.thread_time() - begun) * 1000)
        median = statistics.median(times)
        sizes = f"{len(answer.body) / 1024:5.0f} KB, {len(answer.wire) / 1024:4.1f} KB gzip"
        sys.stdout.write(f"{target:40} {median:5.1f} ms  {sizes}\n")
        assert answer.status == 200
        if median > 30:
            slow[target] = median
    assert slow == {}


def test_the_first_paint_comes_within_300_ms_and_the_table_within_600(chromium, large):
    paints, tables = [], []
    with served(large) as url:
        visitor = Visitor(chromium, url)
        page = visitor.open("/")
        for _ in range(9):
            page.goto(f"{url}/")
            page.wait_for_load_state("networkidle")
            assert page.locator("table.jobs tbody tr").count() == 50
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            tables.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
        visitor.close()
    paint, table = statistics.median(paints), statistics.median(tables)
    sys.stdout.write(f"first paint {paint:.0f} ms, table filled {table:.0f} ms\n")
    assert paint <= 300
    assert table <= 600

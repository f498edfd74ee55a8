"""Times and lengths of time as people type them."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobstore.cli.when import instant_text, seconds_in

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("today", "2026-03-28T23:00:00Z"),  # 00:00 CET, before the clocks went forward
        ("Yesterday", "2026-03-27T23:00:00Z"),
        ("24h", "2026-03-28T12:00:00Z"),
        ("7d", "2026-03-22T12:00:00Z"),
        ("1h30m", "2026-03-29T10:30:00Z"),
        ("2026-03-29", "2026-03-28T23:00:00Z"),
        ("2026-03-29 12:00", "2026-03-29T10:00:00Z"),
        ("2026-03-29T12:00:00.25", "2026-03-29T10:00:00.25Z"),
        ("2026-03-29T12:00:00Z", "2026-03-29T12:00:00Z"),
        ("2026-02-30", "2026-02-30"),
        ("2026-03-29 24:00", "2026-03-29 24:00"),  # Python 3.14 reads it
        ("2026-03-29T12:00.5", "2026-03-29T12:00.5"),
        ("24", "24"),
        ("now", "now"),
        ("", ""),
        ("999999999d", "999999999d"),
    ],
)
def test_a_time_is_read_in_the_zone_it_is_shown_in(text, found):
    assert instant_text(text, BERLIN, NOON) == found


@pytest.mark.parametrize("text", ["", "h", "1", "-5", "5 m", "1m1h", "１５", "1.5h", "1e3"])
def test_what_is_no_length_of_time_is_none(text):
    assert seconds_in(text) is (1 if text == "1" else None)


def test_a_list_takes_a_local_day_and_with_utc_that_of_utc(cli, store):
    def total(*words: str) -> Any:
        return json.loads(cli("executions", store, "--json", "--limit", "1", *words).out)["pagination"]["total"]

    local = cli("executions", store, "--after", "2026-01-15", "--json")
    assert local.code == 0
    assert total("--after", "2026-01-15") == total("--after", "2026-01-14T18:15:00Z")  # UTC+05:45
    assert total("--after", "2026-01-15", "--utc") == total("--after", "2026-01-15T00:00:00Z")
    assert total("--after", "1d") == total("--after", "24h")


def test_a_word_that_is_no_time_is_refused_in_the_common_words(cli, store):
    answer = cli("executions", store, "--after", "soon")
    assert answer.code == 2
    assert "after must be" in answer.err
    assert "'soon'" in answer.err


def test_what_the_command_line_takes_beside_times_is_told(cli, store):
    said = cli("executions", store, "--after", "1w").err
    assert "The command line also takes today, yesterday, or how long ago, such as 24h or 7d" in said

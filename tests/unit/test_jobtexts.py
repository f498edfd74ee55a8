"""A search over jobs: groups, endings and where they meet, against a look at each text."""

from __future__ import annotations

import random
from array import array

import pytest

from jobstore.engine import jobbook, jobtexts
from jobstore.engine.jobbook import JobOrder, merged
from jobstore.engine.jobtexts import JobTexts, Lines

Row = tuple[int, str, str, str, int]

PARTS = ("sync", "a", "aa", "1", "11", "10m", "_", "_", "-", " ", "é", "数", "½", "²", "\U0010ffff", "")
TERMS = (
    "a",
    "1",
    "_",
    "_1",
    "a_",
    "a_1",
    "1_a",
    "sync_1",
    "1m",
    "m_1",
    "é",
    "é1",
    "数1",
    "²",
    "²1",
    "½1",
    "\U0010ffff1",
    "a\na",
    "zz",
)
KINDS = ("sync", "a_1", "k1", "数")


def row(source: random.Random, number: int) -> Row:
    name = "".join(source.choice(PARTS) for _ in range(source.randrange(1, 7)))
    job_type, category = source.choice(KINDS), source.choice(KINDS)
    return (number, f"{name}\n{job_type}\n{category}", job_type.upper(), category, source.randrange(2))


def scanned(rows: dict[int, Row], needle: str, *exact: str | bool | None) -> set[int]:
    return {
        number
        for number, (_, folded, *own) in rows.items()
        if any(needle in text for text in folded.split("\n"))
        and all(wanted is None or wanted == value for wanted, value in zip(exact, own, strict=True))
    }


def asked(source: random.Random, rows: dict[int, Row]) -> str:
    """A fixed term, or a part of a text that is there."""
    if source.random() < 0.4 or not rows:
        return source.choice(TERMS)
    text = source.choice(list(rows.values()))[1].split("\n")[0] or "a"
    begin = source.randrange(len(text))
    return text[begin : begin + source.randrange(1, 6)]


@pytest.mark.parametrize("lines_a_hit", [1, 20, 1_000])
def test_a_search_finds_what_a_look_at_each_text_finds(lines_a_hit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobtexts, "LINES_A_HIT", lines_a_hit)
    for seed in range(60):
        source = random.Random(seed)
        rows = {number: row(source, number) for number in range(1, source.choice([1, 5, 80]))}
        texts = JobTexts(rows.values())
        for _ in range(60):
            needle = asked(source, rows)
            exact = (
                source.choice([None, None, "SYNC"]),
                source.choice([None, None, "a_1"]),
                source.choice([None, None, True]),
            )
            found = texts.search(needle, *exact)
            assert found.numbers == scanned(rows, needle, *exact), (seed, needle, exact)
            assert found.count == len(found.numbers)


def test_jobs_that_come_change_and_go_are_found_as_they_are() -> None:
    source = random.Random(7)
    rows: dict[int, Row] = {}
    texts = JobTexts(())
    for _ in range(1_500):
        number = source.randrange(1, 40)
        texts.drop(number)
        rows.pop(number, None)
        if source.random() < 0.7:
            rows[number] = row(source, number)
            texts.put(rows[number])
        needle = asked(source, rows)
        assert texts.search(needle, None, None, None).numbers == scanned(rows, needle, None, None, None), needle
    assert texts.search("", None, None, None).numbers == set(rows)


@pytest.mark.parametrize(
    ("needle", "found"), [("a", {1, 2}), ("1", {1}), ("_1", {1}), ("11", {1}), ("k", {1}), ("aa", {2}), ("a_a", {1})]
)
def test_a_term_that_is_twice_in_a_text_finds_its_job_once(needle: str, found: set[int]) -> None:
    texts = JobTexts([(1, "a_a_11_1_111\nk\nk", "k", "k", 1), (2, "b\naaa\naa", "aaa", "aa", 1)])
    seen = texts.search(needle, None, None, None)
    assert (seen.numbers, seen.count) == (found, len(found))


@pytest.mark.parametrize("lines_a_hit", [1, 1_000])
def test_a_hit_never_goes_from_one_text_into_the_next(lines_a_hit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobtexts, "LINES_A_HIT", lines_a_hit)
    lines = Lines(["ab", "", "cd", "ab"], "wxyz")
    assert [lines.containing(needle) for needle in ("bc", "b", "d", "abab")] == [[], ["w", "z"], ["y"], []]


@pytest.mark.parametrize("sparse", [0, 4])
@pytest.mark.parametrize("most_merged", [0, 10, 5_000])
@pytest.mark.parametrize("picked", [0, 20])
def test_the_first_of_an_order_are_those_of_all_put_in_order(
    sparse: int, most_merged: int, picked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobbook, "SPARSE", sparse)
    monkeypatch.setattr(jobbook, "MERGED", most_merged)
    monkeypatch.setattr(jobbook, "PICKED", picked)
    source = random.Random(3)
    rows = {number: row(source, number) for number in range(1, 300)}
    texts = JobTexts(rows.values())
    order = JobOrder(source.sample(list(rows), k=len(rows)))
    for _ in range(200):
        found = texts.search(asked(source, rows), None, None, None)
        if found.count:
            most = source.randrange(1, 40)
            told = [number for number in order.numbers if number in found.numbers]
            first = order.first(found, most, texts)
            assert first[:most] == told[:most]
            assert first == told[: len(first)]


def test_runs_that_begin_beyond_the_last_are_left_out() -> None:
    source = random.Random(5)
    for _ in range(300):
        places = source.sample(range(500), k=source.randrange(1, 200))
        cuts = sorted(source.choices(range(len(places) + 1), k=source.randrange(0, 9)))
        runs = [sorted(places[a:b]) for a, b in zip([0, *cuts], [*cuts, len(places)], strict=True)]
        most = source.randrange(1, 60)
        assert merged([array("I", run) for run in runs if run], most) == sorted(places)[:most]

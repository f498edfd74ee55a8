"""A term and the text it is looked for in are folded alike, and a term may name a status."""

import unicodedata

import pytest

from jobstore.language.models import Status
from jobstore.language.search import STATUS_ALIASES, UNICODE_VERSION, fold, normalise_term, statuses_meant


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("sync_klines_1h", "sync_klines_1h"),
        ("Sync_KLINES", "sync_klines"),
        ("ＫＬＩＮＥ　１", "kline 1"),
        ("Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ﬁll", "fill"),
        ("e\u0301", "\u00e9"),
        ("İ", "i\u0307"),
        ("任务", "任务"),
        ("%_\"*'\\", "%_\"*'\\"),
        ("²", "2"),
    ],
)
def test_case_width_and_composition_fold_away_and_letters_stay(text, folded):
    assert fold(text) == folded


def test_ascii_folds_as_any_other_text_does():
    every = "".join(map(chr, range(128)))
    assert fold(every) == unicodedata.normalize("NFKC", every).casefold()


@pytest.mark.parametrize("term", ["kline", " kline", "KLINE \t\n", "\u3000Ｋline\u00a0", "\x1ckline\u2028"])
def test_a_term_is_trimmed_then_folded(term):
    assert normalise_term(term) == "kline"


@pytest.mark.parametrize("term", ["", " ", "\t\r\n", "\u3000\u00a0"])
def test_a_blank_term_is_empty(term):
    assert normalise_term(term) == ""


def test_a_blank_that_folding_makes_belongs_to_the_term():
    assert normalise_term(" \u00a8x ") == " \u0308x"


def test_a_blank_inside_a_term_stays():
    assert normalise_term(" timed  out ") == "timed  out"


FOUND_BY = [
    ("PENDING", ["pending", "pend", "queued", "waiting", "等待", "等待执行"]),
    ("RUNNING", ["running", "run", "unn", "执行中", "运行中"]),
    ("SUCCESS", ["success", "succ", "cess", "succeeded", "successful", "ok", "成功", "执行成功"]),
    ("FAILURE", ["failure", "fail", "ailur", "failed", "failing", "error", "失败", "执行失败"]),
    ("TIMEOUT", ["timeout", "time", "out", "timed out", "timed_out", "timedout", "超时", "执行超时"]),
]


@pytest.mark.parametrize(("status", "term"), [(status, term) for status, terms in FOUND_BY for term in terms])
def test_a_term_means_the_status_whose_name_holds_it_or_whose_alias_it_equals(status, term):
    assert statuses_meant(term) == {status}


@pytest.mark.parametrize(
    ("term", "statuses"),
    [("ing", {"PENDING", "RUNNING"}), ("u", {"RUNNING", "SUCCESS", "FAILURE", "TIMEOUT"}), ("t", {"TIMEOUT"})],
)
def test_a_term_may_mean_several_statuses(term, statuses):
    assert statuses_meant(term) == statuses


@pytest.mark.parametrize(
    "term",
    [
        "",
        "kline",
        "执行",
        "败",
        "faile",
        "erro",
        "o k",
        "queue",
        "timed",
        "wait",
        "failures",
        "cancelled",
        "%",
        "_",
        "FAILURE",
    ],
)
def test_a_part_of_an_alias_and_any_other_word_mean_none(term):
    assert statuses_meant(term) == frozenset()


def test_the_word_of_the_seed_finds_failures_and_no_time_outs():
    assert statuses_meant(normalise_term("failed")) == {Status.FAILURE}


@pytest.mark.parametrize("written", ["Timed Out", "ＴＩＭＥＤ_ＯＵＴ", " Failed ", "OK"])
def test_terms_are_compared_folded(written):
    assert len(statuses_meant(normalise_term(written))) == 1


def test_every_alias_is_found_however_it_is_written():
    for status, words in STATUS_ALIASES.items():
        for word in words:
            assert status in statuses_meant(normalise_term(word.upper()))


def test_the_unicode_version_is_the_one_that_folds():
    assert unicodedata.unidata_version == UNICODE_VERSION

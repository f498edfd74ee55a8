"""Ids of other schedulers as job names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstore.integrations.names import identity_of, job_name
from jobstore.language.fields import checked_name

ids = st.text(
    st.one_of(st.sampled_from("%~/0123AFaf. \t\n\u3000\x00\x85"), st.characters(), st.characters(categories=["Cs"])),
    max_size=250,
)


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("sync_klines_1h", "sync_klines_1h"),
        ("K 线同步", "K 线同步"),
        ("50%", "50%"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a%~b", "a%25~b"),
        ("42", "%342"),
        (".", "%2E"),
        ("..", "%2E."),
        ("executions", "%65xecutions"),
        (" edge ", "%20edge%20"),
        ("tab\there", "tab%09here"),
        ("\ud800", "%ED%A0%80"),
        ("", "%"),
        ("%", "%25"),
    ],
)
def test_an_id_is_its_own_name_unless_the_rule_of_names_refuses_it(identity, name):
    assert job_name(identity) == name
    assert identity_of(name) == identity


def test_an_id_that_is_too_long_is_cut_and_told_apart_by_a_digest():
    names = {job_name("x" * length) for length in range(195, 260)}
    assert len(names) == 65
    assert all(len(name) == 200 for name in names if "%~" in name)
    assert identity_of(job_name("x" * 201)) is None


@given(ids)
def test_every_id_has_a_good_name_and_a_way_back(identity):
    name = job_name(identity)
    assert checked_name(name) == name
    assert identity_of(name) in (identity, None)
    assert identity_of(name) == identity or len(name) == 200


@given(ids, ids)
def test_different_ids_have_different_names(one, other):
    assert (job_name(one) == job_name(other)) == (one == other)

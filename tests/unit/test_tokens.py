"""Bearer tokens: what is accepted, what is kept, and that the text of a token shows up nowhere."""

import errno
import hmac
import json
import multiprocessing
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobstore.http import tokenfile, tokens
from jobstore.language.errors import Conflict, InvalidParameter, JobStoreError, NotFound, StoreUnreadable

NOW = datetime(2026, 1, 15, 9, tzinfo=UTC)
SECRET = "unmistakable-secret-text"
READ = frozenset({"read:jobs"})


def asks(token: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db.tokens"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


# The header


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc"])
def test_the_scheme_is_told_apart_without_case_and_by_one_blank_or_more(header):
    assert tokens.bearer_token(header) == "abc"


@pytest.mark.parametrize("token", ["a", "a.b-c_d~e+f/g", "abc=", "abc===", "0"])
def test_every_letter_of_the_grammar_is_taken(token):
    assert tokens.bearer_token(f"Bearer {token}") == token


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearerabc",
        "Basic abc",
        "abc",
        " Bearer abc",
        "Bearer abc ",
        "Bearer a b",
        "Bearer a,b",
        "Bearer\tabc",
        "Bearer =",
        "Bearer a=b",
        'Bearer "abc"',
        "Bearer abc\n",
        "Bearer é",
        "Bearer a\x00",
        "Bearer １２",
        "Bearer abc, Bearer def",
        "Bearer " + "x" * 506,
    ],
)
def test_what_breaks_the_grammar_is_no_token(header):
    assert tokens.bearer_token(header) is None


def test_a_header_of_512_characters_is_the_longest():
    assert tokens.bearer_token("Bearer " + "x" * 505) == "x" * 505


@given(st.text(max_size=600))
def test_no_header_raises(header):
    token = tokens.bearer_token(header)
    assert token is None or header.endswith(token)


# The mapping


def test_a_mapping_lets_its_bearers_in():
    known = tokens.table({"s3cret": {"read:jobs"}, "other": []})
    assert known(asks("s3cret")) == READ
    assert known(asks("other")) == frozenset()
    assert known(asks("s3cre")) is None
    assert known(asks("S3cret")) is None
    assert known({}) is None


def test_a_later_change_of_the_mapping_changes_nothing():
    given_mapping = {"s3cret": {"read:jobs"}}
    known = tokens.table(given_mapping)
    given_mapping["new"] = {"read:jobs"}
    given_mapping["s3cret"].clear()
    assert known(asks("new")) is None
    assert known(asks("s3cret")) == READ


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        None,
        [SECRET],
        {"": {"read:jobs"}},
        {f"{SECRET} x": {"read:jobs"}},
        {SECRET: "read:jobs"},
        {SECRET: None},
        {SECRET: {"read jobs"}},
        {SECRET: {3}},
        {SECRET * 40: {"read:jobs"}},
        {SECRET.encode(): {"read:jobs"}},
    ],
)
def test_a_mapping_that_could_never_be_right_is_refused_without_showing_a_token(mapping):
    with pytest.raises(InvalidParameter) as caught:
        tokens.table(mapping)
    assert SECRET not in str(caught.value)


def test_neither_repr_nor_attributes_show_a_token():
    known = tokens.table({SECRET: {"read:jobs"}})
    assert SECRET not in repr(known)
    assert SECRET not in repr([getattr(known, name) for name in known.__slots__])


def test_every_known_digest_is_compared_in_constant_time_whatever_was_asked(monkeypatch):
    compared = []
    genuine = hmac.compare_digest

    def spy(known: bytes, asked: bytes) -> bool:
        compared.append((len(known), len(asked)))
        return genuine(known, asked)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    known = tokens.table({"first": {"read:jobs"}, "second": {"read:jobs"}, "third": {"read:jobs"}})
    for asked in ("first", "second", "nobody"):
        compared.clear()
        known.permissions(asked)
        assert compared == [(32, 32)] * 3


# The variable


def test_the_variable_names_tokens_and_perhaps_their_permissions():
    assert tokens.parse_variable(" one , two:read:jobs+read:metrics\n") == {
        "one": {"read:jobs"},
        "two": {"read:jobs", "read:metrics"},
    }


@pytest.mark.parametrize(
    "text", ["", " ", "a,", "a,,b", "a,a", "a:", "a:read", "a:read:jobs+", ":read:jobs", f"{SECRET} x", f"{SECRET}:,b"]
)
def test_a_variable_that_is_wrong_is_refused_by_position(text):
    with pytest.raises(InvalidParameter, match=r"entry \d|token \d") as caught:
        tokens.parse_variable(text)
    assert SECRET not in str(caught.value)


# The file


def test_a_created_token_works_and_its_text_is_not_in_the_file(path):
    token = tokens.create(path, label="web", now=NOW)
    assert token.startswith("jst_")
    assert len(token) >= 40
    assert token not in path.read_text()
    assert tokens.load(path)(asks(token)) == READ


def test_a_file_that_cannot_be_looked_at_for_a_moment_keeps_its_tokens(path, monkeypatch):
    tokens.create(path, label="one", now=NOW)
    monkeypatch.setattr(tokenfile, "signature", lambda _path: None)  # as after any error of `stat`
    tokens.create(path, label="two", now=NOW)
    assert [record.label for record in tokens.list_(path)] == ["one", "two"]


def test_the_file_is_its_owners_alone(path):
    tokens.create(path, label="web", now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_mode_that_lets_others_read_survives_a_change(path):
    tokens.create(path, label="one", now=NOW)
    path.chmod(0o640)
    tokens.create(path, label="two", now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_who_may_not_give_the_group_gives_its_rights_to_no_other_one(path, monkeypatch):
    tokens.create(path, label="one", now=NOW)
    path.chmod(0o640)
    given = []

    def refused(_descriptor, owner, _group):
        given.append(owner)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.chown", refused)
    tokens.create(path, label="two", now=NOW)
    assert given == [-1]  # the owner is root's to give, the group that of its members
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_to_the_file_stays_a_link(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    tokens.create(link, label="one", now=NOW)
    tokens.create(link, label="two", now=NOW)
    assert link.is_symlink()
    assert [each.label for each in tokens.list_(path)] == ["one", "two"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(path, mode):
    tokens.create(path, label="web", now=NOW)
    path.chmod(mode)
    with pytest.raises(InvalidParameter, match="chmod go-w"):
        tokens.load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another user's files")
def test_a_file_that_another_user_made_in_a_folder_for_everybody_is_refused(path):
    tokens.create(path, label="web", now=NOW)
    os.chown(path, 4711, -1)
    tokens.load(path)  # as a service reads the file of the store's owner
    path.parent.chmod(0o1777)
    with pytest.raises(InvalidParameter, match="Another user made"):
        tokens.load(path)
    os.chown(path, os.geteuid(), -1)
    tokens.load(path)
    link, own = path.with_name("link"), path.parent / "own"
    own.mkdir()
    link.symlink_to(path.rename(own / path.name))
    tokens.load(link)
    os.chown(link, 4711, -1, follow_symlinks=False)
    with pytest.raises(InvalidParameter, match="Another user made"):
        tokens.load(link)


def test_the_list_tells_everything_but_the_token(path):
    until = NOW + timedelta(days=30)
    token = tokens.create(path, label="网页", permissions={"read:jobs", "read:x"}, expires_at=until, now=NOW)
    (record,) = tokens.list_(path)
    assert (record.label, record.permissions) == ("网页", READ | {"read:x"})
    assert (record.created_at, record.expires_at) == (NOW, until)
    assert record.id == tokens.digest(token).hex()[:8]
    assert token not in repr(record)
    assert record.sha256 not in repr(record)


def test_a_token_is_refused_from_the_moment_it_expires(path):
    clock = Clock()
    token = tokens.create(path, label="web", expires_at=NOW + timedelta(hours=1), now=NOW)
    known = tokens.load(path, clock=clock)
    clock.now = NOW + timedelta(minutes=59, seconds=59)
    assert known(asks(token)) == READ
    clock.now = NOW + timedelta(hours=1)
    assert known(asks(token)) is None
    assert tokens.list_(path)[0].expired(clock.now)


def test_a_revoked_token_is_refused_at_once(path):
    keep, gone = tokens.create(path, label="keep", now=NOW), tokens.create(path, label="gone", now=NOW)
    known = tokens.load(path)
    assert known(asks(gone)) == READ
    assert tokens.revoke(path, "gone").label == "gone"
    assert known(asks(gone)) is None
    assert known(asks(keep)) == READ


def test_a_token_can_be_revoked_by_its_id(path):
    tokens.create(path, label="web", now=NOW)
    tokens.revoke(path, tokens.list_(path)[0].id)
    assert tokens.list_(path) == []


def test_a_token_made_while_the_server_runs_is_accepted_at_once(path):
    tokens.create(path, label="one", now=NOW)
    known = tokens.load(path)
    assert known(asks(tokens.create(path, label="two", now=NOW))) == READ


@pytest.mark.parametrize("damage", ["removed", "garbage", "writable"])
def test_nobody_is_let_in_while_the_file_is_not_good(path, damage, caplog):
    token = tokens.create(path, label="web", now=NOW)
    good = path.read_bytes()
    known = tokens.load(path)
    {"removed": path.unlink, "garbage": lambda: path.write_text("{"), "writable": lambda: path.chmod(0o666)}[damage]()
    assert known(asks(token)) is None
    assert "Every token is refused" in caplog.text
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    path.chmod(0o600)
    assert known(asks(token)) == READ


def test_a_label_is_taken_once(path):
    tokens.create(path, label="web", now=NOW)
    with pytest.raises(Conflict, match="'web'"):
        tokens.create(path, label="web", now=NOW)


@pytest.mark.parametrize("label", ["", "  ", "x" * 101, "a\nb", "a\x1b[31m", "\ud800"])
def test_a_label_is_a_line_that_can_be_printed(path, label):
    with pytest.raises(InvalidParameter, match="label"):
        tokens.create(path, label=label, now=NOW)
    assert not path.exists()


@pytest.mark.parametrize("expires_at", [NOW, NOW - timedelta(1), datetime(2027, 1, 1)])
def test_an_expiry_lies_ahead_and_has_a_zone(path, expires_at):
    with pytest.raises(InvalidParameter, match="expires_at"):
        tokens.create(path, label="web", expires_at=expires_at, now=NOW)


@pytest.mark.parametrize("permissions", ["read:jobs", ["read jobs"], [""]])
def test_permissions_are_a_collection_of_words(path, permissions):
    with pytest.raises(InvalidParameter, match="permissions"):
        tokens.create(path, label="web", permissions=permissions, now=NOW)


def test_what_is_not_there_is_not_found(path):
    for call in (tokens.list_, tokens.load, lambda path: tokens.revoke(path, "web")):
        with pytest.raises(NotFound, match="Token file not found"):
            call(path)
    tokens.create(path, label="web", now=NOW)
    with pytest.raises(NotFound, match="'nobody'"):
        tokens.revoke(path, "nobody")


def test_a_folder_that_is_not_there_or_a_folder_in_its_place_is_a_store_error(tmp_path):
    with pytest.raises(StoreUnreadable):
        tokens.create(tmp_path / "nowhere" / "tokens", label="web", now=NOW)
    with pytest.raises(StoreUnreadable):
        tokens.list_(tmp_path)
    with pytest.raises(StoreUnreadable):
        tokens.create(tmp_path, label="web", now=NOW)


def test_a_disk_that_refuses_leaves_the_file_as_it_was(path, monkeypatch):
    tokens.create(path, label="web", now=NOW)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreUnreadable, match="No space left on device"):
        tokens.create(path, label="new", now=NOW)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def broken_files() -> Iterator[str]:
    record: dict[str, Any] = {
        "id": "01234567",
        "label": "web",
        "permissions": ["read:jobs"],
        "created_at": "2026-01-15T09:00:00Z",
    }
    record |= {"expires_at": None, "sha256": "0" * 64}
    yield from ["", "null", "[]", "{}", "[" * 100_000, '{"jobstore_tokens": 2, "tokens": []}', "\ufffe", "1e999"]
    yield json.dumps({"jobstore_tokens": 1, "tokens": {}})
    changes: list[dict[str, Any]] = [
        {"id": 1},
        {"label": ""},
        {"permissions": "read:jobs"},
        {"created_at": "2026-01-15T09:00:00"},
    ]
    changes += [
        {"created_at": None},
        {"expires_at": "soon"},
        {"expires_at": 5},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
    ]
    for change in changes:
        yield json.dumps({"jobstore_tokens": 1, "tokens": [record | change]})
    entries: tuple[Any, ...] = ({}, None, 7, "x", [record])
    for entry in entries:
        yield json.dumps({"jobstore_tokens": 1, "tokens": [entry]})


@pytest.mark.parametrize("text", list(broken_files()))
def test_a_file_that_is_something_else_is_refused_and_left_alone(path, text):
    path.write_text(text)
    path.chmod(0o600)
    for call in (tokens.list_, lambda path: tokens.create(path, label="new", now=NOW)):
        with pytest.raises(InvalidParameter):
            call(path)
    assert path.read_text() == text


@given(st.binary(max_size=300))
def test_no_content_of_the_file_raises_anything_else(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.tokens"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(JobStoreError):
        tokens.list_(path)


def make_ten(path, name):
    for number in range(10):
        tokens.create(path, label=f"{name}-{number}", now=NOW)


def test_tokens_made_by_several_processes_at_once_are_all_kept(path):
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=make_ten, args=(path, name)) for name in "ab"]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(tokens.list_(path)) == 20

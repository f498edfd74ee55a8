"""Addresses of servers: what is one, what is refused, and that no password of one is ever shown."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jobstore
from jobstore.language.address import Address, file_of, is_address, location_of

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = (
    "postgresql://u:s3cret@h/db",
    "postgresql://u:s3%40cret@h:5432,[::1]:5433/db?sslmode=require&password=s3cret&sslpassword=s3cret",
    "postgres://:s3cret@/db?host=/run/postgresql&oauth_client_secret=s3cret&scram_client_key=s3cret",
)
REFUSED = (
    "postgresql://u:s3cret@x/s3cret@h/db", "postgresql://u:s3cret/x@h/db", "postgresql://u:s3cret?x@h/db",
    "postgresql://u:s3cret x@h/db", "postgresql://u:s3cret@h/db?s3cret", "postgresql://u:s3cret\n@h/db",
    "postgresql+psycopg://u:s3cret@h/db", "POSTGRES://u:s3cret@h/db", "mysql://u:s3cret@h/db", "http://u:s3cret@h/",
    "postgresql:/u:s3cret@h/db", "postgresql:u:s3cret@h/db", " postgresql://u:s3cret@h/db",
    "jdbc:postgresql://h/db?password=s3cret", "host=/tmp dbname=x password=s3cret", " user = u password = 's3 x' host=h",
    "password=s3cret", "service=s3", "DBNAME=s3", "connect_timeout=3 host=db password=s3cret dbname=x", "passfile=/s3 host=db",
    "user='u'password=s3",
    "host=/s3/x application_name=a",
)  # fmt: skip


@pytest.mark.parametrize("text", SECRETS)
def test_an_address_shows_no_password(text: str) -> None:
    address = location_of(text)
    assert isinstance(address, Address)
    assert is_address(text)
    assert address.secret == text
    assert "s3" not in f"{address} {address!r} {[address]}"
    assert pickle.loads(pickle.dumps(address)) == address == location_of(address)
    assert address != Address("postgresql://u@h/db")


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(jobstore.InvalidParameter) as refused:
        location_of(text)
    assert "s3" not in str(refused.value)


def test_what_has_no_scheme_is_a_path(tmp_path: Path) -> None:
    for given in (
        "jobs.db",
        "a:b/jobs.db",
        tmp_path / "postgresql",
        "postgresql",
        "service=billing/jobs.db",
        "a/user=5",
        "/data/host=a user=b/jobs.db",
        "limit=5 order=name.db",
        "~jobs.db",
    ):
        assert location_of(given) == Path(given)
        assert file_of(given, "", "") == Path(given)
        assert not is_address(str(given))
    with pytest.raises(jobstore.InvalidParameter, match="as text"):
        location_of(Path("postgresql://u@h/db"))


@pytest.mark.parametrize(
    "text", [":memory:", "file:jobs.db?mode=ro", "file:///data/jobs.db", "sqlite:///jobs.db", "~/jobs.db"]
)
def test_a_name_that_sqlite_or_a_shell_reads_in_its_own_way_is_no_path(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (jobstore.Recorder, jobstore.open, lambda path: jobstore.load(path, {"jobs": [], "executions": []})):
        with pytest.raises(jobstore.InvalidParameter, match=r"A store is|whole path"):
            use(text)
    assert not list(tmp_path.iterdir())


def test_what_is_about_a_file_says_what_a_server_has_instead(tmp_path: Path) -> None:
    address = SECRETS[0]
    calls: dict[str, Callable[[], object]] = {
        "pg_dump": lambda: jobstore.backup(address, tmp_path / "copy.db"),
        "pg_restore": lambda: jobstore.restore(tmp_path / "copy.db", address),
        "jobstore.open": lambda: jobstore.JobStore(address),
    }
    for instead, call in calls.items():
        with pytest.raises(jobstore.InvalidParameter, match=instead) as refused:
            call()
        assert "s3cret" not in str(refused.value)

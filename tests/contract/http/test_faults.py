"""A store that cannot be used, and a defect of ours: what the public is told, and what the log has."""

import contextlib
import logging
import shutil
from typing import NoReturn

import pytest

import jobstore
from jobstore.language import errors
from jobstore.language.query import Query
from jobstore.wsgi import create_app

UNAVAILABLE = "The job store is unavailable"


class Failing(jobstore.JobStore):
    """A store whose every answer is one error."""

    failure: Exception

    def answer(self, query: Query) -> NoReturn:
        raise self.failure

    def fresh(self) -> NoReturn:
        raise self.failure


@pytest.fixture
def failing(seed_path, asker):
    with contextlib.closing(Failing(seed_path)) as store:

        def ask_for(failure):
            store.failure = failure
            return asker(create_app(store, tokens={"s3cret": {"read:jobs"}}))

        yield ask_for


def store_errors(error: type[errors.StoreError] = errors.StoreError) -> list[type[errors.StoreError]]:
    return [error, *(deeper for child in error.__subclasses__() for deeper in store_errors(child))]


@pytest.mark.parametrize("kind", store_errors(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("target", ["/api/v1/jobs", "/api/v1/jobs/1", "/healthz"])
def test_a_store_error_is_a_503_that_names_no_file(failing, kind, target, caplog):
    answer = failing(kind("/secret/place/jobs.db is in a bad way"))(target)
    busy = issubclass(kind, errors.StoreBusy)
    assert answer.status == 503
    assert answer.error == (kind.code, "The job store is busy; try again in a moment" if busy else UNAVAILABLE)
    assert answer.headers.get("retry-after") == ("1" if busy else None)
    assert b"secret" not in answer.body
    assert "/secret/place/jobs.db is in a bad way" in caplog.text


def test_every_store_error_there_is_was_tried():
    assert sum(kind.__module__ == errors.__name__ for kind in store_errors()) == 9


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("/secret SELECT"), KeyError("/secret"), RecursionError("/secret"), errors.InternalError("/secret")],
)
def test_a_defect_is_a_500_with_a_request_id_and_nothing_else(failing, failure, caplog):
    answer = failing(failure)("/api/v1/jobs", x_request_id="r-5")
    assert answer.status == 500
    assert answer.error == ("INTERNAL", "Internal error; the log has it under request id r-5")
    assert "r-5 failed\nTraceback" in caplog.text
    assert "/secret" in caplog.text


def test_a_defect_is_logged_without_the_token_that_its_message_holds(failing, caplog):
    caplog.set_level(logging.DEBUG)
    failing(RuntimeError("the environ was {'HTTP_AUTHORIZATION': 'Bearer s3cret'}"))("/api/v1/jobs")
    assert "s3cret" not in caplog.text
    assert "[struck out]" in caplog.text


def test_a_store_that_comes_later_is_then_served(tmp_path, seed_path, asker):
    path = tmp_path / "jobs.db"
    ask = asker(create_app(path, tokens={"s3cret": {"read:jobs"}}))
    for target in ("/api/v1/jobs", "/healthz"):
        assert ask(target).error == ("STORE_NOT_FOUND", UNAVAILABLE)
    assert not path.exists()
    shutil.copy(seed_path, path)
    assert ask("/api/v1/jobs").json["pagination"]["total"] == 2
    assert ask("/healthz").status == 200


@pytest.mark.parametrize("content", [b"", b"something else" * 1000, b"SQLite format 3\0" + b"\xff" * 8176])
def test_a_file_that_is_no_store_is_a_503(tmp_path, asker, content):
    path = tmp_path / "jobs.db"
    path.write_bytes(content)
    answer = asker(create_app(str(path), open_access=True))("/api/v1/jobs")
    assert (answer.status, answer.error[1]) == (503, UNAVAILABLE)


def test_no_error_needs_the_store_to_say_who_may_come_in(tmp_path, asker):
    ask = asker(create_app(tmp_path / "nowhere.db", tokens={"s3cret": {"read:jobs"}}))
    assert ask("/api/v1/jobs", token=None).status == 401
    assert ask("/nowhere").status == 404
    assert ask("/api/v1/jobs?limit=0").status == 400
    assert ask("/openapi.json").status == 200

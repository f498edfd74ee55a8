"""One request to a WSGI application, without a server between; every answer passes `wsgiref.validate`."""

import json
from dataclasses import dataclass
from typing import Any
from wsgiref.validate import validator

import pytest

import jobstore
from jobstore.wsgi import create_app
from tests.wsgi import request_environ

TOKEN = "s3cret"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        error = self.json["error"]
        assert list(self.json) == ["error"]
        assert list(error) == ["code", "message"]
        return error["code"], error["message"]


class Asker:
    """Sends requests to an application, with a good token unless told otherwise."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(
        self, target: str, method: str = "GET", *, token: str | None = TOKEN, prefix: str = "", **headers: str
    ) -> Answer:
        path, _, query = target.partition("?")
        environ = request_environ(method, path, query, prefix=prefix)
        if token is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        return self.ask(environ)

    def ask(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        known = environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"}
        app: Any = validator(self.app) if known else self.app
        chunks = app(environ, lambda status, headers, _exc=None: started.append((status, headers)))
        body = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        ((status, headers),) = started
        assert len(headers) == len({name.lower() for name, _ in headers}), "a header comes twice"
        return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, body)


@pytest.fixture
def app(datahub):
    return create_app(datahub, tokens={TOKEN: {"read:jobs"}, "powerless": {"read:other"}})


@pytest.fixture
def ask(app):
    return Asker(app)


@pytest.fixture
def asker():
    """To make one for another application."""
    return Asker


@pytest.fixture(scope="session")
def history_path(tmp_path_factory, seed_jobs, seed_executions):
    """The seed's jobs with 120 executions, of which the last 20 failed."""
    first = {**seed_executions[0], "id": None}
    executions = [
        {**first, "id": str(number), "status": "FAILURE" if number > 100 else "SUCCESS", "trace_id": f"跟踪 {number}"}
        for number in range(1, 121)
    ]
    path = tmp_path_factory.mktemp("history") / "jobs.db"
    jobstore.load(path, {"jobs": seed_jobs, "executions": executions})
    return path


@pytest.fixture
def ask_history(history_path):
    with jobstore.open(history_path) as store:
        yield Asker(create_app(store, tokens={TOKEN: {"read:jobs"}}))

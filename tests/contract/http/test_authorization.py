"""Who is let in: every route of the app, every kind of credential, every kind of method; and no token ever comes out."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import falcon.inspect
import pytest

from jobstore.http import tokens
from jobstore.language.errors import InvalidParameter
from jobstore.wsgi import create_app

NOW = datetime(2026, 1, 15, 9, tzinfo=UTC)
GOOD, POWERLESS, UNKNOWN = "good-8f2c41d7aa", "powerless-19b3c0", "unknown-77e1f5ab"
PLAIN = 'Bearer realm="jobstore"'
INVALID = f'{PLAIN}, error="invalid_token"'
INSUFFICIENT = f'{PLAIN}, error="insufficient_scope", scope="read:jobs"'
REQUIRED = ("UNAUTHORIZED", "A bearer token is required")
NOT_VALID = ("UNAUTHORIZED", "The bearer token is not valid")

LET_IN = {
    "good": f"Bearer {GOOD}",
    "scheme in small letters": f"bearer {GOOD}",
    "scheme in capitals, two blanks": f"BEARER  {GOOD}",
}
KEPT_OUT = {
    "nothing": (None, 401, PLAIN, REQUIRED),
    "empty header": ("", 401, PLAIN, REQUIRED),
    "another scheme": (f"Basic {GOOD}", 401, PLAIN, REQUIRED),
    "no scheme": (GOOD, 401, PLAIN, REQUIRED),
    "scheme alone": ("Bearer", 401, INVALID, NOT_VALID),
    "unknown": (f"Bearer {UNKNOWN}", 401, INVALID, NOT_VALID),
    "one letter more": (f"Bearer {GOOD}a", 401, INVALID, NOT_VALID),
    "one letter less": (f"Bearer {GOOD[:-1]}", 401, INVALID, NOT_VALID),
    "other case": (f"Bearer {GOOD.upper()}", 401, INVALID, NOT_VALID),
    "trailing blank": (f"Bearer {GOOD} ", 401, INVALID, NOT_VALID),
    "two at once": (f"Bearer {UNKNOWN}, Bearer {GOOD}", 401, INVALID, NOT_VALID),
    "quoted": (f'Bearer "{GOOD}"', 401, INVALID, NOT_VALID),
    "not ASCII": (f"Bearer {GOOD}\xe9", 401, INVALID, NOT_VALID),
    "over 512 characters": (f"Bearer {GOOD}" + " " * 500, 401, INVALID, NOT_VALID),
    "expired": ("Bearer {expired}", 401, INVALID, NOT_VALID),
    "revoked": ("Bearer {revoked}", 401, INVALID, NOT_VALID),
    "without the permission": (f"Bearer {POWERLESS}", 403, INSUFFICIENT, ("FORBIDDEN", "The token lacks the permission read:jobs")),
}  # fmt: skip
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "DELETE", "BREW", "WEBSOCKET")
OPEN = ("/healthz", "/openapi.json")


class Fixed:
    """Tokens of a mapping and of a file that has an expired and a revoked one, as one `authenticate`."""

    def __init__(self, path: Path) -> None:
        self.mapping = tokens.table({GOOD: {"read:jobs"}, POWERLESS: {"read:other"}})
        self.expired = tokens.create(path, label="expired", now=NOW, expires_at=NOW + timedelta(hours=1))
        self.revoked = tokens.create(path, label="revoked", now=NOW)
        self.file = tokens.load(path, clock=lambda: NOW + timedelta(hours=1))
        tokens.revoke(path, "revoked")

    def __call__(self, environ: dict[str, Any]) -> frozenset[str] | None:
        found = self.mapping(environ)
        return self.file(environ) if found is None else found


@pytest.fixture
def known(tmp_path):
    return Fixed(tmp_path / "tokens")


@pytest.fixture
def guarded(datahub, known, asker):
    return asker(create_app(datahub, authenticate=known))


def targets(app: Any) -> list[str]:
    """The route list comes from the app, so a route that is added is in the matrix."""
    ids = ("{job_id}", "1"), ("{execution_id}", "12345")
    return [route.path.replace(*ids[0]).replace(*ids[1]) for route in falcon.inspect.inspect_routes(app)]


def expected(target: str, method: str) -> int:
    """Status for one who is let in."""
    if target.startswith("/nowhere"):
        return 404
    return {"GET": 200, "HEAD": 200, "OPTIONS": 204}.get(method, 405)


def ask_with(guarded: Any, known: Fixed, target: str, method: str, header: str | None) -> Any:
    if header is None:
        return guarded(target, method, token=None)
    header = header.format(expired=known.expired, revoked=known.revoked)
    return guarded(target, method, token=None, authorization=header)


def test_the_matrix_of_routes_credentials_and_methods(guarded, known, caplog):
    caplog.set_level(logging.DEBUG)
    routes = [*targets(guarded.app), "/nowhere", "/nowhere?limit=0"]
    cells = 0
    for target in routes:
        for method in METHODS:
            is_open = target in OPEN and method in {"GET", "HEAD"}
            for name, good in LET_IN.items():
                answer = ask_with(guarded, known, target, method, good)
                assert answer.status == expected(target, method), (target, method, name)
                assert "www-authenticate" not in answer.headers
                assert_no_token_in(answer, known)
                cells += 1
            for name, (header, status, challenge, error) in KEPT_OUT.items():
                answer = ask_with(guarded, known, target, method, header)
                assert answer.status == (200 if is_open else status), (target, method, name)
                assert answer.headers.get("www-authenticate") == (None if is_open else challenge), (
                    target,
                    method,
                    name,
                )
                if not is_open:
                    assert "allow" not in answer.headers
                    assert method == "HEAD" or answer.error == error
                assert_no_token_in(answer, known)
                cells += 1
    assert len(routes) >= 9
    assert cells == len(routes) * len(METHODS) * 20
    assert len(caplog.records) >= cells
    for secret in (GOOD, POWERLESS, UNKNOWN, known.expired, known.revoked):
        assert secret not in caplog.text


def assert_no_token_in(answer: Any, known: Fixed) -> None:
    shown = repr(answer.headers) + answer.body.decode()
    for secret in (GOOD, POWERLESS, UNKNOWN, known.expired, known.revoked):
        assert secret not in shown


@pytest.mark.parametrize("query", ["limit=0", "%ff", "limt=1&limt=1"])
def test_the_token_is_judged_before_path_and_parameters(guarded, query):
    for target in ("/api/v1/jobs", "/api/v1/jobs/%ff", "/nowhere", "/api/v1/jobs/nowhere"):
        assert guarded(f"{target}?{query}", token=UNKNOWN).error == NOT_VALID


def test_a_token_in_the_query_string_is_no_credential_and_is_not_logged(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    assert guarded(f"/api/v1/jobs?access_token={GOOD}", token=None).error == REQUIRED
    answer = guarded(f"/api/v1/jobs?access_token={GOOD}", token=GOOD)
    assert answer.error[0] == "INVALID_PARAMETER"
    assert GOOD not in caplog.text
    assert GOOD not in answer.body.decode()


def test_a_good_query_is_logged(guarded, caplog):
    caplog.set_level(logging.INFO)
    answer = guarded("/api/v1/jobs?search=K%E7%BA%BF&limit=5", token=GOOD)
    (record,) = [each for each in caplog.records if each.name == "jobstore.http"]
    message = record.getMessage()
    assert message.startswith(f"{answer.headers['x-request-id']} GET /api/v1/jobs?search=K%E7%BA%BF&limit=5 200 ")


def test_a_log_line_is_one_line_whatever_came(guarded, caplog):
    caplog.set_level(logging.INFO)
    guarded("/api/v1/jobs/a%0Ab%1b[31m", "GET\nGET", token=GOOD)
    (record,) = [each for each in caplog.records if each.name == "jobstore.http"]
    assert record.getMessage().isprintable()


# authenticate=


def test_authenticate_gets_the_environ_and_its_permissions_count(datahub, asker):
    seen = []

    def authenticate(environ):
        seen.append(environ["HTTP_X_USER"])
        return {"ann": ["read:jobs"], "bob": []}.get(environ["HTTP_X_USER"])

    ask = asker(create_app(datahub, authenticate=authenticate))
    statuses = [ask("/api/v1/jobs", token=None, x_user=user).status for user in ("ann", "bob", "eve")]
    assert (statuses, seen) == ([200, 403, 401], ["ann", "bob", "eve"])


def failing(environ):
    raise ValueError(f"cannot check {environ['HTTP_AUTHORIZATION']}")


def failing_as_one_of_ours(environ):
    raise InvalidParameter(f"cannot check {environ['HTTP_AUTHORIZATION']}")


def failing_as_one_of_falcons(environ):
    raise falcon.HTTPForbidden(title=environ["HTTP_AUTHORIZATION"])


def answering_text(_environ):
    return "read:jobs"


def answering_yes(_environ):
    return True


@pytest.mark.parametrize(
    "authenticate", [failing, failing_as_one_of_ours, failing_as_one_of_falcons, answering_text, answering_yes]
)
def test_an_authenticate_that_fails_lets_nobody_in_and_tells_nothing(datahub, asker, authenticate, caplog):
    caplog.set_level(logging.DEBUG)
    answer = asker(create_app(datahub, authenticate=authenticate))("/api/v1/jobs", token=GOOD)
    code, message = answer.error
    assert (answer.status, code) == (500, "INTERNAL")
    assert message == f"Internal error; the log has it under request id {answer.headers['x-request-id']}"
    assert "Traceback" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text
    assert GOOD not in caplog.text


# create_app's arguments


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"tokens": {GOOD: {"read:jobs"}}, "open_access": True},
        {"tokens": {GOOD: {"read:jobs"}}, "authenticate": failing},
        {"authenticate": failing, "open_access": True},
        {"tokens": {}},
        {"tokens": GOOD},
        {"tokens": {GOOD: "read:jobs"}},
        {"tokens": {"": {"read:jobs"}}},
        {"tokens": {f"{GOOD} ": {"read:jobs"}}},
        {"tokens": {GOOD: [1]}},
        {"authenticate": GOOD},
        {"open_access": False},
        {"open_access": "yes"},
        {"open_access": True, "max_body_bytes": 0},
        {"open_access": True, "cors_origins": "https://example.com"},
        {"open_access": True, "cors_origins": ["example.com"]},
    ],
)
def test_what_could_not_work_is_refused_when_the_app_is_made(datahub, given):
    with pytest.raises(InvalidParameter) as caught:
        create_app(datahub, **given)
    assert isinstance(caught.value, ValueError)
    assert GOOD not in str(caught.value)


def test_a_store_that_is_none_is_refused():
    with pytest.raises(InvalidParameter, match="store must be"):
        create_app(None, open_access=True)  # type: ignore[arg-type]


def test_open_access_lets_everybody_in(datahub, asker):
    ask = asker(create_app(datahub, open_access=True))
    assert ask("/api/v1/jobs", token=None).status == 200
    assert ask("/api/v1/jobs", token="whatever").status == 200


def test_no_repr_of_the_app_or_of_anything_in_it_shows_a_token(datahub):
    seen: set[int] = set()
    found: list[Any] = [create_app(datahub, tokens={GOOD: {"read:jobs"}})]
    while found:
        thing = found.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        assert GOOD not in repr(thing)
        if isinstance(thing, dict):
            found += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            found += thing
        elif type(thing).__module__.partition(".")[0] in {"jobstore", "falcon"}:
            names = [
                *getattr(thing, "__dict__", {}),
                *(n for kind in type(thing).__mro__ for n in getattr(kind, "__slots__", ())),
            ]
            found += [getattr(thing, name, None) for name in names]
        elif hasattr(thing, "__self__"):
            found.append(thing.__self__)
    assert len(seen) > 30


# cors_origins=

PAGE = "https://jobs.example.com"


@pytest.fixture
def shared(datahub, asker):
    return asker(create_app(datahub, tokens={GOOD: {"read:jobs"}}, cors_origins=[PAGE]))


def test_an_origin_that_is_named_may_read(shared):
    answer = shared("/api/v1/jobs", token=GOOD, origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_may_read_why_it_is_kept_out(shared):
    answer = shared("/api/v1/jobs", token=None, origin=PAGE)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, PAGE)


def test_the_browsers_question_beforehand_needs_no_token_and_tells_nothing(shared):
    asked = {"origin": PAGE, "access_control_request_method": "GET", "access_control_request_headers": "authorization"}
    for target in ("/api/v1/jobs", "/api/v1/jobs/nobody"):
        answer = shared(target, "OPTIONS", token=None, **asked)
        assert (answer.status, answer.body) == (204, b"")
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("origin", ["https://evil.example.com", "https://jobs.example.com.evil.com", "null", ""])
def test_any_other_origin_may_not(shared, origin):
    for target, method in (("/api/v1/jobs", "GET"), ("/api/v1/jobs", "OPTIONS")):
        answer = shared(target, method, token=GOOD, origin=origin, access_control_request_method="GET")
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (
        shared("/api/v1/jobs", "OPTIONS", token=None, origin=origin, access_control_request_method="GET").status == 401
    )


def test_every_origin_may_where_the_operator_says_so(datahub, asker):
    ask = asker(create_app(datahub, tokens={GOOD: {"read:jobs"}}, cors_origins=["*"]))
    assert ask("/api/v1/jobs", token=GOOD, origin="https://any.where").headers["access-control-allow-origin"] == "*"


# host_names=


def statuses(ask, *hosts: str) -> list[int]:
    return [ask("/api/v1/jobs", token=GOOD, host=host).status for host in hosts]


OURS = (
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]:8000",
    "192.168.1.5",
    "[fe80::1]",
)
OTHERS = ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", ":80", "a b",
          "localhost:80:80", "evil.example#localhost", "localhost,evil.example", "[localhost]")  # fmt: skip


def test_an_open_application_answers_to_no_name_that_a_stranger_may_own(datahub, asker):
    ask = asker(create_app(datahub, open_access=True))
    assert set(statuses(ask, *OURS)) == {200}
    assert set(statuses(ask, *OTHERS)) == {403}
    answer = ask("/api/v1/jobs", host="evil.example")
    assert answer.error[0] == "FORBIDDEN"
    assert "'evil.example'; start it with --host-name NAME" in answer.error[1]
    assert "www-authenticate" not in answer.headers
    assert ask("/api/v1/jobs", "DELETE", host="evil.example").status == 403
    assert ask("/healthz", host="evil.example").status == 200
    assert ask("/api/v1/jobs").status == 200, "without a Host, no browser sent it"
    assert set(statuses(ask, "testserver", "jobs.test", "a.localhost:80")) == {200}, "nobody can register these"


def test_names_that_were_told_are_answered(datahub, asker):
    ask = asker(create_app(datahub, open_access=True, host_names=["Jobs.Example.com", "fd00::1"]))
    assert set(statuses(ask, *OURS, "jobs.example.com", "JOBS.example.com.:8000", "[fd00::1]")) == {200}
    assert set(statuses(ask, *OTHERS, "a.jobs.example.com", "testserver")) == {403}


def test_an_application_with_tokens_answers_to_every_name_unless_told(datahub, asker):
    assert set(statuses(asker(create_app(datahub, tokens={GOOD: {"read:jobs"}})), *OURS, *OTHERS)) == {200}
    told = asker(create_app(datahub, tokens={GOOD: {"read:jobs"}}, host_names=[]))
    assert set(statuses(told, *OTHERS)) == {403}
    assert told("/api/v1/jobs", token=None, host="evil.example").status == 403, "before the token"
    assert set(statuses(asker(create_app(datahub, open_access=True, host_names=["*"])), *OTHERS)) == {200}


@pytest.mark.parametrize("names", ["jobs.example.com", ["http://jobs.example.com"], ["a:80"], [""], [5], ["a b"]])
def test_what_is_no_host_name_is_refused(datahub, names):
    with pytest.raises(InvalidParameter, match=r"^host_names"):
        create_app(datahub, open_access=True, host_names=names)


# The log


def test_a_log_line_is_short_and_has_no_token_whatever_came(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    guarded("/" + "x" * 30_000, token=None)
    guarded("/api/v1/jobs?" + "&".join(["search="] + ["status=FAILURE"] * 3_000), token=GOOD)
    guarded(f"/api/v1/jobs/{GOOD}", token=GOOD)
    guarded("/api/v1/jobs?search=jst_0123456789abcdef", token=GOOD, x_request_id="jst_0123456789abcdef")
    guarded("/api/v1/jobs", "X" * 30_000, user_agent="y" * 30_000, x_request_id="z" * 30_000)
    assert len(caplog.records) >= 5
    assert max(len(each.getMessage()) for each in caplog.records) < 1_000
    assert GOOD not in caplog.text
    assert "jst_0123456789" not in caplog.text

"""What is masked of the arguments that the mirrors record."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from jobstore.integrations.secrets import MASK, call_arguments, masked, masked_text

SECRET = "s3cr3t"

NAMES = [
    *(
        "password",
        "PASSWORD",
        "db_password",
        "dbPassword",
        "user-passwd",
        "pwd",
        "passphrase",
        "secret",
        "client_secret",
    ),
    *(
        "clientSecret",
        "secret_key",
        "key",
        "api_key",
        "apiKey",
        "apikey",
        "APIKEY",
        "X-API-Key",
        "access_key",
        "sshKey",
    ),
    *("token", "access_token", "refreshToken", "auth", "Authorization", "bearer", "cookie", "aws_secret_access_key"),
    *("credentials", "private_key", "jwt", "otp", "signature"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_named_like_a_secret_is_masked_at_any_depth(name):
    assert masked({name: SECRET}) == {name: MASK}
    assert masked({"a": [{"b": {name: {"x": [SECRET]}}}]}) == {"a": [{"b": {name: MASK}}]}
    assert SECRET not in str(call_arguments(None, [{name: SECRET}], {name: SECRET}))


@pytest.mark.parametrize(
    "name", ["monkey", "keyboard", "tokenizer", "author", "authority", "symbol", "passenger", "compass"]
)
def test_other_names_are_left_alone(name):
    assert masked({name: "BNC"}) == {name: "BNC"}


@pytest.mark.parametrize("value", [None, True, False, "", {}, []])
def test_what_says_nothing_is_left_alone(value):
    assert masked({"password": value}) == {"password": value}


def test_numbers_are_masked_only_where_the_name_is_sure():
    assert masked({"max_tokens": 100, "key": 7, "password": 1234}) == {"max_tokens": 100, "key": 7, "password": MASK}


TEXTS = [
    (f"postgresql://me:{SECRET}@db:5432/x", "postgresql://me:***@db:5432/x"),
    (f"redis://:{SECRET}@cache/0", "redis://:***@cache/0"),
    (f"https://me:a:b@{SECRET}@host/x", "https://me:***@host/x"),
    (f"host=db user=me password={SECRET} dbname=x", "host=db user=me password=*** dbname=x"),
    (f"Server=db;Password={SECRET};Database=x", "Server=db;Password=***;Database=x"),
    (f"https://host/x?token={SECRET}&page=2", "https://host/x?token=***&page=2"),
    (f"curl -H 'Authorization: Bearer {SECRET}'", "curl -H 'Authorization: Bearer ***'"),
    (f"curl -H 'Authorization: Token {SECRET}' https://x", "curl -H 'Authorization: Token ***' https://x"),
    (f"Authorization: {SECRET} {SECRET}", "Authorization: ***"),
    (f"curl -H 'Cookie: a={SECRET}; b={SECRET}'", "curl -H 'Cookie: ***'"),
    (
        f"jwt={SECRET} passcode={SECRET} secretKey={SECRET} SECRET_KEY={SECRET}",
        "jwt=*** passcode=*** secretKey=*** SECRET_KEY=***",
    ),
    (f"sync --api-key {SECRET} --all", "sync --api-key *** --all"),
    (f'{{"password":"{SECRET} x","n":1}}', '{"password":***,"n":1}'),
    (f'{{"password":"{SECRET} cut', '{"password":***'),
    ("https://host/a@b?page=2", "https://host/a@b?page=2"),
    ("mailto:me@host", "mailto:me@host"),
]


@pytest.mark.parametrize(("text", "wanted"), TEXTS)
def test_a_text_that_holds_a_secret(text, wanted):
    assert masked_text(text) == wanted
    assert masked({"x": [text]}) == {"x": [wanted]}


@pytest.mark.parametrize("text", ["-", "a-", "a:", "a://b:", "password", "authorization", "token=", '"'])
def test_masking_a_long_text_does_not_take_the_square_of_its_length(text):
    """It would take minutes or hours; now it takes less than a second."""
    masked_text(text * (400_000 // len(text)))


def test_positional_arguments_have_the_names_of_their_parameters():
    def connect(host: str, password: str, *more: object) -> None: ...

    assert call_arguments(connect, ["db", SECRET, 3], {}) == {"args": ["db", MASK, 3]}
    assert call_arguments(partial(connect, "db"), [SECRET], {}) == {"args": [MASK]}
    assert call_arguments(print, [SECRET], {}) == {"args": [SECRET]}
    assert call_arguments(None, [], {}) is None


def test_an_object_that_is_no_json_shows_no_secret():
    @dataclasses.dataclass
    class Config:
        region: str
        password: str
        inner: Any = None

    found = call_arguments(None, [Config("eu", SECRET, Config("us", f"{SECRET} x"))], {"token": object()})
    assert SECRET not in str(found)
    assert "eu" in str(found)


def test_what_is_cut_shows_no_secret():
    found = call_arguments(None, [], {"config": {"password": SECRET * 9_000, "x": "x" * 30_000}})
    assert SECRET not in str(found)

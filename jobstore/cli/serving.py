"""``serve``, ``mcp``, ``token``, ``openapi`` and ``metrics``: the interfaces for programs."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobstore.cli import was_closed
from jobstore.cli.command import Command, Entry, LazyGroup
from jobstore.cli.options import (
    FileArgument,
    ascii_integer,
    flag,
    needs,
    once,
    optional,
    repeated,
    store_path,
    two_places,
)
from jobstore.cli.screen import current_screen, say, stdout_in_utf8, write_json, write_lines
from jobstore.language.address import file_of
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.rules import Kind, Parameter

if TYPE_CHECKING:
    import click

    from jobstore.language.address import Location

TOKENS_VARIABLE = "JOBSTORE_TOKENS"
DEFAULT_HOST, DEFAULT_PORT, LARGEST_PORT = "127.0.0.1", 8000, 65_535


def tokens_path(store: Location, given: str | None) -> Path:
    """Return the path of the token file: the given one, or beside the store.

    >>> tokens_path(Path("data/jobs.db"), None).as_posix()
    'data/jobs.db.tokens'

    Raises:
        InvalidParameter: none is given, and the store is not a file.
    """
    if given:
        return Path(given)
    file = file_of(store, "A token file beside its store", "name one with --tokens-file")
    if file.is_dir():
        raise InvalidParameter(f"{file} is a folder; give the path of a job store")
    return file.with_name(f"{file.name}.tokens")


# serve


def _serve(
    file: str | None,
    host: str | None,
    port: str | None,
    tokens_file: str | None,
    open_access: bool,
    host_name: tuple[str, ...],
    log_url: str | None,
) -> None:
    path = store_path(file)
    number = ascii_integer(port, "--port", 0, LARGEST_PORT)
    needs("http", "falcon", "waitress", "jinja2")
    who, told = admitted(path, tokens_file, open_access=open_access)
    from jobstore.http.serve import serve as serve_store

    _log_to_stderr()

    def ready(url: str) -> None:
        say(f"jobstore: serving {path} at {url} ({told}); Ctrl-C stops it")
        header = "" if open_access else '-H "Authorization: Bearer $TOKEN" '
        say(f"  curl {header}'{url}/api/v1/jobs?search=kline'")
        say(f"  or open {url}/ in a browser")

    port_number = DEFAULT_PORT if number is None else number
    address: dict[str, Any] = {"host": host or DEFAULT_HOST, "port": port_number, "host_names": host_name}
    serve_store(path, **address, log_url=log_url, ready=ready, **who)


def admitted(store: Location, tokens_file: str | None, *, open_access: bool) -> tuple[dict[str, Any], str]:
    """Return the keywords for `jobstore.http.serve.serve` that say who may read, and a text that describes them.

    The first of these that exists is used: --tokens-file, the variable, the token file beside the store.

    Raises:
        InvalidParameter: no token is accepted, or tokens and open access are both given.
    """
    variable = os.environ.get(TOKENS_VARIABLE)
    if open_access:
        if tokens_file or variable:
            kept = "--tokens-file" if tokens_file else TOKENS_VARIABLE
            raise InvalidParameter(f"--open and {kept} exclude each other; give one")
        return {"open_access": True}, "open to anyone on this machine"
    from jobstore.http import tokens

    if variable and not tokens_file:
        return {"tokens": tokens.parse_variable(variable)}, f"tokens from {TOKENS_VARIABLE}"
    path = tokens_path(store, tokens_file)
    if not tokens_file and not path.exists():
        raise InvalidParameter(
            f"serve needs a token: make one with 'jobstore token create {store}', "
            f"set {TOKENS_VARIABLE}, or pass --open to allow anyone on this machine"
        )
    none = "" if tokens.list_(path) else ", which has none: every request is refused"
    return {"authenticate": tokens.load(path)}, f"tokens from {path}{none}"


def _log_to_stderr() -> None:
    import logging  # only a server logs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


# mcp, openapi, metrics


def _mcp(file: str | None) -> None:
    path = store_path(file)
    needs("mcp", "mcp")
    from jobstore.mcp import run as run_server

    run_server(path)


def _openapi() -> None:
    needs("http", "falcon")
    from jobstore.http.openapi import document

    write_json(document())


def _metrics(file: str | None, max_jobs: str | None) -> None:
    path = store_path(file)
    most = ascii_integer(max_jobs, "--max-jobs", 0)
    from jobstore.metrics import MAX_JOBS
    from jobstore.metrics import metrics as numbers
    from jobstore.store import open as open_store

    with open_store(path) as store:
        stdout_in_utf8().write(numbers(store, max_jobs=MAX_JOBS if most is None else most))


# token


def _token_create(
    file: str | None, label: str | None, permission: tuple[str, ...], expires: str | None, tokens_file: str | None
) -> None:
    from jobstore.http import tokens

    path = tokens_path(store_path(file), tokens_file)
    if was_closed(1):
        raise InvalidParameter("stdout is closed, and the token is shown only there; no token was created")
    now = datetime.now(UTC)
    label = label if label is not None else f"made {now:%Y-%m-%d %H:%M:%S.%f}"
    text = tokens.create(
        path,
        label=label,
        permissions=permission or (tokens.READ_JOBS,),
        expires_at=None if expires is None else _later(expires, now),
    )
    try:
        stdout_in_utf8().write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        tokens.revoke(path, label)  # nobody has seen it
        raise
    say(f"jobstore: this is the only time the token is shown; its digest is kept in {path}")


def _later(text: str, now: datetime) -> datetime:
    from jobstore.language.instants import instant_datetime

    moment = instant_datetime(Parameter("--expires", Kind.INSTANT, "").check(text, text))
    if moment <= now:
        raise InvalidParameter(f"--expires must be later than now; received {shown(text)}")
    return moment


def _token_list(file: str | None, tokens_file: str | None, as_json: bool) -> None:
    from jobstore.http import tokens

    records = tokens.list_(tokens_path(store_path(file), tokens_file))
    if as_json:
        public = [record.as_json() for record in records]
        write_json([{key: value for key, value in each.items() if not key.endswith("sha256")} for each in public])
        return
    _show_tokens(records)


def _show_tokens(records: list[Any]) -> None:
    from jobstore.cli.phrases import plain
    from jobstore.cli.tables import Cell, Column, lines

    def row(record: Any) -> list[Cell]:
        expires = "never" if record.expires_at is None else f"{record.expires_at:%Y-%m-%d %H:%M:%SZ}"
        words = (
            record.id,
            record.label,
            " ".join(sorted(record.permissions)),
            f"{record.created_at:%Y-%m-%d}",
            expires,
        )
        return [Cell(plain(word)) for word in words]

    screen = current_screen(utc=True)
    columns = [Column(title) for title in ("ID", "LABEL", "PERMISSIONS", "CREATED", "EXPIRES (UTC)")]
    write_lines(lines(columns, [row(record) for record in records], screen.width), colour=screen.colour)


def _token_revoke(file: str | None, token: str | None, tokens_file: str | None) -> None:
    from jobstore.http import tokens

    path, wanted = two_places(file, token, "TOKEN", required=True, is_path=True)
    gone = tokens.revoke(tokens_path(path, tokens_file), wanted or "")
    say(f"jobstore: revoked {gone.id} ({gone.label}); a running server refuses it from its next request on")


# The commands.


def _tokens_file_option() -> click.Option:
    return once("--tokens-file", "PATH", "The token file, if it is not FILE.tokens.", is_path=True)


serve = Command(
    "serve",
    callback=_serve,
    help="""Serve the web page and the HTTP API until Ctrl-C or SIGTERM.

    Callers need a token. The accepted tokens are those in --tokens-file, else in JOBSTORE_TOKENS (TOKEN,TOKEN), else in
    FILE.tokens, which 'jobstore token create' makes. Without tokens the server starts only with --open.""",
    params=[
        FileArgument(),
        once("--host", "HOST", f"The address to listen on. [default: {DEFAULT_HOST}]"),
        once("--port", "PORT", f"The port; 0 takes a free one. [default: {DEFAULT_PORT}]"),
        repeated(
            "--host-name",
            "NAME",
            "A host name that browsers use for this server, such as jobs.example.com. May be repeated.",
        ),
        _tokens_file_option(),
        flag("--open", "Allow anyone on this machine, without a token.", "open_access"),
        once("--log-url", "URL", "Link each trace on the page to its log: an http(s) URL with {trace_id} in it."),
    ],
    examples=[
        ("jobstore serve jobs.db --open", "for yourself"),
        ("jobstore token create jobs.db > token", "once"),
        ("jobstore serve jobs.db --host 0.0.0.0", "from other machines, with a token"),
    ],
)
mcp = Command(
    "mcp",
    callback=_mcp,
    help="""Answer an AI program over the Model Context Protocol, on stdin and stdout.

    It offers eight tools; all of them only read.""",
    params=[FileArgument()],
    examples=[
        ("jobstore mcp /var/lib/jobs.db", "the command to give to the AI program"),
    ],
)
openapi = Command(
    "openapi",
    callback=_openapi,
    help="Print the OpenAPI 3.1 document of the HTTP API. 'jobstore serve' answers /openapi.json with it.",
    examples=[("jobstore openapi > openapi.json", "")],
)
metrics = Command(
    "metrics",
    callback=_metrics,
    help="Print metrics of the store in Prometheus' text format, for a textfile collector.",
    params=[
        FileArgument(),
        once("--max-jobs", "N", "How many jobs get their own series. [default: 500]"),
    ],
    examples=[("jobstore metrics jobs.db > jobs.prom.$$ && mv jobs.prom.$$ jobs.prom", "from cron")],
)
_token_create_command = Command(
    "create",
    callback=_token_create,
    help="Create a token and print it. It is not shown again.",
    params=[
        FileArgument(),
        once("--label", "LABEL", "A name for the token. [default: the time]"),
        repeated("--permission", "WORD", "What the token allows. May be repeated. [default: read:jobs]"),
        once("--expires", "TIME", "When the token expires: RFC 3339 or a date. [default: never]"),
        _tokens_file_option(),
    ],
    examples=[
        ("jobstore token create jobs.db --label laptop", ""),
        ("TOKEN=$(jobstore token create jobs.db --expires 2027-01-01)", ""),
    ],
)
_token_list_command = Command(
    "list",
    callback=_token_list,
    help="List the tokens by id and label; their secrets are not shown.",
    params=[FileArgument(), _tokens_file_option(), flag("--json", "Print them as JSON.", "as_json")],
    examples=[("jobstore token list jobs.db", "")],
)
_token_revoke_command = Command(
    "revoke",
    callback=_token_revoke,
    help="Revoke a token. A running server refuses it from the next request on.",
    params=[
        FileArgument(),
        optional("token", "TOKEN", "The id or label that 'list' shows."),
        _tokens_file_option(),
    ],
    examples=[("jobstore token revoke jobs.db laptop", "")],
)
token = LazyGroup(
    [
        (
            "Commands",
            [
                Entry("create", "Create a token and print it.", __name__, "_token_create_command"),
                Entry("list", "List the tokens by id and label.", __name__, "_token_list_command"),
                Entry("revoke", "Revoke a token.", __name__, "_token_revoke_command"),
            ],
        ),
    ],
    name="token",
    help="""Create, list and revoke the tokens that 'jobstore serve' accepts.

    Only their digests are stored, in FILE.tokens beside the store or in --tokens-file.""",
)

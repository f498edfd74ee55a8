"""Options built from the parameter tables, and the FILE argument, which `JOBSTORE_DB` may replace.

Option values stay text until `Operation.from_text` parses them, as in every other interface. click's own types would
accept ``１２`` as 12, and silently use the last of two values.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jobstore.cli.when import instant_text
from jobstore.language.address import Address, is_address, location_of, refuse_address
from jobstore.language.errors import InvalidParameter, InvalidRecord
from jobstore.language.fields import NAME_CHARACTERS, checked_name, is_storable
from jobstore.language.parameters import Kind, Operation, Parameter
from jobstore.language.rules import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from click.shell_completion import CompletionItem

    from jobstore.language.address import Location

STORE_VARIABLE = "JOBSTORE_DB"
REFERENCES = frozenset({Kind.JOB_REF, Kind.EXECUTION_REF})
"""The kinds that are arguments, not options."""
OPPOSITES = {"order_desc": "order-asc", "enabled": "disabled"}
"""The option that means ``false``."""
_ORDERS = {True: "descending", False: "ascending"}
_METAVARS = {
    Kind.INTEGER: "N",
    Kind.INSTANT: "TIME",
    Kind.TERM: "TEXT",
}
_HOW = {
    Kind.INSTANT: "A date, a time, today, yesterday, or how long ago, such as 24h or 7d.",
}
FILE_HELP = f"The job store: a file or a postgresql:// address. May be left out if {STORE_VARIABLE} names one."
FILE_ONLY_HELP = f"The job store, a file. May be left out if {STORE_VARIABLE} names one."
TAKEN_FOR = "jobstore.taken_for"
MEANT = "jobstore.meant"
"""The context key for a job's name that is similar to an unknown one."""


def parameter_options(operation: Operation[Any]) -> list[click.Parameter]:
    """Return an option for each parameter of the operation, except for ids and names: those are arguments."""
    return [_option(parameter) for parameter in operation.parameters if parameter.kind not in REFERENCES]


def _option(parameter: Parameter) -> click.Option:
    name = option_name(parameter)
    if parameter.kind is Kind.FLAG:
        return click.Option([f"{name}/--{OPPOSITES[parameter.name]}"], multiple=True, help=_help(parameter))
    return click.Option(
        [name],
        multiple=True,
        metavar=_metavar(parameter),
        help=_help(parameter),
        shell_complete=_completed(parameter),
    )


def _metavar(parameter: Parameter) -> str:
    if parameter.name == "order_by":
        return "FIELD"
    word = _METAVARS.get(parameter.kind) or parameter.name.rpartition("_")[2].upper()
    return f"{word},…" if parameter.kind is Kind.CHOICES else word


def option_name(parameter: Parameter) -> str:
    """Return ``--order-by`` for ``order_by``."""
    return f"--{parameter.name.replace('_', '-')}"


def _help(parameter: Parameter) -> str:
    """Use the first sentence of the description only: the others are about paging in programs."""
    said = [f"{parameter.description.split('. ')[0].rstrip('.')}."]
    if parameter.kind is Kind.CHOICES:
        said = [f"{said[0][:-1]}: {', '.join(parameter.choices)}. Separate several with commas."]
    elif parameter.choices:
        said.append(f"{'Fields' if parameter.name == 'order_by' else 'One of'}: {', '.join(parameter.choices)}.")
    if parameter.kind in _HOW:
        said.append(_HOW[parameter.kind])
    if parameter.default is not None:
        default = _ORDERS[bool(parameter.default)] if parameter.kind is Kind.FLAG else parameter.default
        said.append(f"[default: {default}]")
    return " ".join(said)


def _completed(parameter: Parameter) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]] | None:
    words = parameter.choices
    return (lambda _ctx, _param, begun: _items(word for word in words if word.startswith(begun))) if words else None


def _items(words: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in words]


def pairs(operation: Operation[Any], given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the options as pairs for `Operation.from_text`; an option given twice gives two pairs."""
    zone = UTC if given.get("utc") else None
    found: list[tuple[str, str]] = []
    for parameter in operation.parameters:
        texts = given.get(parameter.name) or ()
        if parameter.kind is Kind.INSTANT:
            texts = [instant_text(text, zone, datetime.now(UTC)) for text in texts]
        found += [(parameter.name, str(text).lower() if isinstance(text, bool) else text) for text in texts]
    return found


# FILE and the arguments after it.


class FileArgument(click.Argument):
    """FILE: optional for the parser, since `JOBSTORE_DB` may replace it."""

    def __init__(self, help: str = FILE_HELP, *, metavar: str = "FILE") -> None:  # noqa: A002 - click's word
        super().__init__(["file"], required=False, metavar=metavar, help=help, type=click.Path(readable=False))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete files, and job names if `JOBSTORE_DB` names the store."""
        store = os.environ.get(STORE_VARIABLE)
        takes_job = any(isinstance(other, JobArgument) for other in ctx.command.params)
        jobs = _job_names(store, incomplete) if store and takes_job else []
        return [*jobs, *super().shell_complete(ctx, incomplete)]


class JobArgument(click.Argument):
    """JOB: a name or a number."""

    def __init__(self, metavar: str, help: str) -> None:  # noqa: A002 - click's word
        super().__init__(["job"], required=False, metavar=metavar, help=help)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of the jobs in FILE."""
        file = ctx.params.get("file")
        return _job_names(file, incomplete) if file else []


def _job_names(path: str, begun: str) -> list[CompletionItem]:
    """Return at most a thousand names, since the shell waits, and none after an error.

    A shell that asks for completions has not replaced ``~`` and ``$HOME`` yet.
    """
    from jobstore.language.errors import JobStoreError
    from jobstore.store import open as open_store

    file = path if is_address(path) else os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - text, not a path
    try:
        with open_store(file) as store:
            jobs = store.list_jobs(search=begun or None, limit=1000)["data"]
    except (JobStoreError, OSError):
        return []
    return _items(job["name"] for job in jobs if job["name"].startswith(begun))


def store_path(file: str | None) -> Location:
    """Return FILE, or `JOBSTORE_DB` if FILE is left out; raise `UsageError` if neither is given."""
    return two_places(file, None, "")[0]


def two_places(
    file: str | None, second: str | None, name: str, *, required: bool = False, is_path: bool = False
) -> tuple[Location, str | None]:
    """Return FILE and the argument after it, either of which may have been left out.

    With `JOBSTORE_DB` set, a single argument is the second one: ``jobstore job sync_klines_1h``. A job's name has no
    ``/``, so a single argument with one is still FILE: ``jobstore executions ./other.db``. So is an address.

    Args:
        file: the first argument.
        second: the second argument.
        name: the second argument's name in the usage line; "" if the command has none.
        required: whether the second argument must be given.
        is_path: whether the second argument is a path, which may contain a ``/``.

    Raises:
        UsageError: an argument is missing.
    """
    standing_in = os.environ.get(STORE_VARIABLE)
    if standing_in and name and second is None and file and not is_address(file) and (is_path or "/" not in file):
        click.get_current_context().meta[TAKEN_FOR] = (file, name)
        file, second = standing_in, file
    chosen = file if file is not None else standing_in
    if not chosen:
        raise click.UsageError(f"FILE is missing: give the path of a job store, or set {STORE_VARIABLE}.", _context())
    if required and second is None:
        raise click.UsageError(f"{name} is missing.", _context())
    return opened_later(chosen), second if second is None or is_path else named(second)


def opened_later(text: str) -> Location:
    """Parse the location of a store; refuse an address if psycopg is not installed."""
    location = location_of(text)
    if isinstance(location, Address):
        needs("postgres", "psycopg")
    return location


def needs(extra: str, *modules: str) -> None:
    """Raise `InvalidParameter` with the command to install an extra, if one of its modules is missing."""
    from importlib.util import find_spec

    if not all(find_spec(module) for module in modules):
        from jobstore.language.extras import install_command

        raise InvalidParameter(f"This needs the extra '{extra}'; install it: {install_command(extra)}")


def file_and_words(
    file: str | None, words: tuple[str, ...], is_word: Callable[[str], bool]
) -> tuple[Location, list[str]]:
    """Return FILE and the words after it. With `JOBSTORE_DB` set, the first argument may be a word, too."""
    if os.environ.get(STORE_VARIABLE) and file is not None and not is_address(file) and is_word(file):
        return store_path(None), [file, *words]
    return store_path(file), list(words)


def named(job: str) -> str:
    """Return a job's stored name: ``exec`` and the mirrors write ``/`` as ``%2F``, for example."""
    from jobstore.integrations.names import job_name

    if job.isdigit() or len(job) not in range(1, NAME_CHARACTERS + 1) or "\0" in job or not is_storable(job):
        return job  # a number, or a name that the store will refuse
    try:
        return checked_name(job)
    except InvalidRecord:  # escape it; a name that cannot be printed is refused everywhere
        return job_name(job) if job.isprintable() else job


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)


def ascii_integer(text: str | None, name: str, least: int, most: int = LARGEST) -> int | None:
    """Parse an integer option that is not a query parameter; raise `InvalidParameter` by the rule for those."""
    rule = Parameter(name, Kind.INTEGER, "", minimum=least, maximum=most)
    return None if text is None else rule.check(rule.read(text), text)


class _File(click.Path):
    """A path that is not a store's. It refuses an address, which would become a file name with a password in it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        refuse_address(value, param.make_metavar(ctx) if param and ctx else "This")
        return super().convert(value, param, ctx)


def once(
    option: str,
    metavar: str,
    help: str,  # noqa: A002 - click's word
    *,
    name: str | None = None,
    short: str | None = None,
    is_path: bool = False,
) -> click.Option:
    """Return a text option that may be given once; `name` is its keyword, by default the option's own word."""

    def single(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
        if len(values) > 1:
            raise InvalidParameter(f"{param.opts[0]} was given twice; give it once")
        return values[0] if values else None

    words = [word for word in (short, option, name) if word]
    type_ = _File() if is_path else None
    return click.Option(words, multiple=True, metavar=metavar, help=help, callback=single, type=type_)


def repeated(option: str, metavar: str, help: str) -> click.Option:  # noqa: A002 - click's word
    """Return a text option that may be given several times."""
    return click.Option([option], multiple=True, metavar=metavar, help=help)


def optional(name: str, metavar: str, help: str | None = None, *, is_path: bool = False) -> click.Argument:  # noqa: A002
    """Return an argument that is optional for the parser, since `JOBSTORE_DB` may replace FILE before it."""
    return click.Argument([name], required=False, metavar=metavar, help=help, type=_File() if is_path else None)


def utc_option() -> click.Option:
    """Return the option for the time zone in which times are shown and read."""
    return click.Option(
        ["--utc/--local"], default=False, help="Show and read times in UTC or in this machine's zone (the default)."
    )


def flag(option: str, help: str, name: str | None = None) -> click.Option:  # noqa: A002 - click's word
    """Return a switch, which may be repeated without effect."""
    return click.Option([option, *([name] if name else [])], is_flag=True, help=help)

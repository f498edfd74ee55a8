"""``load``, ``dump`` and ``export``: read and write whole stores and histories."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from jobstore.cli.command import Command
from jobstore.cli.endings import ending_cleanly
from jobstore.cli.options import (
    FileArgument,
    JobArgument,
    flag,
    once,
    optional,
    parameter_options,
    store_path,
    two_places,
    utc_option,
)
from jobstore.cli.phrases import count
from jobstore.cli.progress import Tally, progress
from jobstore.cli.reading import executions_of, hinting_at_jobs, query_of
from jobstore.cli.screen import STDOUT, output, say
from jobstore.language.errors import InvalidParameter, shown
from jobstore.language.parameters import LIST_JOB_EXECUTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    import click

    from jobstore.language.address import Location

PAGING = frozenset({"limit", "offset", "order_by", "order_desc"})
"""Parameters of a list that an export, which streams all rows, does not have."""
STDIN = "-"
FORMS = ("jsonl", "csv", "excel")
NEXT_LIST = '\n],\n"executions":['


def _load(file: str | None, source: str | None) -> None:
    path, given = two_places(file, source, "SOURCE", required=not _is_fed(), is_path=True)
    from jobstore.transfer.dump import load_file

    with ending_cleanly(), progress(f"Loading {path}") as tally:
        load_file(path, _source(given or STDIN), progress=tally)
    say(f"jobstore: loaded {count(tally.done, 'document')} into {path} in {tally.seconds:.1f} s")


def _is_fed() -> bool:
    """Whether stdin is a pipe or a file, so that SOURCE may be left out."""
    with suppress(OSError, ValueError):
        mode = os.fstat(sys.stdin.fileno()).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
    return False


def _source(given: str) -> str | IO[bytes]:
    return sys.stdin.buffer if given == STDIN else given


def _dump(file: str | None, out: str | None, as_jsonl: bool) -> None:
    path = store_path(file)
    from jobstore.transfer.dump import dump_lines
    from jobstore.transfer.export import refuse_own_file

    refuse_own_file(out, path)
    total = _records(path)
    with progress(f"Dumping {path}", total, quiet=_to_this_terminal(out)) as tally, output(out, path) as stream:
        if as_jsonl:
            _write_lines(stream, dump_lines(path), tally)
        else:
            _write_document(stream, dump_lines(path), tally)
    _tell_written(tally.done, "document", out)


def _records(path: Location) -> int:
    from jobstore.store import open as open_store

    with open_store(path) as store:
        pages: tuple[Any, ...] = (store.list_jobs(limit=1), store.list_job_executions(limit=1))
        return sum(page["pagination"]["total"] for page in pages)


def _write_lines(stream: TextIO, lines: Iterable[dict[str, Any]], tally: Tally) -> None:
    from jobstore.transfer.dump import END_LINE

    for line in lines:
        stream.write(f"{_compact(line)}\n")
        tally("store" not in line)
    stream.write(f"{_compact(END_LINE)}\n")


def _write_document(stream: TextIO, lines: Iterable[dict[str, Any]], tally: Tally) -> None:
    """Write the document of `jobstore.dump` as a stream, so that a large store needs little memory.

    The lines come in this order: the store's own fields, the jobs, the executions.
    """
    rest = iter(lines)
    store = next(rest)["store"]
    stream.write("{" + "".join(f"{_compact(key)}:{_compact(value)},\n" for key, value in store.items()))
    stream.write('"jobs":[')
    between, listed = "\n", "job"
    for line in rest:
        ((kind, document),) = line.items()
        if kind != listed:
            stream.write(NEXT_LIST)
            between, listed = "\n", kind
        stream.write(f"{between}{_compact(document)}")
        between = ",\n"
        tally(1)
    stream.write(f"{NEXT_LIST if listed == 'job' else ''}\n]}}\n")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _to_this_terminal(out: str | None) -> bool:
    """Whether the data goes to the terminal, where a progress bar would mix with it."""
    return out in STDOUT and sys.stdout.isatty()


def _tell_written(number: int, noun: str, out: str | None) -> None:
    if out not in STDOUT:
        say(f"jobstore: wrote {count(number, noun)} to {out}")


def _export(file: str | None, job: str | None, form: str | None, out: str | None, **given: Any) -> None:
    path, name = two_places(file, job, "JOB")
    query = query_of(executions_of(name), given, name)
    chosen = _form(form)
    from jobstore.store import open as open_store
    from jobstore.transfer.export import iter_query, refuse_own_file, write_executions

    refuse_own_file(out, path)
    with open_store(path) as store, hinting_at_jobs(store, query):
        total = store.answer(replace(query, limit=1))["pagination"]["total"]
        with progress(f"Exporting {path}", total, quiet=_to_this_terminal(out)) as tally, output(out, path) as stream:
            write_executions(iter_query(store, query), stream, chosen, tally)
    _tell_written(tally.done, "execution", out)


def _form(text: str | None) -> str:
    if text not in {None, *FORMS}:
        raise InvalidParameter(f"--format must be jsonl, csv or excel; received {shown(text)}")
    return text or FORMS[0]


def filter_options() -> list[click.Parameter]:
    """Return the filter options of a list, without those for paging and order."""
    return [option for option in parameter_options(LIST_JOB_EXECUTIONS) if option.name not in PAGING]


OUT_HELP = "Write to this file instead of stdout; on an error, an existing file is kept."

load = Command(
    "load",
    callback=_load,
    help="Create the store FILE from SOURCE: a JSON document from 'jobstore dump', or JSON lines from 'dump' or "
    "'export'.\n\nIf anything in SOURCE is refused, no store is created. FILE must not exist yet.",
    params=[
        FileArgument("The store to create. May be left out if JOBSTORE_DB names one."),
        optional("source", "SOURCE", "A file, or - for stdin; may be left out where stdin is a pipe.", is_path=True),
    ],
    examples=[
        ("jobstore load new.db jobs.json", ""),
        ("jobstore dump old.db --jsonl | jobstore load new.db -", "copy a store"),
    ],
)
dump = Command(
    "dump",
    callback=_dump,
    help="Write a whole store as JSON: jobs, executions, and all that 'jobstore load' needs to create it again.",
    params=[
        FileArgument(),
        once("--output", "OUT", OUT_HELP, name="out", short="-o", is_path=True),
        flag("--jsonl", "Write one line per job and execution instead of one document.", name="as_jsonl"),
    ],
    examples=[
        ("jobstore dump jobs.db -o jobs.json", ""),
        ("jobstore dump jobs.db --jsonl | gzip > jobs.jsonl.gz", "a large store"),
    ],
)
export = Command(
    "export",
    callback=_export,
    help="Write executions as JSON lines or CSV, oldest first: all, or those that match the filters.",
    params=[
        FileArgument(),
        JobArgument("[JOB]", "Only executions of this job, by its name or number."),
        once(
            "--format", "FORM", "jsonl (the default), csv, or excel (CSV that is safe to open in Excel).", name="form"
        ),
        once("--output", "OUT", OUT_HELP, name="out", short="-o", is_path=True),
        *filter_options(),
        utc_option(),
    ],
    examples=[
        ("jobstore export jobs.db --before 2026-01-01 -o 2025.jsonl", "before they are pruned"),
        ("jobstore export jobs.db sync_klines_1h --format excel -o runs.csv", "for a spreadsheet"),
        ("jobstore export jobs.db --status FAILURE,TIMEOUT", "what went wrong"),
    ],
)

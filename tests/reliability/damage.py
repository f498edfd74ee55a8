"""Damaged copies of a store, each asked everything; run as a process of its own, since damage may hang or crash one.

``python -m tests.reliability.damage STORE FOLDER BEGIN END STEP`` damages copies number BEGIN, BEGIN + STEP, ... of
STORE inside FOLDER, asks each, and prints one JSON line for each that did anything but answer or raise a
`JobStoreError`, then the counts of what they said.
"""

from __future__ import annotations

import json
import logging
import random
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.storage.writer import remove_store

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 512
PATTERNS = ("zeros", "noise", "one bit", "another sector")
LONGEST_SECONDS = 120
"""Damage that keeps a reader busy for longer is a hang."""
WRONG = {
    "nothing": b"",
    "one byte": b"S",
    "text": b"these are not the rows that you are looking for\n" * 100,
    "the magic alone": b"SQLite format 3\0",
    "the magic and zeros": b"SQLite format 3\0" + bytes(4080),
    "zeros": bytes(8192),
    "a zip": b"PK\x03\x04" + bytes(5000),
    "JSON": b'{"jobs": []}',
}
"""Files that never were a store."""


def files(size: int) -> int:
    """How many damaged files there are for a store of some size: every pattern in every sector, cuts, wrong files."""
    return size // SECTOR * len(PATTERNS) + 2 * (size // 4096) + len(WRONG)


def damaged(content: bytes, number: int) -> bytes:
    """The number-th damaged content."""
    if number < len(WRONG):
        return list(WRONG.values())[number]
    number -= len(WRONG)
    pages = len(content) // 4096
    if number < 2 * pages:  # cut at a page, or in the middle of one
        return content[: number // 2 * 4096 + number % 2 * 1234]
    sector, pattern = divmod(number - 2 * pages, len(PATTERNS))
    begin = sector * SECTOR
    return content[:begin] + _spoiled(content, begin, PATTERNS[pattern]) + content[begin + SECTOR :]


def _spoiled(content: bytes, begin: int, pattern: str) -> bytes:
    source = random.Random(begin)
    sector = bytearray(content[begin : begin + SECTOR])
    if pattern == "one bit":
        sector[source.randrange(SECTOR)] ^= 1 << source.randrange(8)
        return bytes(sector)
    if pattern == "another sector":
        other = source.randrange(len(content) // SECTOR) * SECTOR
        return content[other : other + SECTOR]
    return bytes(SECTOR) if pattern == "zeros" else source.randbytes(SECTOR)


def calls(path: Path) -> dict[str, Callable[[], Any]]:
    """Everything that may be asked of a file; each opens it anew."""

    def reader(question: Callable[[jobstore.JobStore], Any]) -> Callable[[], Any]:
        def ask() -> Any:
            with jobstore.open(path) as store:
                return question(store)

        return ask

    def record() -> None:
        with jobstore.Recorder(path, timeout_seconds=1) as recorder:
            recorder.finish(recorder.enqueue("sync_a_1"), "FAILURE", error="x")

    return {
        "jobs": reader(lambda store: store.list_jobs(search="sync", order_by="next_run_at", limit=1000)),
        "all jobs": reader(lambda store: store.list_jobs(order_by="description", limit=1000)),
        "a job": reader(lambda store: store.get_job(1)),
        "executions": reader(lambda store: store.list_job_executions(limit=1000)),
        "search": reader(lambda store: store.list_job_executions(search="failed", offset=20, order_by="duration_ms")),
        "window": reader(lambda store: store.list_job_executions(after="2025-10-10", search="sync")),
        "executions of a job": reader(lambda store: store.get_job_executions(1, order_by="worker_id", limit=1000)),
        "stats": reader(lambda store: store.job_stats()),
        "record": record,
    }


def outcome(call: Callable[[], Any]) -> tuple[str, str]:
    """What a call ends in: answered, a code of ours, or the traceback of what it must not end in."""
    signal.alarm(LONGEST_SECONDS)
    try:
        call()
    except jobstore.JobStoreError as error:
        return error.code, ""
    except BaseException as error:
        return f"escaped: {type(error).__name__}", traceback.format_exc()
    else:
        return "answered", ""
    finally:
        signal.alarm(0)


def _hang(*_: object) -> None:
    raise TimeoutError("a call took too long")


def _tell(**line: object) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def main(store: Path, folder: Path, begin: int, end: int, step: int) -> None:
    """Damages, asks, prints."""
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _hang)
    content = store.read_bytes()
    said: Counter[str] = Counter()
    path = folder / f"damaged-{begin}.db"
    for number in range(begin, end, step):
        _tell(begun=number)
        spoiled = damaged(content, number)
        if spoiled == content:  # zeros over zeros
            continue
        path.write_bytes(spoiled)
        for name, call in calls(path).items():
            ended, trace = outcome(call)
            said[ended] += 1
            if trace:
                _tell(number=number, call=name, ended=ended, trace=trace)
        remove_store(path)
    _tell(said=said)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]))

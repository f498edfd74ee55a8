"""The reliability programme: what is promised, and the tests that try to break it, in the order of the report."""

from __future__ import annotations

from typing import NamedTuple

RELIABILITY = "tests/reliability"
CONTRACT = "tests/contract"


class Trial(NamedTuple):
    """One line of the report."""

    number: str
    promise: str
    tests: tuple[str, ...]
    """Paths, and options of pytest."""


PROGRAMME = (
    Trial(
        "T1", "A killed process loses nothing that was acknowledged", (f"{RELIABILITY}/test_recorder_crashes.py", "-k", "acknowledged or archives")
    ),
    Trial("T2", "Nor does a power cut, at any moment", (f"{RELIABILITY}/test_power_cut.py",)),
    Trial("T3", "A failing system call raises a typed error", (f"{RELIABILITY}/test_io_errors.py",)),
    Trial("T4", "Each answer is of one snapshot, beside writers", (f"{RELIABILITY}/test_snapshots.py",)),
    Trial("T5", "A recorder recovers from what is done to it", (f"{RELIABILITY}/test_recorder_crashes.py", "-k", "whatever")),
    Trial("T6", "Many writers lose nothing and wait their turn", (f"{RELIABILITY}/test_recorder_crowds.py", "-k", "writers")),
    Trial("T7", "Answers equal those of plain lists", ("tests/property/test_model.py", "tests/property/test_queries.py")),
    Trial("T8", "A bad value gives one code through every interface", (f"{CONTRACT}/test_nasty_values.py",)),
    Trial("T9", "Any request at all gets an answer", (f"{RELIABILITY}/test_http_fuzz.py", "tests/property/test_words.py")),
    Trial("T10", "The API does what its document says", (f"{CONTRACT}/http/test_schemathesis.py",)),
    Trial("T11", "Nobody reads without permission", (f"{CONTRACT}/http/test_authorization.py",)),
    Trial("T12", "A damaged file is a typed error", (f"{RELIABILITY}/test_damage.py",)),
    Trial("T13", "A bad row leaves good rows right", (f"{RELIABILITY}/test_poison.py",)),
    Trial("T14", "An upgrade leaves the old format or the new", (f"{RELIABILITY}/test_recorder_crashes.py", "-k", "upgrade or migration or half")),
    Trial("T15", "A full disk loses nothing, and there is a way out", (f"{RELIABILITY}/test_full_disk.py",)),
    Trial("T16", "Threads and forks share nothing they must not", (f"{RELIABILITY}/test_readers.py", f"{RELIABILITY}/test_recorder_crowds.py", "tests/unit/test_forking.py", "-k", "fork or thread or child")),
    Trial("T17", "Readers that may not write get data or a remedy", (f"{RELIABILITY}/test_read_only.py",)),
    Trial("T18", "Slow and hostile peers delay nobody", (f"{RELIABILITY}/test_http_slow_peers.py",)),
    Trial("T19", "Each way to find a page equals a plain scan", ("tests/property/test_access_paths.py",)),
    Trial("T20", "A prune delays nobody", (f"{RELIABILITY}/test_recorder_crowds.py", "-k", "prune")),
    Trial("T22", "What is used stays flat, also beside a stopped writer", (f"{RELIABILITY}/test_resources.py",)),
    Trial("T23", "An exception at any moment breaks nothing", (f"{RELIABILITY}/test_interrupts.py",)),
    Trial(
        "T24", "A server keeps what it acknowledged, and answers as a file does",
        ("tests/postgres/test_crowd.py", "tests/postgres/test_model.py", "tests/postgres/test_conformance.py", "tests/postgres/test_reading.py"),
    ),
    Trial(
        "T25", "A schedule fires when cron and APScheduler fire",
        ("tests/property/test_cronsim.py", "tests/integrations/test_apscheduler_triggers.py"),
    ),
    Trial("T21", "The tests see faults that are put into the code", (f"{RELIABILITY}/test_faults.py", "-m", "slow", "-n", "2")),
)  # fmt: skip

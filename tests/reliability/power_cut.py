"""A simulated power cut: what a process did to its files is written down, and cut off at any point of it.

    python -m tests.reliability.power_cut FOLDER --points 3000 --seed 7

A library of our own (`recording_io.c`) writes down each write, truncation, sync, creation, rename and removal of a
workload. From that record the disk is made as a cut would leave it: what was brought to the disk is there; of what was
not, nothing (``drop``), all (``keep``), any part (``random``), or any part with one write torn within its sectors
(``torn``). Names that their folder was not synced for are there up to any moment. Then the store is opened, and must
hold what was acknowledged. Prints the figures as JSON; any exception is a finding.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jobstore
from jobstore.storage.schema import SCHEMA_VERSION
from tests.formats.first import make_first_format
from tests.reliability.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SECTOR = 512
MODES = ("drop", "keep", "random", "torn")
RUNS = [
    {"id": number, "job_name": f"job {number % 3}", "status": ("SUCCESS", "FAILURE")[number % 2],
     "started_at": f"2026-01-{number % 28 + 1:02d}T00:00:00Z", "result": {"n": number}, "trace_id": f"before{number}"}
    for number in range(1, 61)
]  # fmt: skip
ALL = {str(run["id"]) for run in RUNS}


class Record(NamedTuple):
    """One thing that was done."""

    op: str
    inode: int
    at: int
    data: bytes

    @property
    def names(self) -> list[str]:
        """Of a creation, a rename, a link or a removal: the names, without their folder."""
        return [os.fsdecode(path).rpartition("/")[2] for path in self.data.split(b"\0")]


def records(trace: Path) -> Iterator[Record]:
    """All that was written down, in order."""
    whole, at = trace.read_bytes(), 0
    while at < len(whole):
        op, inode, offset, size = struct.unpack_from("<cQQQ", whole, at)
        yield Record(op.decode(), inode, offset, whole[at + 25 : at + 25 + size])
        at += 25 + size


def applied(content: bytearray, record: Record) -> None:
    """What a write or a truncation does to a file."""
    end = record.at + len(record.data)
    if record.op == "T":
        del content[record.at :]
        end = record.at
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if record.op == "W":
        content[record.at : end] = record.data


def torn(record: Record, choice: random.Random) -> list[Record]:
    """Some sectors of a write."""
    pieces = [record.data[at : at + SECTOR] for at in range(0, len(record.data), SECTOR)]
    return [
        record._replace(at=record.at + number * SECTOR, data=piece)
        for number, piece in enumerate(pieces)
        if choice.random() < 0.5
    ]


@dataclass
class File:
    """What is on the disk of a file for certain, and what is on its way."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)

    def synced(self) -> None:
        for record in self.pending:
            applied(self.content, record)
        self.pending.clear()

    def after_cut(self, mode: str, choice: random.Random) -> bytes:
        """What a cut leaves of it."""
        content = bytearray(self.content)
        kept = [] if mode == "drop" else [record for record in self.pending if mode == "keep" or choice.random() < 0.5]
        if mode == "torn" and kept:
            at = choice.randrange(len(kept))
            kept[at : at + 1] = torn(kept[at], choice) if kept[at].op == "W" else [kept[at]]
        for record in kept:
            applied(content, record)
        return bytes(content)


class Disk:
    """A folder on a disk that loses its power: its files by name, those of SQLite's shared memory left out."""

    def __init__(self, folder: Path) -> None:
        self.by_inode: dict[int, File] = {}
        self.names: dict[str, File] = {}
        self.pending: list[tuple[str, File | None]] = []
        self._seen: dict[str, File] = {}
        for path in folder.iterdir():
            file = File(bytearray(path.read_bytes()))
            self.by_inode[path.stat().st_ino] = self.names[path.name] = self._seen[path.name] = file

    def take(self, record: Record) -> None:
        """Does what was done."""
        if record.op == "C":
            self.by_inode[record.inode] = file = File()
            self._name(record.names[0], file)
        elif record.op in "WT":
            self.by_inode[record.inode].pending.append(record)
        elif record.op == "S":
            self.by_inode[record.inode].synced()
        elif record.op == "D":
            self._settle(len(self.pending))
        elif record.op in "RL":
            old, new = record.names
            self._name(new, self._seen[old])
            if record.op == "R":
                self._name(old, None)
        elif record.op == "U":
            self._name(record.names[0], None)

    def _name(self, name: str, file: File | None) -> None:
        self.pending.append((name, file))
        if file is None:
            self._seen.pop(name, None)
        else:
            self._seen[name] = file

    def _settle(self, most: int) -> None:
        self.names = self._named(most)
        del self.pending[:most]

    def _named(self, most: int) -> dict[str, File]:
        names = dict(self.names)
        for name, file in self.pending[:most]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        return names

    def after_cut(self, mode: str, choice: random.Random) -> dict[str, bytes]:
        """The files that a cut leaves."""
        most = {"drop": 0, "keep": len(self.pending)}.get(mode, choice.randint(0, len(self.pending)))
        named = self._named(most)
        return {name: file.after_cut(mode, choice) for name, file in named.items() if not name.endswith("-shm")}


# What is done, and what must hold after a cut.


class Workload:
    """Something that is done in a folder; `note` tells what was asked for and what came back."""

    def prepare(self, folder: Path) -> None:
        """What is there, and on the disk, before."""
        jobstore.load(folder / "jobs.db", {"executions": RUNS})

    def act(self, path: Path) -> None:
        raise NotImplementedError

    def verify(self, path: Path, notes: list[str]) -> None:
        """Raises where what was acknowledged is lost, or what is there is wrong."""
        raise NotImplementedError


def note(text: str) -> None:
    """Into the record, between what is done to the files."""
    ctypes.CDLL(None).power_note(text.encode())


def sound(path: Path) -> None:
    """The store is whole, and can be recorded to."""
    with jobstore.Recorder(path) as recorder:
        recorder.save_job("after the cut", job_type="t", job_category="c", interval_seconds=60)
        recorder.finish(recorder.enqueue("after the cut", trace_id="after"), "SUCCESS")
    problems = jobstore.check(path)
    assert not problems, problems


def ids(path: Path) -> set[str]:
    return {run["id"] for run in jobstore.dump(path)["executions"]}


def archived_ids(archive: Path) -> Counter[str]:
    """How often each execution stands in an archive; a batch that was cut off may have left half a line."""
    found: Counter[str] = Counter()
    for line in archive.read_bytes().splitlines() if archive.exists() else []:
        with suppress(ValueError):
            found[json.loads(line.decode())["id"]] += 1
    return found


class Recording(Workload):
    """A recorder records, closes (which brings the log back) and opens again."""

    def act(self, path: Path) -> None:
        for turn in range(4):
            with jobstore.Recorder(path) as recorder:
                for number in range(4):
                    self._run(recorder, f"t{turn}-{number}", number)
                recorder.rename_job("job 1", f"job {turn + 7}") if turn == 1 else None

    def _run(self, recorder: jobstore.Recorder, trace: str, number: int) -> None:
        note(f"? {trace} PENDING")
        recorder.save_job(f"job {number}", job_type="t", job_category="c", interval_seconds=5)
        run = recorder.enqueue(f"job {number}", trace_id=trace, parameters={"x": trace * 100})
        note(f"+ {trace} PENDING")
        for status in ("RUNNING", "SUCCESS"):
            note(f"? {trace} {status}")
            recorder.start(run) if status == "RUNNING" else recorder.finish(run, status, result={"n": number})
            note(f"+ {trace} {status}")

    def verify(self, path: Path, notes: list[str]) -> None:
        ledger = Ledger()
        for line in notes:
            ledger.take(line)
        for run in RUNS:
            ledger.acknowledged[str(run["trace_id"])] = str(run["status"])
            ledger.asked[str(run["trace_id"])] = {str(run["status"])}
        ledger.compare([dict(run) for run in jobstore.dump(path)["executions"]])
        sound(path)


class Creation(Workload):
    """A recorder makes a store; it is there whole or not at all."""

    def prepare(self, folder: Path) -> None:
        pass

    def act(self, path: Path) -> None:
        with jobstore.Recorder(path, timezone="Asia/Tokyo") as recorder:
            note("created")
            recorder.save_job("job", job_type="t", job_category="c", interval_seconds=5)
            note("saved")

    def verify(self, path: Path, notes: list[str]) -> None:
        if not path.exists():
            assert not notes, "the store was there"
        else:
            with jobstore.open(path) as store:
                assert store.timezone == "Asia/Tokyo"
                assert "saved" not in notes or store.get_job("job")
        sound(path)


class Loading(Workload):
    """A store is loaded: whole or not at all."""

    def prepare(self, folder: Path) -> None:
        pass

    def act(self, path: Path) -> None:
        jobstore.load(path, {"executions": RUNS})
        note("loaded")

    def verify(self, path: Path, notes: list[str]) -> None:
        assert path.exists() or not notes, "what was loaded is gone"
        if not path.exists():
            jobstore.load(path, {"executions": RUNS})
        assert ids(path) == ALL
        sound(path)


class Pruning(Workload):
    """A prune with an archive: each execution is in the store or in the archive, and in the end in one of them."""

    def act(self, path: Path) -> None:
        with jobstore.Recorder(path) as recorder:
            for day in ("2026-01-08", "2026-01-15", "2026-01-22"):
                recorder.prune(before=day, archive=path.with_name("pruned.jsonl"))
                note(day)

    def verify(self, path: Path, notes: list[str]) -> None:
        archive = path.with_name("pruned.jsonl")
        kept = ids(path)
        assert archived_ids(archive).keys() | kept >= ALL, "lost"
        gone = {str(run["id"]) for run in RUNS for day in notes if str(run["started_at"]) < day}
        assert not gone & kept, "what was pruned is back"
        with jobstore.Recorder(path) as recorder:
            recorder.prune(before="2026-01-22", archive=archive)
        archived = archived_ids(archive)
        assert archived.total() == archive.read_bytes().count(b"\n"), "a line of the archive is damaged"
        assert max(archived.values()) == 1, "archived twice"
        assert archived.keys() | ids(path) == ALL, "lost"
        assert not archived.keys() & ids(path), "archived and kept"
        sound(path)


class BackingUp(Workload):
    """A backup is whole once it was acknowledged; before that there is none, or it is whole."""

    def act(self, path: Path) -> None:
        jobstore.backup(path, path.with_name("copy.db"))
        note("copied")

    def verify(self, path: Path, notes: list[str]) -> None:
        copy = path.with_name("copy.db")
        assert copy.exists() or not notes, "the backup is gone"
        for each in (path, copy) if copy.exists() else (path,):
            assert ids(each) == ALL
            sound(each)


class Restoring(Workload):
    """A backup is restored over a store that is recorded to: one of them is there, and once acknowledged, the backup."""

    backed_up = RUNS[:30]

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        jobstore.load(folder / "copy.db", {"executions": self.backed_up})

    def act(self, path: Path) -> None:
        with jobstore.Recorder(path) as recorder:
            recorder.save_job("late", job_type="t", job_category="c", interval_seconds=5)
            recorder.enqueue("late", trace_id="late")
            note("recorded")
            jobstore.restore(path.with_name("copy.db"), path)
            note("restored")
            recorder.save_job("new", job_type="t", job_category="c", interval_seconds=5)
            note("saved")

    def verify(self, path: Path, notes: list[str]) -> None:
        there, backed_up = ids(path), {str(run["id"]) for run in self.backed_up}
        if there != backed_up:
            assert "restored" not in notes, "the old store is back"
            assert there >= ALL, "neither the old store nor the backup"
            assert len(there) > len(RUNS) or "recorded" not in notes, "what was recorded last is lost"
        with jobstore.open(path) as store:
            assert "saved" not in notes or store.get_job("new"), "what was recorded after it is lost"
        assert ids(path.with_name("copy.db")) == backed_up, "the backup was changed"
        sound(path)


class Upgrading(Workload):
    """A recorder opens a file of format 1: it has the old format or the new, and everything either way."""

    def prepare(self, folder: Path) -> None:
        jobstore.load(folder / "today", {"executions": RUNS})
        make_first_format(folder / "jobs.db", folder / "today")
        for path in folder.glob("today*"):
            path.unlink()

    def act(self, path: Path) -> None:
        with jobstore.Recorder(path):
            note("upgraded")

    def verify(self, path: Path, notes: list[str]) -> None:
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        assert version == SCHEMA_VERSION or (version == 1 and not notes), f"format {version}"
        jobstore.Recorder(path).close()
        assert ids(path) == ALL
        sound(path)


WORKLOADS: dict[str, Workload] = {
    "recording": Recording(),
    "creation": Creation(),
    "loading": Loading(),
    "pruning": Pruning(),
    "backing up": BackingUp(),
    "restoring": Restoring(),
    "upgrading": Upgrading(),
}


# Writing down, cutting, looking.


def library(folder: Path) -> Path:
    """The recording library, compiled."""
    built = folder / "recording_io.so"
    if not built.exists():
        source = ROOT / "tests" / "reliability" / "recording_io.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    return built


def written_down(name: str, folder: Path) -> tuple[Disk, list[Record]]:
    """The disk before a workload, and what the workload did."""
    work, trace = folder / "work", folder / "trace"
    shutil.rmtree(work, ignore_errors=True)
    trace.unlink(missing_ok=True)
    work.mkdir()
    WORKLOADS[name].prepare(work)
    disk = Disk(work)
    environment = {
        **os.environ, "LD_PRELOAD": str(library(folder)), "POWER_FOLDER": str(work.resolve()), "POWER_TRACE": str(trace),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.reliability.power_cut", str(work), "--act", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return disk, list(records(trace))


def spread(done: list[Record], points: int, choice: random.Random) -> list[tuple[int, str]]:
    """Points and what is left at each: anywhere in each part of the steps, in each mode as often.

    And the hardest of all: right after each acknowledgement, when nothing is kept that was not brought to the disk.
    """
    first = choice.randrange(len(MODES))
    anywhere = [
        (int((turn + choice.random()) * (len(done) + 1) / points), MODES[(first + turn) % len(MODES)])
        for turn in range(points)
    ]
    hardest = [(at, "drop") for at, record in enumerate(done, 1) if record.op == "N" and record.data[:1] != b"?"]
    return sorted({*anywhere, *hardest})


def cut(name: str, folder: Path, points: int, seed: int) -> dict[str, Any]:
    """Cuts a workload at so many points; raises with the point at the first finding."""
    disk, done = written_down(name, folder)
    choice = random.Random(seed)
    chosen = spread(done, points, choice)
    notes: list[str] = []
    verified = set()
    at = 0
    for point, mode in chosen:
        for record in done[at:point]:
            if record.op == "N":
                notes.append(record.data.decode())
            else:
                disk.take(record)
        at = point
        left = disk.after_cut(mode, choice)
        state = (len(notes), *sorted((file, sha256(content).digest()) for file, content in left.items()))
        if state in verified:  # between two syncs many cuts leave the same
            continue
        verified.add(state)
        after = folder / "work"  # the same place, or paths that the store keeps would lead to files that were not cut
        shutil.rmtree(after, ignore_errors=True)
        after.mkdir()
        for file, content in left.items():
            (after / file).write_bytes(content)
        try:
            WORKLOADS[name].verify(after / "jobs.db", notes)
        except Exception as error:
            raise AssertionError(f"{name}: cut after {point} of {len(done)} steps, {mode}; noted {notes}") from error
    return {"workload": name, "steps": len(done), "points": len(chosen), "states": len(verified)}


def main(arguments: list[str]) -> None:
    """All workloads, the points shared among them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=WORKLOADS)
    parser.add_argument("--act", choices=WORKLOADS)
    options = parser.parse_args(arguments)
    if options.act:
        WORKLOADS[options.act].act(options.folder / "jobs.db")
        return
    names = [options.only] if options.only else list(WORKLOADS)
    for name in names:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            figures = cut(name, Path(folder), options.points // len(names), options.seed)
        sys.stdout.write(f"{json.dumps(figures)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

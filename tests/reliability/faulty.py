"""Every call on a store's files fails once, one after the other; run as a process with `faulty_io` preloaded.

``python -m tests.reliability.faulty syncs FOLDER`` prints how often each call of a recorder brings a store's files to
the disk. ``python -m tests.reliability.faulty FOLDER FAULTS SEED`` gives each call FAULTS of the four faults, in turn,
and prints a JSON line for each scenario: how many calls it makes, how often a fault ended in success and how often in
which error, and what it found that must not be.
"""

from __future__ import annotations

import ctypes
import errno
import json
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
from jobstore.storage.writer import remove_store

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = [(code, on) for code in (errno.EIO, errno.ENOSPC) for on in (0, 1)]
"""An error once, and from then on."""
MANY = 100
"""Of a scenario with more calls, every second one fails where not each has all faults."""
_library = ctypes.CDLL(None)


def arm(at: int, code: int = 0, on: int = 0) -> None:
    """The `at`-th call from now fails; 0 for none."""
    _library.faulty_arm(ctypes.c_long(at), ctypes.c_int(code), ctypes.c_int(on))


def calls() -> int:
    return int(_library.faulty_calls())


class Scenario:
    """Something done to a store that is new each time; `act` is what faults happen in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def act(self) -> None:
        raise NotImplementedError

    def again(self) -> None:
        """After the fault: what must work, with what the fault left behind."""
        with jobstore.open(self.path) as store:
            assert store.list_jobs()["pagination"]["total"] == 3
            assert store.list_job_executions(search="sync")["pagination"]["total"] >= 20

    def close(self) -> None:
        pass


class Open(Scenario):
    """A reader opens and asks."""

    def act(self) -> None:
        with jobstore.open(self.path) as store:
            ask(store)


class Ask(Scenario):
    """A reader that stands open asks; the same one must answer when the disk is well again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.store = jobstore.open(path)
        self.store.get_job(1)
        with jobstore.Recorder(path) as recorder:
            recorder.enqueue("sync_1")

    def act(self) -> None:
        ask(self.store)

    def again(self) -> None:
        super().again()
        ask(self.store)

    def close(self) -> None:
        self.store.close()


class Record(Scenario):
    """A recorder records; what came back is there, and the same recorder goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recorder = jobstore.Recorder(path, timeout_seconds=0.2)
        self.acknowledged: list[str] = []

    def act(self) -> None:
        for _ in range(2):
            execution_id = self.recorder.enqueue("sync_1", parameters={"n": "x" * 5_000})
            self.acknowledged.append(execution_id)
            self.recorder.start(execution_id)
            self.recorder.finish(execution_id, "FAILURE", error="x" * 9_000)

    def again(self) -> None:
        super().again()
        self.act()
        with jobstore.open(self.path) as store:
            there = {run["id"] for run in store.list_job_executions(limit=1000)["data"]}
        assert there >= set(self.acknowledged), "what was acknowledged is gone"

    def close(self) -> None:
        self.recorder.close()


class Begin(Scenario):
    """A recorder opens, records and closes, which brings the log back into the file."""

    def act(self) -> None:
        with jobstore.Recorder(self.path, timeout_seconds=0.2) as recorder:
            recorder.rename_job("clean_3", "clean_three")
            recorder.rename_job("clean_three", "clean_3")


class Create(Scenario):
    """A recorder makes a file that was not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.with_name("new-jobs.db"))
        remove_store(self.path)

    def act(self) -> None:
        with jobstore.Recorder(self.path, timeout_seconds=0.2) as recorder:
            recorder.save_job("sync", job_type="kline", job_category="sync")

    def again(self) -> None:
        self.act()
        with jobstore.open(self.path) as store:
            assert store.get_job("sync")["name"] == "sync"

    def close(self) -> None:
        remove_store(self.path)


class Load(Scenario):
    """A store is loaded: whole, or not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.with_name("loaded-jobs.db"))
        remove_store(self.path)

    def act(self) -> None:
        jobstore.load(self.path, WORLD)

    def again(self) -> None:
        if not self.path.exists():
            assert not list(self.path.parent.glob("*.loading*")), "something is left behind"
            self.act()
        super().again()

    def close(self) -> None:
        remove_store(self.path)


class Prune(Scenario):
    """A prune takes some; what it left is whole, and the next one ends the work."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recorder = jobstore.Recorder(path, timeout_seconds=0.2)

    def act(self) -> None:
        self.recorder.prune(keep_last=7)

    def again(self) -> None:
        self.act()
        with jobstore.open(self.path) as store:
            assert store.list_job_executions()["pagination"]["total"] == 21

    def close(self) -> None:
        self.recorder.close()


class Dump(Scenario):
    """A store is dumped."""

    def act(self) -> None:
        assert len(jobstore.dump(self.path)["executions"]) == 60


SCENARIOS: tuple[type[Scenario], ...] = (Open, Ask, Record, Begin, Create, Load, Prune, Dump)
NAMES = ("sync_1", "failed_2", "clean_3")
WORLD: dict[str, Any] = {
    "jobs": [{"name": name, "job_type": "kline", "job_category": "sync", "schedule": "@daily"} for name in NAMES],
    "executions": [
        {"job_name": NAMES[number % 3], "status": "SUCCESS", "started_at": f"2026-01-{number % 28 + 1:02d}T00:00:00Z"}
        for number in range(60)
    ],
}


def ask(store: jobstore.JobStore) -> None:
    store.list_jobs(order_by="next_run_at")
    store.list_job_executions(search="sync", order_by="duration_ms")
    store.get_job_executions(1, after="2026-01-02T00:00:01Z")
    store.job_stats()


def trial(kind: type[Scenario], base: Path, at: int, fault: tuple[int, int]) -> tuple[str, int]:
    """How a scenario ends with a fault at a call, and how many calls it made."""
    path = base.with_name("tried-jobs.db")
    remove_store(path)
    shutil.copy(base, path)
    scenario = kind(path)
    try:
        arm(at, *fault)
        ended = "success" if (error := attempt(scenario.act)) is None else error
        made = calls()
        arm(0)
        after = attempt(scenario.again)
        return (ended if after is None else f"afterwards {after}"), made
    finally:
        arm(0)
        scenario.close()


def attempt(act: Callable[[], None]) -> str | None:
    """The code of a typed error, the traceback of any other, or nothing."""
    try:
        act()
    except jobstore.StoreError as error:
        return error.code
    except BaseException:
        return traceback.format_exc()
    return None


def main(folder: Path, faults: int, seed: int) -> None:
    base = folder / "base-jobs.db"
    arm(0)
    jobstore.load(base, WORLD)
    for kind in SCENARIOS:
        ended, made = trial(kind, base, 0, (0, 0))
        assert ended == "success", ended
        ends: Counter[str] = Counter()
        step = 2 if faults < len(FAULTS) and made > MANY else 1
        for number, at in enumerate(range(1 + seed % step, made + 1, step), seed // 2):
            for turn in range(faults):
                ends[trial(kind, base, at, FAULTS[(number + turn) % len(FAULTS)])[0]] += 1
        sys.stdout.write(f"{json.dumps({'scenario': kind.__name__, 'calls': made, 'ends': ends})}\n")


def count_syncs(folder: Path) -> None:
    """The calls of a recorder, and what each brought to the disk before it came back."""
    found: dict[str, int] = {}

    def counted(name: str, act: Callable[[], Any]) -> Any:
        before = _library.faulty_syncs()
        result = act()
        found[name] = _library.faulty_syncs() - before
        return result

    with jobstore.Recorder(folder / "jobs.db") as recorder:
        counted("save_job", lambda: recorder.save_job("sync", job_type="kline", job_category="sync"))
        execution_id = counted("enqueue", lambda: recorder.enqueue("sync"))
        counted("start", lambda: recorder.start(execution_id))
        counted("finish", lambda: recorder.finish(execution_id, "SUCCESS"))
        counted("rename_job", lambda: recorder.rename_job("sync", "other"))
        counted("prune", lambda: recorder.prune(keep_last=0))
        counted("remove_job", lambda: recorder.remove_job("other"))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "syncs":
        count_syncs(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""Calls on a store as other users, for root: ``python -m tests.reliability.users``.

Reads lines ``[user, group, groups, umask, call, store]`` and prints what came, as JSON: ``{"said": ...}``, or the code
and the message of an error.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore
import jobstore.recording.recorder
import jobstore.store  # all of it, before the user changes to one who may not read the interpreter's folders
from jobstore.http import tokens
from jobstore.recording.archive import Archive
from jobstore.transfer.backup import backup, check, restore
from jobstore.transfer.dump import dump
from jobstore.transfer.export import export

if TYPE_CHECKING:
    from collections.abc import Callable


def look(path: Path) -> int:
    with jobstore.open(path) as store:
        return store.list_job_executions()["pagination"]["total"]


def look_twice(path: Path) -> list[int]:
    """Asks, lets the caller do something, and asks again."""
    with jobstore.open(path) as store:
        first = store.list_job_executions()["pagination"]["total"]
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        return [first, store.list_job_executions()["pagination"]["total"]]


def copy(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "copy.db"
        backup(path, to)
        return look(to)


def copy_beside(path: Path) -> None:
    backup(path, path.with_name("copy.db"))


def restore_beside(path: Path) -> int:
    new = path.with_name("new.db")
    restore(path, new)
    return stat.S_IMODE(new.stat().st_mode)


def restore_copy(path: Path) -> int:
    """Restores what `copy_beside` made."""
    restore(path.with_name("copy.db"), path)
    return stat.S_IMODE(path.stat().st_mode)


def record_beside(path: Path) -> int:
    """Records into what `restore_beside` made."""
    with jobstore.Recorder(path.with_name("new.db")) as recorder:
        recorder.enqueue("sync")
    return look(path.with_name("new.db"))


def record_after_making_writable(path: Path) -> int:
    """Records into a read-only store of this user: refused, and again after the remedy that the message names."""
    with suppress(jobstore.StoreUnreadable), jobstore.Recorder(path):
        pass
    path.chmod(0o644)
    with jobstore.Recorder(path) as recorder:
        recorder.enqueue("sync")
    return look(path)


def prune(path: Path) -> int:
    with jobstore.Recorder(path) as recorder:
        recorder.finish(recorder.enqueue("sync"), "SUCCESS")
        return recorder.prune(before="2100-01-01", archive=path.with_name("old.jsonl"))


def prune_elsewhere(path: Path) -> int:
    with jobstore.Recorder(path) as recorder:
        return recorder.prune(before="2100-01-01", archive=path.with_name("other.jsonl"))


def prune_and_die(path: Path) -> None:
    """A prune that is killed when its batch is in the archive and not yet deleted."""
    child = os.fork()
    if child == 0:
        take = Archive.take

        def take_and_die(*given: Any) -> None:
            take(*given)
            os._exit(9)

        Archive.take = take_and_die  # type: ignore[method-assign,assignment]
        prune(path)
    os.waitpid(child, 0)


def in_a_box(path: Path) -> list[object]:
    """Makes each kind of file in a folder that this user may write but not list."""
    box = path.parent / "box"
    backup(path, box / "copy.db")
    restore(path, box / "restored.db")
    jobstore.load(box / "loaded.db", {"jobs": []})
    with jobstore.Recorder(box / "new.db") as recorder:
        recorder.save_job("sync", job_type="kline", job_category="sync")
        recorder.finish(recorder.enqueue("sync"), "SUCCESS")
        pruned = recorder.prune(before="2100-01-01", archive=box / "old.jsonl")
    return [pruned, *(look(box / name) for name in ("copy.db", "restored.db", "loaded.db", "new.db"))]


def make_token(path: Path) -> str:
    return tokens.create(f"{path}.tokens", label=f"of {os.getuid()}")


def count_tokens(path: Path) -> int:
    return len(tokens.list_(f"{path}.tokens"))


def take_out(path: Path) -> int:
    with jobstore.open(path) as store:
        return export(store, io.StringIO())


def record(path: Path) -> str:
    with jobstore.Recorder(path, timeout_seconds=0.5) as recorder:
        recorder.save_job("sync", job_type="kline", job_category="sync")
        return recorder.enqueue("sync")


def take_lock(path: Path) -> str:
    """Tries to hold the lock, and so to keep every recorder out."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY)
    except PermissionError:
        return "refused"
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return "taken"


CALLS: dict[str, Callable[[Path], object]] = {
    "look": look,
    "look_twice": look_twice,
    "check": check,
    "backup": copy,
    "copy_beside": copy_beside,
    "restore_beside": restore_beside,
    "restore_copy": restore_copy,
    "record_beside": record_beside,
    "record_after_making_writable": record_after_making_writable,
    "prune": prune,
    "prune_elsewhere": prune_elsewhere,
    "prune_and_die": prune_and_die,
    "in_a_box": in_a_box,
    "make_token": make_token,
    "count_tokens": count_tokens,
    "export": take_out,
    "dump": lambda path: len(dump(path)["executions"]),
    "record": record,
    "lock": take_lock,
}


def answer(user: int, group: int, groups: list[int], umask: int, call: str, path: str) -> None:
    """Becomes the user and prints what the call gives."""
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(user)
    os.umask(umask)
    try:
        said: object = {"said": CALLS[call](Path(path))}
    except jobstore.JobStoreError as error:
        said = {"code": error.code, "message": str(error)}
    except BaseException as error:
        said = {"raised": repr(error)}
    sys.stdout.write(f"{json.dumps(said)}\n")
    sys.stdout.flush()


def main() -> None:
    """One child for each line of the input."""
    with tempfile.TemporaryDirectory() as folder:  # so that all is imported that these users may not read
        for name in ("record", "look", "check", "backup", "export", "dump"):
            CALLS[name](Path(folder) / "jobs.db")
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            try:
                answer(*json.loads(line))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()

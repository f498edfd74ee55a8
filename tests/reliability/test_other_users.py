"""A store that several users read and write: nobody's look keeps anybody from recording.

A owns the store, B belongs to the same group, C is anybody else; root is root.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore import replacing
from jobstore.transfer.backup import backup, restore

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OPS = 47_003
USERS = {"A": (47_001, 47_001, [OPS]), "B": (47_002, 47_002, [OPS]), "C": (47_009, 47_009, []), "root": (0, 0, [])}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


class Users:
    """A process that makes a call as any of them."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.users"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, who: str, call: str, path: Path, umask: int = 0o022) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps([*USERS[who], umask, call, str(path)])}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __call__(self, who: str, call: str, path: Path, umask: int = 0o022) -> dict[str, Any]:
        self.ask(who, call, path, umask)
        found: dict[str, Any] = json.loads(self.answer())
        return found


@pytest.fixture(scope="module")
def asked() -> Iterator[Users]:
    """What a call of a user gives."""
    users = Users()
    yield users
    users.process.kill()
    users.process.communicate()


@pytest.fixture(params=[0o2775, 0o775], ids=["group kept", "group not kept"])
def path(quick_folder: Path, asked: Users, request: pytest.FixtureRequest) -> Path:
    """A store of A in a folder of the group."""
    quick_folder.chmod(0o755)
    folder = quick_folder / "shared"
    folder.mkdir()
    os.chown(folder, USERS["A"][0], OPS)
    folder.chmod(request.param)
    path = folder / "jobs.db"
    assert "said" in asked("A", "record", path)
    os.chown(path, USERS["A"][0], OPS)
    return path


def beside(path: Path) -> dict[str, os.stat_result]:
    return {entry.name.removeprefix(path.name): entry.stat() for entry in path.parent.iterdir() if entry != path}


@pytest.mark.parametrize("who", ["B", "C", "root", "A"])
@pytest.mark.parametrize("call", ["look", "check", "backup", "export", "dump"])
def test_a_look_leaves_nothing_that_keeps_the_owner_out(path: Path, asked: Users, who: str, call: str) -> None:
    said = asked(who, call, path)
    assert said == {"said": [] if call == "check" else 1}
    assert {found.st_uid for found in beside(path).values()} == {USERS["A"][0]}
    if who in "BC":
        assert beside(path).keys() == {".lock"}
    assert "said" in asked("A", "record", path)


@pytest.mark.parametrize("who", ["B", "C"])
def test_a_reader_that_stays_sees_what_is_recorded_meanwhile_and_keeps_nobody_out(
    path: Path, asked: Users, who: str
) -> None:
    reader = Users()
    try:
        reader.ask(who, "look_twice", path)
        assert reader.answer() == "ready\n"
        assert "said" in asked("A", "record", path)
        assert reader.process.stdin is not None
        reader.process.stdin.write("\n")
        reader.process.stdin.flush()
        assert json.loads(reader.answer()) == {"said": [1, 2]}
        assert "said" in asked("A", "record", path)
        assert {found.st_uid for found in beside(path).values()} == {USERS["A"][0]}
    finally:
        reader.process.kill()
        reader.process.communicate()


@pytest.mark.parametrize("first", ["root", "A", "B"])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_whoever_may_write_the_store_records_whoever_was_there_before(
    path: Path, asked: Users, first: str, umask: int
) -> None:
    path.chmod(0o664)
    assert "said" in asked("A", "record", path)  # the lock takes over a change of mode when its owner comes next
    Path(f"{path}.lock").unlink()
    assert "said" in asked(first, "record", path, umask)
    for who in ("A", "B", "root"):
        assert "said" in asked(who, "record", path, umask), who


def test_side_files_of_a_live_recorder_are_for_those_who_may_write_the_store(path: Path, asked: Users) -> None:
    path.chmod(0o664)
    with jobstore.Recorder(path) as recorder:
        for _ in range(120):
            recorder.enqueue("sync", parameters={"text": "x" * 20_000})
        found = beside(path)
        assert found.keys() >= {".lock", ".reserve", "-wal", "-shm"}
        for suffix, side in found.items():
            assert (side.st_uid, side.st_gid) == (USERS["A"][0], OPS), suffix
            assert stat.S_IMODE(side.st_mode) == (0o660 if suffix.startswith(".") else 0o664), suffix
        assert "said" in asked("B", "record", path)


def test_who_may_only_read_cannot_hold_the_lock(path: Path, asked: Users) -> None:
    assert asked("C", "lock", path) == {"said": "refused"}
    assert asked("B", "lock", path) == {"said": "refused"}
    path.chmod(0o664)
    assert "said" in asked("A", "record", path)
    assert asked("B", "lock", path) == {"said": "taken"}
    assert asked("C", "lock", path) == {"said": "refused"}


def test_what_another_program_left_is_no_hindrance(path: Path, asked: Users) -> None:
    for suffix in ("-wal", "-shm"):
        left = Path(f"{path}{suffix}")
        left.touch()
        left.chmod(0o644)
        os.chown(left, USERS["B"][0], USERS["B"][1])
    assert "said" in asked("A", "record", path)


def test_who_may_not_write_is_told_so_and_a_file_in_the_way_is_named(path: Path, asked: Users) -> None:
    said = asked("C", "record", path)
    assert (said["code"], said["message"].split(" ")[0]) == ("STORE_UNREADABLE", str(path))
    assert "is not writable by this user" in said["message"]
    lock = Path(f"{path}.lock")
    os.chown(lock, USERS["B"][0], USERS["B"][1])
    lock.chmod(0o600)
    said = asked("A", "record", path)
    assert said["code"] == "STORE_UNREADABLE"
    assert f"{lock} cannot be opened" in said["message"]
    assert str(USERS["B"][0]) in said["message"]


def test_a_token_file_that_root_makes_is_the_stores_owners(path: Path, asked: Users) -> None:
    assert "said" in asked("root", "make_token", path)
    assert asked("A", "count_tokens", path) == {"said": 1}
    assert "said" in asked("A", "make_token", path)
    assert asked("C", "count_tokens", path)["code"] == "STORE_UNREADABLE"


@pytest.mark.parametrize("who", ["root", "A"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_new_archive_is_for_those_whom_the_store_is_for(path: Path, asked: Users, who: str, mode: int) -> None:
    path.chmod(mode)
    archive = path.with_name("old.jsonl")
    assert asked(who, "prune", path) == {"said": 1}
    kept = archive.stat()
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (USERS["A"][0], OPS, mode)
    archive.unlink()
    try:
        replacing.set_acl(path, acl(0, {USERS["C"][0]: 4}))
    except OSError:
        return  # a file system without ACLs
    assert asked(who, "prune", path) == {"said": 1}
    assert replacing.acl_of(archive) == replacing.acl_of(path)


@pytest.mark.parametrize(("first", "second"), [("root", "A"), ("B", "A"), ("A", "B"), ("B", "root")])
def test_a_prune_that_one_user_began_is_finished_by_another(path: Path, asked: Users, first: str, second: str) -> None:
    path.chmod(0o664)
    assert "said" in asked("A", "record", path)  # the lock takes over the change of mode
    archive = path.with_name("old.jsonl")
    assert asked(first, "prune_and_die", path, 0o077) == {"said": None}
    assert len(archive.read_text().splitlines()) == 1
    assert asked(second, "prune", path) == {"said": 2}
    assert len(archive.read_text().splitlines()) == 2
    assert not path.with_name(".old.jsonl.prune").exists()


def test_a_prune_of_another_user_is_finished_where_nobody_may_replace_the_files_of_others(
    path: Path, asked: Users
) -> None:
    path.chmod(0o664)
    assert "said" in asked("A", "record", path)
    path.parent.chmod(0o1777)
    assert asked("A", "prune_and_die", path) == {"said": None}
    assert asked("B", "prune", path) == {"said": 2}
    assert len(path.with_name("old.jsonl").read_text().splitlines()) == 2


def test_a_folder_in_which_a_prune_cannot_note_its_id_is_told_by_the_name_of_that_file(
    path: Path, asked: Users
) -> None:
    closed = path.parent / "closed"
    closed.mkdir(mode=0o755)
    (closed / "old.jsonl").touch()
    (closed / "old.jsonl").chmod(0o666)
    path.with_name("old.jsonl").symlink_to(closed / "old.jsonl")
    said = asked("A", "prune", path)
    assert (said["code"], said["message"].split(";")[0]) == (
        "STORE_UNREADABLE", f"{closed}/.old.jsonl.prune cannot be written: Permission denied",
    )  # fmt: skip


def test_a_link_where_a_prune_notes_its_id_leads_nowhere(path: Path, asked: Users) -> None:
    victim = path.with_name("victim")
    victim.write_text("mine")
    os.chown(victim, *USERS["A"][:2])
    path.with_name(".old.jsonl.prune").symlink_to(victim)
    assert asked("A", "prune", path) == {"said": 1}
    assert victim.read_text() == "mine"


def test_an_id_that_cannot_be_read_is_named_before_anything_is_archived_twice(path: Path, asked: Users) -> None:
    path.chmod(0o664)
    assert asked("root", "prune_and_die", path) == {"said": None}
    note = path.with_name(".old.jsonl.prune")
    note.chmod(0o600)
    os.chown(note, 0, 0)
    said = asked("A", "prune", path)
    assert (said["code"], said["message"].split(": ")[0]) == ("STORE_UNREADABLE", f"{note} cannot be read")
    elsewhere = asked("A", "prune_elsewhere", path)  # a prune into another archive goes on
    assert elsewhere["said"] >= 2


def test_a_folder_that_may_be_written_and_not_listed_holds_each_kind_of_file(path: Path, asked: Users) -> None:
    box = path.parent / "box"
    box.mkdir()
    box.chmod(0o1733)
    assert asked("A", "in_a_box", path) == {"said": [1, 1, 1, 0, 0]}
    assert not [each.name for each in box.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("who", ["root", "A", "B"])
def test_a_copy_is_for_those_whom_the_store_is_for(path: Path, asked: Users, who: str) -> None:
    path.chmod(0o640)
    copy = path.with_name("copy.db")
    assert asked(who, "copy_beside", path) == {"said": None}
    kept = copy.stat()
    assert (kept.st_gid, stat.S_IMODE(kept.st_mode)) == (OPS, 0o640)
    assert kept.st_uid == USERS["B" if who == "B" else "A"][0]
    assert asked("A", "look", copy) == {"said": 1}
    copy.unlink()
    try:
        replacing.set_acl(path, acl(0, {USERS["B"][0]: 4}))
    except OSError:
        return  # a file system without ACLs
    assert asked(who, "copy_beside", path) == {"said": None}
    for reader in ("A", "B"):
        assert asked(reader, "look", copy) == {"said": 1}
    assert asked("C", "look", copy)["code"] == "STORE_UNREADABLE"


def test_who_may_write_a_restored_store_may_lock_it(path: Path, asked: Users) -> None:
    path.chmod(0o660)
    assert "said" in asked("A", "record", path)  # the lock takes over the change of mode
    assert asked("B", "restore_beside", path, 0o002) == {"said": 0o660}
    assert asked("A", "record_beside", path) == {"said": 3}


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_a_store_that_its_owner_may_only_read_is_copied_and_restored(path: Path, asked: Users, mode: int) -> None:
    path.chmod(mode)
    assert asked("A", "copy_beside", path) == {"said": None}
    copy = path.with_name("copy.db")
    assert stat.S_IMODE(copy.stat().st_mode) == mode
    assert asked("A", "look", copy) == {"said": 1}
    assert asked("A", "restore_copy", path) == {"said": mode}
    assert asked("A", "restore_beside", path) == {"said": mode | stat.S_IWUSR}
    assert asked("A", "record_beside", path) == {"said": 2}
    assert asked("A", "record_after_making_writable", path) == {"said": 2}


def test_a_folder_that_may_not_be_written_is_named_by_a_backup(path: Path, asked: Users) -> None:
    said = asked("C", "copy_beside", path)
    assert said["message"] == f"The folder {path.parent} is not writable by this user; choose another folder"


# --- what nobody can write to


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """The same folder mounted again, for reading alone, as containers mount volumes."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    place = path.parent.parent / "mounted"
    place.mkdir()
    done = subprocess.run(
        ["mount", "--bind", str(path.parent), str(place)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    yield place / "jobs.db"
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("who", ["A", "C", "root"])
@pytest.mark.parametrize("call", ["look", "check", "backup", "export", "dump"])
def test_a_store_in_a_folder_that_is_read_only_is_read(
    path: Path, read_only: Path, asked: Users, who: str, call: str
) -> None:
    answer: object = [] if call == "check" else 1
    assert asked(who, call, read_only) == {"said": answer}
    with jobstore.Recorder(path):  # somebody records on the other side
        assert asked(who, call, read_only) == {"said": answer}
    assert asked(who, "record", read_only)["code"] == "STORE_UNREADABLE"


def test_a_reader_of_a_read_only_folder_sees_what_is_recorded_elsewhere(
    path: Path, read_only: Path, asked: Users
) -> None:
    with jobstore.open(read_only) as store:
        totals = [store.list_job_executions()["pagination"]["total"]]
        for _ in range(3):
            asked("A", "record", path)
            totals.append(store.list_job_executions()["pagination"]["total"])
        with jobstore.Recorder(path) as recorder:
            for _ in range(3):
                recorder.enqueue("sync")
                totals.append(store.list_job_executions()["pagination"]["total"])
    assert totals == list(range(1, 8))


@pytest.mark.parametrize("make", [jobstore.open, jobstore.Recorder])
def test_a_file_that_is_mounted_by_itself_is_refused(path: Path, make: Any) -> None:
    place = path.parent.parent / "data"
    place.mkdir()
    target = place / "jobs.db"
    target.touch()
    done = subprocess.run(["mount", "--bind", str(path), str(target)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        link = place.parent / "link.db"
        link.symlink_to(target)
        for name in (target, link):
            with pytest.raises(jobstore.StoreUnreadable, match="mount its folder instead"):
                make(name)
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_log_that_cannot_be_read_is_an_error_with_its_remedy(path: Path, asked: Users) -> None:
    recorder = jobstore.Recorder(path)
    recorder.enqueue("sync")
    copy = path.parent / "copy.db"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    recorder.close()
    said = asked("C", "look", copy)
    assert said["code"] == "STORE_UNREADABLE"
    assert "Open the store once with a Recorder" in said["message"]
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("SELECT count(*) FROM execution").fetchone()
    assert asked("C", "look", copy) == {"said": 2}


def acl(group: int, users: dict[int, int]) -> bytes:
    """An ACL as Linux keeps it: the owner may all, the group and some users what is said, others nothing."""
    entries = [(1, 7, 2**32 - 1), *((2, bits, user) for user, bits in sorted(users.items())), (4, group, 2**32 - 1)]
    entries += [(16, 7, 2**32 - 1), (32, 0, 2**32 - 1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_an_acl_lets_those_record_whom_it_lets_write_and_nobody_else_lock(path: Path, asked: Users) -> None:
    may_write = acl(5, {USERS["C"][0]: 7})
    for target in (path.parent, path):
        os.setxattr(target, replacing.ACL, may_write)
    with jobstore.Recorder(path) as recorder:
        for _ in range(120):
            recorder.enqueue("sync", parameters={"text": "x" * 20_000})
        assert "said" in asked("C", "record", path)
        assert asked("C", "look", path)["said"] > 120
        assert asked("B", "look", path)["said"] > 120
        assert asked("C", "lock", path) == {"said": "taken"}
        assert asked("B", "lock", path) == {"said": "refused"}  # of the group, which may only read
    reader = Users()
    try:  # the first to open it makes the log, which is then C's
        reader.ask("C", "look_twice", path)
        assert reader.answer() == "ready\n"
        assert beside(path)["-wal"].st_uid == USERS["C"][0]
        assert "said" in asked("A", "record", path)
    finally:
        reader.process.kill()
        reader.process.communicate()
    os.setxattr(path, replacing.ACL, acl(5, {}))  # C may write no longer
    assert "said" in asked("A", "record", path)
    assert asked("C", "lock", path) == {"said": "refused"}


def test_an_archive_of_one_user_is_written_by_those_whom_an_acl_lets_write_the_store(path: Path, asked: Users) -> None:
    may_write = acl(5, {USERS["C"][0]: 7})
    for target in (path.parent, path):
        os.setxattr(target, replacing.ACL, may_write)
    assert "said" in asked("A", "record", path)
    assert asked("C", "prune", path) == {"said": 1}
    assert asked("A", "prune", path) == {"said": 1}
    assert asked("C", "copy_beside", path) == {"said": None}
    assert "said" in asked("A", "look", path.with_name("copy.db"))


def test_a_file_that_is_replaced_keeps_its_acl_and_gets_none_that_it_had_not(path: Path, asked: Users) -> None:
    copy = path.parent / "copy.db"
    backup(path, copy)
    mine = acl(0, {USERS["C"][0]: 4})
    os.setxattr(path, replacing.ACL, mine)
    restore(copy, path)
    assert os.getxattr(path, replacing.ACL) == mine
    os.removexattr(path, replacing.ACL)
    path.chmod(0o640)
    os.setxattr(path.parent, "system.posix_acl_default", mine)
    restore(copy, path)
    assert replacing.acl_of(path) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "code" in asked("C", "look", path)

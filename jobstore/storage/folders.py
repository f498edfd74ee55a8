"""Checks where a store can be kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from jobstore.language.errors import StoreUnreadable

_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "afs", "ncpfs", "coda", "ceph", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs2", "davfs", "fuse.ceph", "fuse.gcsfuse",
})  # fmt: skip


def check_folder(folder: Path) -> None:
    """Raise `StoreUnreadable` if a folder does not exist, or is on a network file system: locks fail there.

    Best effort: only Linux reports the file system; elsewhere nothing is refused.
    """
    if not folder.is_dir():
        raise StoreUnreadable(f"The folder {folder} does not exist; create it first")
    # The real path, because the mount table contains no symbolic links.
    kind = _file_system(os.path.realpath(folder))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnreadable(f"{folder} is on a network file system ({kind}); keep a job store on a local disk")


def folder_gone(path: Path) -> StoreUnreadable:
    """The error for a relative path in a current folder that was removed, where the system names neither."""
    return StoreUnreadable(f"The current folder no longer exists; give the absolute path of {path}")


def check_not_mounted(file: Path) -> None:
    """Raise `StoreUnreadable` for a file that is itself a mount point, as ``-v ./jobs.db:/data/jobs.db`` makes it.

    Its log and its lock lie beside its other name: a writer here would not see a writer there, and a reader would miss
    what is in the log.
    """
    if any(mount_point == str(file) for mount_point, _ in _mounts()):
        raise StoreUnreadable(
            f"{file} is itself a mount point, so its log and lock would be missing here; mount its folder instead of "
            "the file"
        )


def _file_system(folder: str) -> str | None:
    """The type of the file system that holds a folder, from the longest mount point above it."""
    found, longest = None, -1
    for mount_point, kind in _mounts():
        above = mount_point.rstrip("/")
        # At equal length the later line counts: it was mounted on top. The slash keeps /data from matching /data2.
        if len(above) >= longest and f"{folder}/".startswith(f"{above}/"):
            found, longest = kind, len(above)
    return found


def _mounts() -> list[tuple[str, str]]:
    """Each mount point with the type of its file system; empty where the system does not report them."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    lines = (line.partition(" - ") for line in text.split("\n") if " - " in line)
    return [(_plain(before.split(" ")[4]), after.split(" ", 1)[0]) for before, _, after in lines]


def _plain(mount_point: str) -> str:
    """Decode blanks and backslashes, which the table writes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount_point)

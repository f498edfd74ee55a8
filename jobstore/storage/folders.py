"""Which folders can hold a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from jobstore.language.errors import StoreUnreadable

_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "afs", "ncpfs", "coda", "ceph", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs2", "davfs", "fuse.ceph", "fuse.gcsfuse",
})  # fmt: skip


def check_folder(folder: Path) -> None:
    """Raises for a folder that is not there, or on a network file system: locks and shared memory fail there.

    Best effort: Linux tells, elsewhere nothing is refused.

    Raises:
        StoreUnreadable: a store cannot be kept there.
    """
    if not folder.is_dir():
        raise StoreUnreadable(f"There is no folder {folder}; make it first")
    kind = _file_system(os.path.realpath(folder))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnreadable(f"{folder} is on a network file system ({kind}); keep a job store on a local disk")


def _file_system(folder: str) -> str | None:
    """The type of the file system that holds a folder, from the longest mount point above it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found, longest = None, -1
    for line in mounts:
        before, _, after = line.partition(" - ")
        mount_point = before.split(" ")[4].replace("\\040", " ").rstrip("/")
        if len(mount_point) >= longest and f"{folder}/".startswith(f"{mount_point}/"):
            found, longest = after.split(" ", 1)[0], len(mount_point)
    return found

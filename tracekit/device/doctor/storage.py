"""Check where the built-in pipelines are kept: the file system, whether a disk is behind it, and the space left."""

from __future__ import annotations

import shutil
from pathlib import Path

from tracekit.model.machinecheck import Level, MachineCheck
from tracekit.units import GB, format_bytes

CACHE = "cache folder"
_NO_DISK = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "virtiofs"})
_LITTLE_BYTES = 2 * GB
"""Less than synthetic:flux-small takes with its run folders; the full shapes need 35 GB."""


def check_cache(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> MachineCheck:
    """The file system under the user's cache folder."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    kind = file_system(there.resolve(), mountinfo.read_text() if mountinfo.exists() else "")
    found = f"{folder}: {kind or 'unknown file system'}, {format_bytes(free)} free"
    if kind in _NO_DISK:
        remedy = "no disk is behind it, so that nothing can page: set XDG_CACHE_HOME to a disk's folder"
        return MachineCheck(check=CACHE, level=Level.LIMITED, found=found, remedy=remedy)
    if kind in _REMOTE:
        remedy = "reads go over a network: set XDG_CACHE_HOME to a local disk's folder"
        return MachineCheck(check=CACHE, level=Level.LIMITED, found=found, remedy=remedy)
    if free < _LITTLE_BYTES:
        remedy = "free some space, or set XDG_CACHE_HOME to another disk's folder"
        return MachineCheck(check=CACHE, level=Level.LIMITED, found=found, remedy=remedy)
    return MachineCheck(check=CACHE, level=Level.OK, found=found)


def file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system that an absolute path is on; empty when unknown."""
    found, longest = "", -1
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        # The kernel writes blanks in a mount point as octal escapes.
        point = Path(before.split(" ")[4].replace("\\040", " "))
        # Of two mounts on one point the later one hides the other.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = after.split(" ", 1)[0], len(point.parts)
    return found

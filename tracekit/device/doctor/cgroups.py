"""Check how much memory this process's control group allows: the page cache counts into it, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tracekit.model.machinecheck import Level, MachineCheck
from tracekit.units import format_memory

CGROUP = "memory limit"
_V1_LIMIT, _V2_LIMITS = "memory.limit_in_bytes", ("memory.max", "memory.high")


def check_memory_limit(
    proc: Path = Path("/proc"), ram_bytes: int = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
) -> MachineCheck:
    """The lowest limit on the way from this process's group to the root, of cgroup v1 or v2."""
    limits = [limit for file in _limit_files(proc) if (limit := _read_limit(file)) is not None]
    lowest = min(limits, default=ram_bytes)
    if lowest >= ram_bytes:
        return MachineCheck(check=CGROUP, level=Level.OK, found=f"none below the machine's {format_memory(ram_bytes)}")
    return MachineCheck(
        check=CGROUP,
        level=Level.LIMITED,
        found=f"{format_memory(lowest)} of the machine's {format_memory(ram_bytes)}, page cache included",
        remedy="weights above it page in every step: raise it (docker run --memory, systemd MemoryMax)",
    )


def _limit_files(proc: Path) -> Iterator[Path]:
    """Every limit that may hold for this process: files of its groups and of those around them."""
    try:
        groups = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
        mounts = list(_cgroup_mounts((proc / "self" / "mountinfo").read_text()))
    except (OSError, ValueError):
        return
    for kind, options, point in mounts:
        for _, controllers, path in (group for group in groups if len(group) == 3):
            if kind == "cgroup2" and not controllers:
                names: tuple[str, ...] = _V2_LIMITS
            elif kind == "cgroup" and "memory" in options and "memory" in controllers.split(","):
                names = (_V1_LIMIT,)
            else:
                continue
            # In a container the path may lie outside what is mounted: the mount's root is its own group then.
            own = point / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder == point or point in folder.parents:
                    yield from (folder / name for name in names)


def _cgroup_mounts(mountinfo: str) -> Iterator[tuple[str, list[str], Path]]:
    """Type, super options and mount point of each cgroup file system (proc(5), mountinfo)."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield kind, options.split(","), Path(before.split(" ")[4])


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None

"""Run a command with less host memory: a cgroup v2 of its own, page cache included, where one can be made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NAME = "tracekit-limited"


class CannotLimitError(Exception):
    """Why host memory cannot be limited here, in one line."""


@contextmanager
def limited_memory(limit_bytes: int, root: Path = ROOT) -> Iterator[list[str]]:
    """A launcher: the words to put before a command so that it and its page cache share `limit_bytes`.

    Raises:
        CannotLimitError: there is no cgroup v2, no memory controller, or no right to make a group.
    """
    if not (root / "cgroup.controllers").exists():
        raise CannotLimitError(f"{root} is no cgroup v2 hierarchy")
    group = _make(root, limit_bytes)
    try:
        yield _launcher(group)
    finally:
        with suppress(OSError):  # a process that is still in it keeps it
            group.rmdir()


def _make(root: Path, limit_bytes: int) -> Path:
    """The group below this process's own, or below the nearest ancestor that lends the memory controller."""
    problems = []
    own = _own_group(root)
    for parent in (own, *own.parents):
        if not parent.is_relative_to(root):
            break
        group = parent / NAME
        try:
            if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text("+memory")
            group.mkdir(exist_ok=True)
            (group / "memory.max").write_text(str(limit_bytes))
            with suppress(OSError):  # a kernel without swap accounting has no such file
                (group / "memory.swap.max").write_text("0")
            subprocess.run([*_launcher(group), "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            problems.append(f"{parent}: {getattr(error, 'strerror', None) or error}")
            with suppress(OSError):
                group.rmdir()
        else:
            return group
    raise CannotLimitError("no cgroup with a memory limit can be made: " + "; ".join(problems))


def _own_group(root: Path) -> Path:
    """This process's group: the line ``0::/path`` is cgroup v2's."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return root / line.removeprefix("0::").lstrip("/")
    return root


def _launcher(group: Path) -> list[str]:
    # The shell joins the group, then becomes the command: nothing of it is charged elsewhere.
    return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)]

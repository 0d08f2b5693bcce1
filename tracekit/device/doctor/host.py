"""Check what the kernel tells of this process and what else could change its numbers: I/O, swap, page-locked memory."""

from __future__ import annotations

import resource
from pathlib import Path

from tracekit.model.machinecheck import Level, MachineCheck
from tracekit.units import format_memory

PAGE_LOCKED, PROCESS_IO, IO_PRESSURE, SWAP = "page-locked", "process I/O", "I/O pressure", "swap"
PROC = Path("/proc")
_BUSY_PERCENT = 5.0
_PIN_AT_MOST = 256 << 20


def check_page_locked() -> MachineCheck:
    """``ulimit -l``, and with a GPU whether CUDA page-locks more than that."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    said = "unlimited" if limit == resource.RLIM_INFINITY else format_memory(limit)
    refusal = _pinning_refusal(limit)
    if refusal is None:
        return MachineCheck(
            check=PAGE_LOCKED, level=Level.OK, found=f"{said} (ulimit -l); nothing is pinned without a GPU"
        )
    if not refusal:
        return MachineCheck(
            check=PAGE_LOCKED, level=Level.OK, found=f"{said} (ulimit -l), by which CUDA is not bound here"
        )
    remedy = "raise it: ulimit -l unlimited, or docker run --ulimit memlock=-1"
    return MachineCheck(check=PAGE_LOCKED, level=Level.LIMITED, found=f"{said} (ulimit -l): {refusal}", remedy=remedy)


def check_process_io(proc: Path = PROC) -> MachineCheck:
    """Whether this process may read how much it read from disk."""
    try:
        told = "read_bytes:" in (proc / "self" / "io").read_text()
    except OSError:
        told = False
    if told:
        return MachineCheck(check=PROCESS_IO, level=Level.OK, found="/proc/self/io counts bytes read from disk")
    return MachineCheck(
        check=PROCESS_IO,
        level=Level.MISSING,
        found="/proc/self/io cannot be read: disk reads of copies stay blank",
        remedy="a Linux kernel with CONFIG_TASK_IO_ACCOUNTING, and /proc mounted in the container",
    )


def check_io_pressure(proc: Path = PROC) -> MachineCheck:
    """Whether the kernel counts stalls on I/O, and whether something keeps the disk busy right now."""
    try:
        some = (proc / "pressure" / "io").read_text().split("\n", 1)[0]
        average = float(some.partition("avg10=")[2].split(" ", 1)[0])
    except (OSError, ValueError):
        return MachineCheck(
            check=IO_PRESSURE,
            level=Level.LIMITED,
            found="no /proc/pressure/io: I/O stalls of copies stay blank",
            remedy="a kernel with CONFIG_PSI, booted with psi=1",
        )
    found = f"{average:g}% of the last 10 s stalled on I/O"
    if average > _BUSY_PERCENT:
        remedy = "wait until other programs leave the disk alone: they slow paging down"
        return MachineCheck(check=IO_PRESSURE, level=Level.LIMITED, found=found, remedy=remedy)
    return MachineCheck(check=IO_PRESSURE, level=Level.OK, found=found)


def check_swap(proc: Path = PROC) -> MachineCheck:
    """Whether anonymous weights may be swapped out, which looks like no file read at all."""
    try:
        total, free = (_meminfo_bytes(proc, name) for name in ("SwapTotal", "SwapFree"))
    except (OSError, ValueError, StopIteration):
        return MachineCheck(check=SWAP, level=Level.LIMITED, found="/proc/meminfo does not tell", remedy="mount /proc")
    if total == 0:
        return MachineCheck(check=SWAP, level=Level.OK, found="none")
    used = total - free
    if used == 0:
        return MachineCheck(check=SWAP, level=Level.OK, found=f"{format_memory(total)}, unused")
    return MachineCheck(
        check=SWAP,
        level=Level.LIMITED,
        found=f"{format_memory(used)} of {format_memory(total)} in use: weights in anonymous memory may be there",
        remedy="swapoff -a while you measure, where memory allows it",
    )


def _meminfo_bytes(proc: Path, name: str) -> int:
    lines = (proc / "meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def _pinning_refusal(limit: int) -> str | None:
    """Why CUDA cannot page-lock more than the limit; empty when it can, None where there is no GPU."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    size = _PIN_AT_MOST if limit == resource.RLIM_INFINITY else min(limit + (1 << 20), _PIN_AT_MOST)
    try:
        torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""

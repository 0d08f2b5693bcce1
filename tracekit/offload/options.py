"""What the user asks of an offload mode, and whether it can be: checked before anything is loaded or touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tracekit.errors import UsageError
from tracekit.model import OffloadInfo
from tracekit.offload.modes import (
    AS_LOADED,
    GROUP_LEVELS,
    HOST_MEMORIES,
    PINNED,
    RESIDENT_ORDERS,
    group_refusals,
    modes,
)
from tracekit.units import format_memory


@dataclass(frozen=True, kw_only=True)
class OffloadOptions:
    """An offload mode and its options.

    Attributes:
        mode: A name of `modes.modes()`.
        resident_bytes: partial: at most so many bytes of the denoisers' weights stay on the device.
        resident_order: partial: which modules are taken first, a name of `modes.RESIDENT_ORDERS`.
        resident_parameters: partial: exactly these stay instead: dotted names, component included, each of a
            parameter or of a module (all below it): ``transformer.blocks.0.scale_shift_table``.
        host_memory: How the host copy of the weights is held, a name of `modes.HOST_MEMORIES`.
        group_level: group: ``leaf_level`` (also when None) or ``block_level``.
        blocks_per_group: group at block_level: blocks in a group; None means 1.
        stream: group: copy on a CUDA stream of its own, ahead of the forward.
        record_stream: group with a stream: let the allocator track the stream instead of synchronising.
        low_cpu_mem: group with a stream: pin each weight at its onload instead of all of them at set-up.
        disk_path: group: keep the offloaded groups as files in this folder, which must be new or empty.
    """

    mode: str
    resident_bytes: int | None = None
    resident_order: str = "smallest"
    resident_parameters: frozenset[str] | None = None
    host_memory: str = AS_LOADED
    group_level: str | None = None
    blocks_per_group: int | None = None
    stream: bool = False
    record_stream: bool = False
    low_cpu_mem: bool = False
    disk_path: str | None = None

    @property
    def level(self) -> str:
        """The group level in force."""
        return self.group_level or "leaf_level"

    def manifest(self) -> OffloadInfo:
        """The mode as the run folder's manifest records it: only the options that the mode reads."""
        options: dict[str, str | int | float | bool | None] = {}
        if self.mode == "partial":
            options["resident_bytes"] = self.resident_bytes
            if self.resident_parameters is None:
                options["resident_order"] = self.resident_order
            else:
                options["resident_parameters"] = " ".join(sorted(self.resident_parameters))
        if self.mode == "group":
            options["level"] = self.level
            if self.level == "block_level":
                options["blocks_per_group"] = self.blocks_per_group or 1
            options |= {
                "stream": self.stream,
                "record_stream": self.record_stream,
                "low_cpu_mem": self.low_cpu_mem,
                "disk_path": self.disk_path,
            }
        return OffloadInfo(mode=self.mode, options=options, host_memory=self.host_memory)


def check_options(options: OffloadOptions, device: str, cap_bytes: int | None) -> None:
    """Refuse what cannot be, before anything is loaded.

    Args:
        options: What was asked for.
        device: The device's torch name or kind: ``cuda``, ``cuda:0``, ``emulated``.
        cap_bytes: The device memory that the process may use; None: no cap.

    Raises:
        UsageError: in one line, what is wrong and what to do.
    """
    _check_known("offload mode", options.mode, modes())
    _check_known("host memory", options.host_memory, HOST_MEMORIES)
    _check_known("resident order", options.resident_order, RESIDENT_ORDERS)
    if options.group_level is not None:
        _check_known("group level", options.group_level, GROUP_LEVELS)
    _check_partial(options, cap_bytes)
    _check_group(options)
    emulated = device.partition(":")[0] != "cuda"
    if emulated and options.stream:
        raise UsageError("the emulated device has no streams: use group offload without a stream there")
    _check_host_memory(options, emulated)


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}: use one of {', '.join(known)}")


def _check_partial(options: OffloadOptions, cap_bytes: int | None) -> None:
    asked = options.resident_bytes is not None or options.resident_parameters is not None
    if options.mode != "partial":
        if asked:
            raise UsageError(f"resident weights belong to mode partial, not to {options.mode}: use --offload partial")
        return
    if not asked:
        raise UsageError("mode partial needs to know how much stays on the device: give --resident-gib N")
    budget = options.resident_bytes
    if budget is not None and budget < 0:
        raise UsageError(f"the resident budget of {budget} bytes is below zero")
    if budget is not None and cap_bytes is not None and budget > cap_bytes:
        raise UsageError(
            f"the resident budget of {format_memory(budget)} is above the device's cap of "
            f"{format_memory(cap_bytes)}: ask for less than the cap"
        )


def _check_group(options: OffloadOptions) -> None:
    given = {
        "level": options.group_level is not None,
        "blocks per group": options.blocks_per_group is not None,
        "stream": options.stream,
        "record_stream": options.record_stream,
        "low_cpu_mem": options.low_cpu_mem,
        "disk path": options.disk_path is not None,
    }
    if options.mode != "group":
        for name in (name for name, present in given.items() if present):
            raise UsageError(f"the option {name} belongs to mode group, not to {options.mode}")
        return
    blocks = options.blocks_per_group
    if blocks is not None and options.level != "block_level":
        raise UsageError("blocks per group belong to group level block_level: at leaf_level every layer is a group")
    if blocks is not None and blocks < 1:
        raise UsageError(f"{blocks} blocks per group: at least 1 is needed")
    if blocks is not None and blocks > 1 and options.stream:
        raise UsageError(f"{blocks} blocks per group: with a stream diffusers only takes 1")
    for name in ("record_stream", "low_cpu_mem"):
        if given[name] and not options.stream:
            raise UsageError(f"{name} only means something with a stream: ask for one, or leave it out")
    if options.disk_path is not None:
        _check_disk_folder(Path(options.disk_path))


def _check_disk_folder(folder: Path) -> None:
    # diffusers reuses any group file that it finds there by name, whatever model it is from.
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the disk folder {folder} is not an empty folder: name a new one")


def _check_host_memory(options: OffloadOptions, emulated: bool) -> None:
    reason = _refusals(options).get(options.host_memory)
    if reason:
        raise UsageError(f"mode {options.mode} cannot hold {options.host_memory} host memory: {reason}")
    if emulated and options.host_memory == PINNED:
        raise UsageError("the emulated device has no page-locked memory: use as-loaded or anonymous host memory there")


def _refusals(options: OffloadOptions) -> Mapping[str, str]:
    if options.mode == "group":
        return group_refusals(
            stream=options.stream, low_cpu_mem=options.low_cpu_mem, disk=options.disk_path is not None
        )
    return modes()[options.mode].refusals

"""The manifest: what was profiled, on what, with which versions, and how far the numbers can be trusted."""

from __future__ import annotations

import msgspec

from tracekit.model.conditions import Conditions

SCHEMA_VERSION = 3
"""Version of the run folder.

1: the first.
2: table calibration; the manifest has conditions.
3: the calibration's host work is told apart by hooks, modules' own code and the code between them.
"""


class DeviceInfo(msgspec.Struct, kw_only=True):
    """The device that was profiled. `kind` is ``cuda`` or ``emulated``; sizes in bytes."""

    kind: str
    name: str
    torch_device: str
    total_bytes: int | None = None
    cap_bytes: int | None = None
    link: str = ""
    driver: str = ""

    @property
    def limit_bytes(self) -> int | None:
        """Memory that the run might use."""
        return self.cap_bytes or self.total_bytes


class MachineInfo(msgspec.Struct, kw_only=True):
    """The host, as far as it can change the numbers."""

    cpu: str = ""
    cores: int = 0
    ram_bytes: int = 0
    kernel: str = ""
    python: str = ""


class OffloadInfo(msgspec.Struct, kw_only=True):
    """The offload mode that was applied, with its options; ``script`` when the user's code set it up."""

    mode: str
    options: dict[str, str | int | float | bool | None] = {}
    host_memory: str = "as-loaded"


class ClockInfo(msgspec.Struct, kw_only=True):
    """One moment on both clocks, and how far device times may be off after mapping (ns; None: no device clock)."""

    monotonic_ns: int
    epoch_ns: int
    alignment_error_ns: int | None = None


class Manifest(msgspec.Struct, kw_only=True):
    """The run folder's ``manifest.json``.

    `complete` is False until the profile ended in order; `incomplete_reason` then says what happened. `activity`
    names the source of device records: ``cupti``, ``emulated``, ``cuda-events`` or ``none``. `overhead_ns` is
    tracekit's own measured time by kind; `counts` has dropped and unattributed events.
    """

    schema_version: int = SCHEMA_VERSION
    tracekit_version: str
    complete: bool = False
    incomplete_reason: str = ""
    created: str
    command: list[str] = []
    workload: str
    pipeline_class: str = ""
    components: dict[str, str] = {}
    call: dict[str, str | int | float | bool | None] = {}
    offload: OffloadInfo
    device: DeviceInfo
    machine: MachineInfo = msgspec.field(default_factory=MachineInfo)
    versions: dict[str, str] = {}
    clock: ClockInfo
    process_id: int = 0
    activity: str = "none"
    conditions: Conditions = msgspec.field(default_factory=Conditions)
    overhead_ns: dict[str, int] = {}
    counts: dict[str, int] = {}
    warnings: list[str] = []

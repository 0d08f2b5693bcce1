"""The summary of a run: what the terminal, the JSON output and the report all show. Built by analysis.summary."""

from __future__ import annotations

import msgspec


class StepRow(msgspec.Struct, kw_only=True):
    """One denoising step; `step_index` counts from 0 in its run. wall = exposed_copy + compute + rest, exactly.

    `copy_ns` is time with at least one host/device copy under way (`h2d_ns`: to the device), `compute_ns` time with at
    least one kernel, `exposed_copy_ns` the part of copy_ns with no kernel beside it. `tracekit_ns` is the part of
    rest_ns that was tracekit's own work. Counts and bytes are those of the copies that began in the step.
    """

    run_index: int
    step_index: int
    wall_ns: int
    copy_count: int
    h2d_bytes: int
    d2h_bytes: int
    h2d_ns: int
    copy_ns: int
    exposed_copy_ns: int
    compute_ns: int
    rest_ns: int
    tracekit_ns: int


class PhaseRow(msgspec.Struct, kw_only=True):
    """One phase of one run, with the same figures as a step.

    Set-up counts its spans and copies alone, not the time between them; the other phases are whole stretches of a run.
    """

    run_index: int
    phase: str
    wall_ns: int
    copy_count: int
    h2d_bytes: int
    d2h_bytes: int
    h2d_ns: int
    copy_ns: int
    exposed_copy_ns: int
    compute_ns: int
    rest_ns: int
    tracekit_ns: int


class ModuleRow(msgspec.Struct, kw_only=True):
    """One module whose weights were copied to the device.

    `first_ns` is the copy time of its first onload in the process, `warm_ns` the median of the later ones (None: it
    was onloaded once, so there is no warm sample). `exposed_ns` sums its copies' time with no kernel beside it.
    """

    fqn: str
    module_class: str
    onloads: int
    weight_bytes: int
    h2d_bytes: int
    exposed_ns: int
    compute_ns: int
    first_ns: int
    warm_ns: int | None


class ColdWarm(msgspec.Struct, kw_only=True):
    """Step 1 against the later steps of the first run.

    Warm figures are medians over `warm_samples` later steps, `warm_min_ns` and `warm_max_ns` the fastest and slowest
    of them; all are None without a later step.
    """

    first_step_ns: int
    warm_step_ns: int | None
    warm_min_ns: int | None
    warm_max_ns: int | None
    warm_samples: int
    first_copy_ns: int
    warm_copy_ns: int | None
    first_h2d_bytes: int
    warm_h2d_bytes: int | None


class Summary(msgspec.Struct, kw_only=True):
    """Everything that is shown of one run folder, in display order. Times ns, sizes bytes.

    `verdict` is plain sentences for people. `activity` is the manifest's source of device times; without ``cupti`` or
    ``emulated`` compute is unknown and shown as 0. `total_ns` reaches from the first span to the last.
    `h2d_bytes_by_memory` splits h2d_bytes by HostMemory. `unattributed_copies` are neither a weight's nor inside any
    span; `device_only_copies` were seen by the device's record alone.
    """

    path: str
    workload: str
    pipeline_class: str
    mode: str
    device_name: str
    emulated: bool
    activity: str
    complete: bool
    incomplete_reason: str
    verdict: str
    denoisers: list[str]
    total_ns: int
    setup_ns: int
    h2d_bytes: int
    d2h_bytes: int
    h2d_bytes_by_memory: dict[str, int]
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    steps: list[StepRow]
    phases: list[PhaseRow]
    cold_warm: ColdWarm | None
    modules: list[ModuleRow]
    unattributed_copies: int
    device_only_copies: int
    warnings: list[str]
    next_steps: list[str]

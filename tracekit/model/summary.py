"""The summary of a run: what the terminal, the JSON output and the report all show. Built by analysis.summary."""

from __future__ import annotations

import msgspec

from tracekit.model.causes import Cause, Evidence, Paging
from tracekit.model.conditions import Conditions
from tracekit.model.finding import Finding, NextStep
from tracekit.model.memoryholders import MemoryHolders
from tracekit.model.tables import Measure

TRACE = 0.01
"""Share of a copy's bytes up to which what was read, or was missing from memory, counts as nothing."""


class StepRow(msgspec.Struct, kw_only=True):
    """One denoising step; `step_index` counts from 0 in its run. wall = exposed_copy + compute + rest, exactly.

    `copy_ns` is time with at least one host/device copy under way (`h2d_ns`: to the device), `compute_ns` time with at
    least one kernel, `exposed_copy_ns` the part of copy_ns with no kernel beside it. `tracekit_ns` is the part of
    rest_ns that was tracekit's own work. Counts and bytes are those of the copies that began in the step. `ceiling_ns`
    is what the bytes to the device take at this machine's ceiling, size by size (pinned; of the emulated device,
    pageable; None: not measured): over h2d_ns it is the share of the ceiling that was reached. `host_python_ns` is what
    a fixed piece of Python took about then (None: not timed): twice as long, and the host was half as fast.
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
    ceiling_ns: int | None = None
    host_python_ns: int | None = None


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


class CauseRow(msgspec.Struct, kw_only=True):
    """One cause's share of one step. Of each step, the rows add up to its wall time exactly; none is negative.

    Causes without a share have no row, but for ``unattributed``, which every step has. `reason` says what an inferred
    figure rests on.
    """

    run_index: int
    step_index: int
    cause: Cause
    duration_ns: int
    evidence: Evidence
    reason: str = ""


class PhaseCauseRow(msgspec.Struct, kw_only=True):
    """One cause's share of one phase of one run, as a `CauseRow`'s: the rows of a phase add up to its wall time."""

    run_index: int
    phase: str
    cause: Cause
    duration_ns: int
    evidence: Evidence
    reason: str = ""


class TransferRow(msgspec.Struct, kw_only=True):
    """The onloads of a parameter, of a module's parameters together, or of a component's, cold against warm.

    `parameter` is empty in a module's row, and `fqn` is the component's name in a component's. Cold is the first onload
    in the process: `first_ns`, of which `first_paged` says whether any of it paged, `first_read_bytes` what came from
    disk (None: not probed). Warm figures are of later onloads that did not page: median, 25th and 75th percentile; all
    None, and `excess_ns` (first less warm median) with them, where there is no warm sample. An onload's time is the
    sum of its copies' durations; GB/s is `weight_bytes` over it. The module's n-th onload is the n-th copy of each of
    its parameters; one that brought less than the first is no sample. `ceiling_ns` is what the first onload's bytes
    take at the ceiling, as in a `StepRow`; over warm_ns it is the share of the ceiling that a warm onload reaches.
    """

    fqn: str
    parameter: str
    onloads: int
    weight_bytes: int
    first_ns: int
    first_paged: bool
    first_read_bytes: int | None
    warm_samples: int
    warm_ns: int | None
    warm_low_ns: int | None
    warm_high_ns: int | None
    excess_ns: int | None
    ceiling_ns: int | None = None


class PagingEvidence(msgspec.Struct, kw_only=True):
    """The paging verdict with what it rests on: `reason` in words; bytes from disk, and steps that paged.

    Bytes are None where the system does not tell, or nothing asked it.
    `mapped_bytes` are the weights that still lived in a mapped file when they were first onloaded: only they can page.
    `resident_before` is their mean residency when the copy of their first onload began, weighted by bytes (None: the
    kernel does not tell); what was read ahead of a weight's own copy is in it.
    """

    paging: Paging
    reason: str
    mapped_bytes: int
    first_read_bytes: int | None
    later_read_bytes: int | None
    resident_before: float | None
    paged_steps: list[tuple[int, int]]

    @property
    def read_ahead_bytes(self) -> int:
        """What first onloads found in memory only because the kernel had read it from disk ahead of their copies.

        0 where that is no more than a trace.
        """
        if self.resident_before is None or self.first_read_bytes is None:
            return 0
        there = round(self.resident_before * self.mapped_bytes)
        ahead = min(self.first_read_bytes - (self.mapped_bytes - there), there)
        return ahead if ahead > TRACE * self.mapped_bytes else 0

    @property
    def is_trace(self) -> bool:
        """Whether some of the weights were missing from memory, though too little to be called paging."""
        return self.paging is Paging.NEVER and bool(self.first_read_bytes or self.later_read_bytes)


class CeilingRow(msgspec.Struct, kw_only=True):
    """What this machine can do, by size: the median of `samples` brief measurements, and the fastest and slowest."""

    measure: Measure
    size_bytes: int
    samples: int
    median_ns: int
    min_ns: int
    max_ns: int


class ModuleRow(msgspec.Struct, kw_only=True):
    """One module whose weights were copied to the device.

    `first_ns` is the copy time of its first onload in the process, `warm_ns` the median of the later ones that did not
    page (None: no warm sample), `ceiling_ns` what one takes at the ceiling, as in its `TransferRow`. `exposed_ns` sums
    its copies' time with no kernel beside it.
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
    ceiling_ns: int | None = None


class ColdWarm(msgspec.Struct, kw_only=True):
    """Step 1 against the later steps of the first run.

    Warm figures are medians over `warm_samples` later steps, `warm_min_ns` and `warm_max_ns` the fastest and slowest
    of them; all are None without a later step. Later steps that paged are left out, unless each of them did: then the
    run is always paging, and none is warm.
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
    `h2d_bytes_by_memory` splits h2d_bytes by HostMemory. `causes` are empty where the device's record is missing.
    `transfers` has components first, then modules, then parameters, each by excess. `unattributed_copies` are
    neither a weight's nor inside any span; `device_only_copies` were seen by the device's record alone. `phase_causes`
    are of the phases other than denoise, whose causes are its steps'. `out_of_memory` says who held the device's
    memory when the run ended for want of it (None: it did not).
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
    causes: list[CauseRow] = []
    phase_causes: list[PhaseCauseRow] = []
    paging: PagingEvidence | None = None
    transfers: list[TransferRow] = []
    ceilings: list[CeilingRow] = []
    conditions: Conditions = msgspec.field(default_factory=Conditions)
    modules: list[ModuleRow]
    unattributed_copies: int
    device_only_copies: int
    warnings: list[str]
    out_of_memory: MemoryHolders | None = None
    findings: list[Finding] = []
    next_step: NextStep | None = None

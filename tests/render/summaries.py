"""Small summaries with round figures."""

from __future__ import annotations

from typing import Any

from tracekit.model import (
    Cause,
    CauseRow,
    CeilingRow,
    ColdWarm,
    Evidence,
    Measure,
    ModuleRow,
    Paging,
    PagingEvidence,
    Phase,
    PhaseCauseRow,
    StepRow,
    Summary,
    TransferRow,
)
from tracekit.model.finding import Basis, Finding, Gain

MS = 1_000_000


def make_step(index: int, run_index: int = 0, **changes: Any) -> StepRow:
    """12.345678 s in step 1, a third of that later; the copies are 2/3 of a step, computing 1/4."""
    wall = 12_345_678_901 if index == 0 else 4_115_226_300
    copying, compute = wall * 2 // 3, wall // 4
    fields: dict[str, Any] = {
        "run_index": run_index, "step_index": index, "wall_ns": wall, "copy_count": 1_163,
        "h2d_bytes": 23_800_000_000, "d2h_bytes": 0, "h2d_ns": copying, "copy_ns": copying,
        "exposed_copy_ns": copying, "compute_ns": compute, "rest_ns": wall - copying - compute, "tracekit_ns": 0,
    }  # fmt: skip
    return StepRow(**(fields | changes))


def make_module(index: int, **changes: Any) -> ModuleRow:
    fields: dict[str, Any] = {
        "fqn": f"transformer.single_transformer_blocks.{index}.proj_out", "module_class": "Linear", "onloads": 4,
        "weight_bytes": 94_378_000, "h2d_bytes": 377_512_000, "exposed_ns": (60 - index) * MS, "compute_ns": MS,
        "first_ns": 40 * MS, "warm_ns": 10 * MS,
    }  # fmt: skip
    return ModuleRow(**(fields | changes))


def make_causes(step: StepRow) -> list[CauseRow]:
    """Causes that add up to the step: half of step 1's copying is disk reads; allocation and first use are small."""
    disk = step.copy_ns // 2 if step.step_index == 0 else 0
    parts = {
        Cause.DISK: disk, Cause.STAGING: (step.copy_ns - disk) * 3 // 4, Cause.LINK: 0,
        Cause.ALLOCATION: step.wall_ns // 1000, Cause.FIRST_USE: step.wall_ns // 1000,
        Cause.COMPUTE: step.compute_ns, Cause.HOOKS: step.rest_ns // 2,
    }  # fmt: skip
    parts[Cause.LINK] = step.copy_ns - disk - parts[Cause.STAGING]
    parts[Cause.UNATTRIBUTED] = step.wall_ns - sum(parts.values())
    inferred = (Cause.DISK, Cause.STAGING, Cause.LINK)
    return [
        CauseRow(
            run_index=step.run_index, step_index=step.step_index, cause=cause, duration_ns=ns,
            evidence=Evidence.INFERRED if cause in inferred else Evidence.MEASURED,
        )
        for cause, ns in parts.items()
        if ns
    ]  # fmt: skip


def make_paging(**changes: Any) -> PagingEvidence:
    fields: dict[str, Any] = {
        "paging": Paging.COLD_ONLY, "reason": "20.9 GB of weights were missing from memory at their first onload",
        "mapped_bytes": 23_800_000_000, "first_read_bytes": 20_900_000_000, "later_read_bytes": 0,
        "resident_before": 0.12, "paged_steps": [(0, 0)],
    }  # fmt: skip
    return PagingEvidence(**(fields | changes))


def make_summary(step_count: int = 4, module_count: int = 10, **changes: Any) -> Summary:
    steps = [make_step(index) for index in range(step_count)]
    fields: dict[str, Any] = {
        "path": "runs/flux", "workload": "black-forest-labs/FLUX.1-dev", "pipeline_class": "FluxPipeline",
        "mode": "sequential", "device_name": "NVIDIA H100 80GB HBM3", "emulated": False, "activity": "cupti",
        "complete": True, "incomplete_reason": "",
        "verdict": "Copying weights takes 67% of a warm step (67% in each of 3), computing 25%, and 8% is neither.",
        "denoisers": ["transformer"], "total_ns": 26_000 * MS, "setup_ns": 6_800 * MS, "h2d_bytes": 105_200_000_000,
        "d2h_bytes": 786_432, "h2d_bytes_by_memory": {"mmap": 105_200_000_000}, "peak_allocated_bytes": 2 * 2**30,
        "peak_reserved_bytes": 3 * 2**30, "steps": steps, "phases": [],
        "causes": [row for step in steps for row in make_causes(step)],
        "phase_causes": [
            PhaseCauseRow(
                run_index=0, phase=Phase.ENCODE, cause=Cause.UNATTRIBUTED, duration_ns=MS, evidence=Evidence.MEASURED
            )
        ],
        "paging": make_paging(),
        "transfers": [
            TransferRow(
                fqn="transformer", parameter="", onloads=4, weight_bytes=23_800_000_000, first_ns=8_230_452_600,
                first_paged=True, first_read_bytes=20_900_000_000, warm_samples=3, warm_ns=2_743_484_200,
                warm_low_ns=2_700 * MS, warm_high_ns=2_800 * MS, excess_ns=5_486_968_400, ceiling_ns=460 * MS,
            )
        ],
        "ceilings": [
            CeilingRow(
                measure=Measure.PINNED_H2D, size_bytes=10**8, samples=5, median_ns=2 * MS, min_ns=2 * MS, max_ns=2 * MS
            )
        ],
        "cold_warm": ColdWarm(
            first_step_ns=12_345_678_901, warm_step_ns=4_115_226_300, warm_min_ns=4_000 * MS, warm_max_ns=4_300 * MS,
            warm_samples=3, first_copy_ns=8_230_452_600, warm_copy_ns=2_743_484_200, first_h2d_bytes=23_800_000_000,
            warm_h2d_bytes=23_800_000_000,
        ),
        "modules": [make_module(index) for index in range(module_count)], "unattributed_copies": 0,
        "device_only_copies": 0, "warnings": ["GPU clocks are not locked: computing may vary by 6%"],
        "findings": [
            Finding(
                slug="pageable-memory", title="Page-lock the weights: the driver stages every copy of pageable memory",
                evidence="100% of 105 GB came from pageable memory, at 8.68 GB/s in warm steps",
                gains=[Gain(4, -8_000 * MS, -7_000 * MS), Gain(28, 60_000 * MS, 70_000 * MS)], basis=Basis.PREDICTED,
                cost="22.2 GiB of page-locked host memory, it pays from 7 steps on",
                command="tracekit profile FLUX.1-dev --host-memory pinned", code="pin(modules)\n",
                instead_of=["exposed-copies"], start_ns=1, end_ns=2,
            ),
            Finding(
                slug="exposed-copies", title="Copy ahead on a stream: the device waits for every weight",
                evidence="copies are under way for 67% of a warm step, and kernels hide 0% of that", gains=[],
                basis=Basis.PREDICTED, cost="", command="", code="", instead_of=["pageable-memory"],
            ),
            Finding(
                slug="cache-clearing", title="Keep the allocator's cache: it is cleared after every weight",
                evidence="4,640 calls", gains=[Gain(4, 300 * MS, 300 * MS)], basis=Basis.MEASURED, cost="", command="",
                code="",
            ),
        ],
    }  # fmt: skip
    return Summary(**(fields | changes))

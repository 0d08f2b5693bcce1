#!/usr/bin/env python3
"""Hold what tracekit's hooks record against CUPTI's own record, mode by mode, on a CUDA machine.

For each mode one run of a pipeline is profiled. The hooks and CUPTI see copies independently of each other: every copy
of the one must be in the other, with the same bytes. What only CUPTI saw is listed by operation. Then the modes that
hold more than the cap on the device must say so in one line. `--runs` checks run folders that are there instead of
profiling: that needs no GPU.

    scripts/check_capture_gpu.py --output DIR [--steps 4] [--vram 12GB] [--modes "sequential;partial 8 GiB"]
    scripts/check_capture_gpu.py --output DIR --runs RUN...
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

import torch
from benchlib import markdown_table, where_it_ran

from tracekit.api import CaptureOptions, Run, load, profile_pipeline
from tracekit.errors import UsageError
from tracekit.model import NONE
from tracekit.offload.options import OffloadOptions
from tracekit.units import GIB, format_bytes, format_duration, gb_per_s, parse_bytes
from tracekit.workload.call import CallOptions

CAPPED = {
    "sequential": OffloadOptions(mode="sequential"),
    "partial 8 GiB": OffloadOptions(mode="partial", resident_bytes=8 * GIB),
    "group, stream": OffloadOptions(mode="group", stream=True),
    "group, no stream": OffloadOptions(mode="group"),
}
WHAT = """A copy is counted as the same when CUPTI has a
record of it on the same thread, inside the hook's call, in the same direction and with the same bytes.
"H2D bytes named" is the share of all bytes to the device that carry an FQN and a parameter: the rest are no
weights (latents, embeddings, timesteps). GB/s is that of the weight copies on the device.
"""
UNCAPPED = {"model": OffloadOptions(mode="model"), "resident": OffloadOptions(mode="resident")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--output", type=Path, required=True, help="folder for the run folders and the table")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--vram", type=parse_bytes, default=parse_bytes("12GB"))
    parser.add_argument("--modes", help="only these, separated by ;")
    parser.add_argument("--runs", type=Path, nargs="+", help="check these run folders of one pipeline")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.runs:
        runs = {folder.name: load(folder) for folder in options.runs}
        return write(options, runs, [])
    wanted = options.modes.split(";") if options.modes else [*UNCAPPED, *CAPPED]
    runs = {}
    for mode, offload in {**UNCAPPED, **CAPPED}.items():
        if mode in wanted:
            runs[mode] = profile(options, mode, offload, options.vram if mode in CAPPED else None)
    refusals = [refusal(options, mode, offload) for mode, offload in UNCAPPED.items() if mode in wanted]
    return write(options, runs, refusals)


def write(options: argparse.Namespace, runs: dict[str, Run], refusals: list[str]) -> int:
    """The table; 1 where hooks and CUPTI differ."""
    rows = [check(mode, run) for mode, run in runs.items()]
    text = report(options, runs, rows, refusals)
    (options.output / "capture.md").write_text(text)
    print(text)
    return 0 if all(row["equal"] for row in rows) else 1


def profile(options: argparse.Namespace, mode: str, offload: OffloadOptions, cap: int | None) -> Run:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_per_process_memory_fraction(1.0)
    path = options.output / mode.replace(",", "").replace(" ", "-")
    return profile_pipeline(
        options.pipeline,
        offload=offload,
        call=CallOptions(steps=options.steps, height=options.size, width=options.size, seed=0),
        capture=CaptureOptions(output=path, force=True, device="cuda", vram_bytes=cap),
    )


def check(mode: str, run: Run) -> dict[str, object]:
    """One mode's row: the hooks' weight copies, what CUPTI has of them, and what either misses."""
    copies, summary = run.copies, run.summary()
    hooks = copies[copies.copy_id != NONE]
    weights = hooks[hooks.is_weight]
    to_device = weights[weights.direction == "H2D"]
    joined = to_device[to_device.device_start_ns != NONE]
    only_cupti = copies[copies.copy_id == NONE]
    only_hooks = hooks[hooks.device_start_ns == NONE]
    memcpys = run.data.device_ops[run.data.device_ops.op == "memcpy"]
    sizes = memcpys.set_index("correlation_id").size_bytes
    cupti_bytes = int(sizes.reindex(joined.correlation_id).sum())
    all_to_device = hooks[hooks.direction == "H2D"]
    unnamed = all_to_device[~all_to_device.is_weight]
    fastest = (joined.size_bytes / (joined.device_end_ns - joined.device_start_ns))[joined.size_bytes >= 1 << 20]
    steps = summary.steps
    return {
        "mode": mode,
        "setup": format_duration(summary.setup_ns),
        "step 1": format_duration(steps[0].wall_ns),
        "later steps": format_duration(sorted(s.wall_ns for s in steps[1:])[len(steps[1:]) // 2]),
        "weight copies, hooks": f"{len(to_device):,} / {format_bytes(to_device.size_bytes.sum())}",
        "the same in CUPTI": f"{len(joined):,} / {format_bytes(cupti_bytes)}",
        "equal": bool(
            len(joined) == len(to_device) and cupti_bytes == int(to_device.size_bytes.sum()) and only_hooks.empty
        ),
        "weights back": f"{(weights.direction == 'D2H').sum():,}",
        "H2D bytes named": f"{100 * to_device.size_bytes.sum() / all_to_device.size_bytes.sum():.4f}%",
        "not weights": f"{len(unnamed)} / {format_bytes(unnamed.size_bytes.sum())}",
        "only hooks": len(only_hooks),
        "only CUPTI": [
            f"{direction} {operation}: {len(part)} of {format_bytes(part.size_bytes.max())} at most"
            for (direction, operation), part in only_cupti.groupby(["direction", "operation"])
        ],
        "GB/s": f"{gb_per_s(joined.size_bytes.sum(), (joined.device_end_ns - joined.device_start_ns).sum()):.1f}",
        "fastest GB/s": f"{fastest.max():.1f}" if len(fastest) else "-",
        "clock error us": (run.manifest.clock.alignment_error_ns or 0) / 1000,
        "warnings": run.manifest.warnings,
        "peak allocated": summary.peak_allocated_bytes,
    }


def refusal(options: argparse.Namespace, mode: str, offload: OffloadOptions) -> str:
    """What a mode says that cannot run under the cap."""
    try:
        profile(options, f"{mode} under the cap", offload, options.vram)
    except UsageError as error:
        return f"{mode}: {error}"
    return f"{mode}: NOT REFUSED"


def report(options: argparse.Namespace, runs: dict[str, Run], rows: list[dict[str, object]], said: list[str]) -> str:
    columns = [
        *("mode", "setup", "step 1", "later steps", "weight copies, hooks", "the same in CUPTI", "equal"),
        *("weights back", "H2D bytes named", "not weights", "only hooks", "GB/s", "fastest GB/s", "clock error us"),
    ]
    seen = [f"{row['mode']}: {'; '.join(row['only CUPTI']) or 'nothing'}" for row in rows]  # type: ignore[arg-type]
    first = next(iter(runs.values())).manifest
    parts = [
        "# Hooks against CUPTI",
        where_it_ran(first).rstrip(),
        f"{conditions(options, first.workload)} {WHAT}".rstrip(),
        markdown_table(columns, [[row[column] for column in columns] for row in rows]),
        "Copies that only CUPTI saw, by operation:",
        listed(seen),
    ]
    if said:
        parts += ["Modes that do not fit under the cap say:", listed(said)]
    return "\n\n".join(parts) + "\n"


def conditions(options: argparse.Namespace, workload: str) -> str:
    """What was run."""
    if options.runs:
        return f"One run of {workload} a line."
    run = f"One run of {workload} a mode, {options.steps} steps, {options.size}x{options.size}, page cache warm"
    return f"{run}; device memory capped to {format_bytes(options.vram)}, but for {' and '.join(UNCAPPED)}."


def listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

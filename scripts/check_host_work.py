#!/usr/bin/env python3
"""Holds the calibration's "host work" against real hooks: how much slower they are after copies that the host stages.

Chains of modules under accelerate's sequential offload, alike but for the size of their weights, are profiled; the time
of offload hooks and model code a module, in a warm step, is set beside what the calibration of the same processor says
of a copy of that size. On CUDA each size is also copied from page-locked memory, which nothing stages: the factor
should then be 1.

    scripts/check_host_work.py --output reports/host-work-cpu.md [--device emulated]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from accelerate import cpu_offload
from benchlib import markdown_table, where
from torch import nn
from torch.nn import functional

import tracekit
from tracekit.device.choice import prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.model import Cause, Measure

MIB = 1 << 20
SIZES = (64, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB)
"""Bytes of weights of a module; the first is the base."""
CHAIN_BYTES, CHAIN = 1024 * MIB, 24
"""A chain has so many modules, fewer where their weights together would be more."""
STEPS = 10


class Block(nn.Module):
    """A module whose forward does not look at its weights: only their copy differs between sizes."""

    def __init__(self, size_bytes: int, pinned: bool) -> None:
        super().__init__()
        weight = torch.ones(size_bytes // 4)
        self.weight = nn.Parameter(weight.pin_memory() if pinned else weight, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A dozen small operations, as a transformer block's own code has them."""
        y = functional.layer_norm(x.view(4, 16), (16,)).transpose(0, 1).contiguous()
        y = functional.silu(y) + y * 0.5
        y = functional.softmax(torch.cat(y.chunk(2, dim=0), 0), -1)
        return y.reshape(1, 64) + x


def host_work_us(size_bytes: int, pinned: bool, device: torch.device, folder: Path) -> tuple[float, tracekit.Run]:
    """What hooks and model code take a module in a warm step, us, and the run."""
    count = max(min(CHAIN, CHAIN_BYTES // size_bytes), 4)
    chain = nn.Sequential(*(Block(size_bytes, pinned) for _ in range(count)))
    cpu_offload(chain, device)
    x = torch.ones(1, 64, device=device)
    with tracekit.profile(chain, folder, force=True, device=device.type, trace=False) as run, torch.no_grad():
        for _ in range(STEPS):
            chain(x)
    took: dict[int, int] = {}
    for row in run.summary().causes:
        if row.step_index > 1 and row.cause in (Cause.HOOKS, Cause.MODEL):
            took[row.step_index] = took.get(row.step_index, 0) + row.duration_ns
    return statistics.median(took.values()) / count / 1000, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    choice = resolve_device(options.device)
    prepare_device(choice, None, None)
    device = torch.device(choice.torch_device)
    ways = (False, True) if choice.kind == "cuda" else (False,)
    seen: dict[tuple[int, bool], list[float]] = {}
    calibrated: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for size in SIZES:
                for pinned in ways:
                    us, run = host_work_us(size, pinned, device, Path(folder) / "run")
                    seen.setdefault((size, pinned), []).append(us)
                    rows = run.data.calibration
                    for at, row in rows[rows["measure"] == Measure.HOST_WORK].groupby("size_bytes"):
                        calibrated.setdefault(int(at), []).append(float(row["duration_ns"].median()) / 1000)
    real = {key: statistics.median(values) for key, values in seen.items()}
    call = {size: statistics.median(values) for size, values in calibrated.items()}
    table = [
        [
            f"{size / MIB:g} MiB" if size >= MIB else f"{size} bytes",
            "page-locked" if pinned else "pageable",
            f"{us:.0f}",
            f"{us / real[SIZES[0], pinned]:.2f}",
            "1" if pinned else f"{call[size if size >= MIB else 0] / call[0]:.2f}",
        ]
        for (size, pinned), us in sorted(real.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    header = ["weights of a module", "host memory", "hooks and model code, us", "factor", "the calibration's factor"]
    text = (
        "# How much slower the host's work is after staged copies\n\n"
        f"{where(describe_device(choice, None))}\n"
        f"Medians over {options.rounds} runs of {STEPS} steps each; the calibration's over as many calibrations.\n\n"
        f"{markdown_table(header, table)}\n"
    )
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Holds the calibration's "host work" against real hooks: how much slower they are after copies that the host stages.

Chains of modules under accelerate's sequential offload are profiled, and what offload hooks and model code take in a
warm step is set beside that of a chain without weights to speak of. First chains of modules that are alike but for the
size of their weights, then chains in which modules with 16 MiB are followed by unlike ones with next to none. Beside
the factor stands what predictions make of it: from the run with weights and its calibration, what the same work would
take if nothing were staged. On CUDA the weights are copied from page-locked memory as well, which nothing stages: the
factor should then be 1.

    scripts/check_host_work.py --output reports/host-work-cpu.md [--device emulated]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import cpu_offload
from benchlib import markdown_table, where
from torch import nn
from torch.nn import functional

import tracekit
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.api import Run
from tracekit.device.choice import DeviceChoice, prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.model import Cause

Forward = Callable[[torch.Tensor], torch.Tensor]
MIB = 1 << 20
NONE = 64
"""Bytes of weights that count as none; a module without any would have no hook."""
SIZES = (1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB)
FOLLOWERS = (1, 3, 7)
CHAIN_BYTES, CHAIN = 1024 * MIB, 24
"""A chain has so many modules, fewer where their weights together would be more."""
STEPS = 10


class Block(nn.Module):
    """A module whose forward does not look at its weights: only their copy differs between sizes."""

    def __init__(self, size_bytes: int, pinned: bool, forward: Forward) -> None:
        super().__init__()
        weight = torch.ones(size_bytes // 4)
        self.weight = nn.Parameter(weight.pin_memory() if pinned else weight, requires_grad=False)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A few small operations."""
        return self._forward(x)


def usual(x: torch.Tensor) -> torch.Tensor:
    """A dozen small operations, as a transformer block's own code has them."""
    y = functional.layer_norm(x.view(4, 16), (16,)).transpose(0, 1).contiguous()
    y = functional.silu(y) + y * 0.5
    return functional.softmax(torch.cat(y.chunk(2, dim=0), 0), -1).reshape(1, 64) + x


UNLIKE: Sequence[Forward] = (
    usual,
    lambda x: functional.silu(x) * x + x.clamp(-1, 1),
    lambda x: torch.einsum("ij,kj->ik", x.view(8, 8), x.view(8, 8)).reshape(1, 64),
    lambda x: x.cumsum(-1).roll(3, -1).flip(-1),
    lambda x: torch.stack([x, x * 2], 0).mean(0) + x.std(),
    lambda x: torch.where(x > 0, x, x.exp()).masked_fill(x > 2, 0.0),
    lambda x: functional.group_norm(x.view(1, 8, 8), 4).view(1, 64).tanh(),
    lambda x: torch.sigmoid(x.view(2, 32).permute(1, 0).reshape(1, 64)).sqrt(),
)
"""Forwards that share as little of torch's code as such small ones can."""


class Chains:
    """Profiles chains on one device, and gathers what their calibrations say."""

    def __init__(self, choice: DeviceChoice, folder: Path) -> None:
        self.device = torch.device(choice.torch_device)
        self._folder = folder
        self.expected: list[float] = []

    def host_work_us(self, sizes: Sequence[int], forwards: Sequence[Forward], pinned: bool) -> float:
        """What hooks and model code take a module in a warm step, us; what is expected, where something is staged."""
        chain = nn.Sequential(*(Block(size, pinned, forward) for size, forward in zip(sizes, forwards, strict=True)))
        cpu_offload(chain, self.device)
        x = torch.ones(1, 64, device=self.device)
        calibrate = not pinned and max(sizes) > NONE
        options = {"force": True, "device": self.device.type, "trace": False, "calibration": calibrate}
        with tracekit.profile(chain, self._folder, **options) as run, torch.no_grad():
            for _ in range(STEPS):
                chain(x)
        took: dict[int, int] = {}
        for row in run.summary().causes:
            if row.step_index > 1 and row.cause in (Cause.HOOKS, Cause.MODEL):
                took[row.step_index] = took.get(row.step_index, 0) + row.duration_ns
        if calibrate:
            self.expected.append(expected_factor(run))
        return statistics.median(took.values()) / len(sizes) / 1000


def expected_factor(run: Run) -> float:
    """How much longer a run's host work takes, by its calibration, than if the host staged nothing."""
    predictor = Predictor(run.timeline)
    evidence = predictor.evidence
    slower = evidence.slowdown.usual(evidence.moved)
    own, apart = (
        sum(event.host_ns for event in predictor.warm[0].events if event.in_owner is in_owner)
        for in_owner in (True, False)
    )
    hooks = sum(evidence.hooks.onload.values()) + sum(evidence.hooks.offload.values())
    unstaged = hooks / slower.hooks[1] + own / slower.own[1] + apart / slower.apart[1]
    return (hooks + own + apart) / unstaged


def alike(size: int) -> tuple[list[int], list[Forward]]:
    """Sizes and forwards of a chain of modules that are alike."""
    count = max(min(CHAIN, CHAIN_BYTES // size), 4)
    return [size] * count, [usual] * count


def mixed(followers: int, size: int) -> tuple[list[int], list[Forward]]:
    """Those of a chain in which each module with weights is followed by unlike ones without."""
    places = [number % (followers + 1) for number in range(CHAIN)]
    return [NONE if place else size for place in places], [UNLIKE[place] for place in places]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    choice = resolve_device(options.device)
    prepare_device(choice, None, None)
    pairs = [(f"{size // MIB} MiB each", alike(size), alike(NONE)) for size in SIZES] + [
        (f"16 MiB, then {followers} without", mixed(followers, SIZES[2]), mixed(followers, NONE))
        for followers in FOLLOWERS
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chains = Chains(choice, Path(folder) / "run")
        for pinned in (False, True) if choice.kind == "cuda" else (False,):
            for name, (sizes, forwards), (none, same) in pairs:
                taken = [
                    [chains.host_work_us(*chain, pinned) for chain in ((sizes, forwards), (none, same))]
                    for _ in range(options.rounds)
                ]
                us, alone = (statistics.median(times) for times in zip(*taken, strict=True))
                expected = "1" if pinned else f"{statistics.median(chains.expected[-options.rounds :]):.2f}"
                memory = "page-locked" if pinned else "pageable"
                rows.append([name, memory, f"{alone:.0f}", f"{us:.0f}", f"{us / alone:.2f}", expected])
    header = ["weights", "host memory", "without weights, us a module", "with, us a module", "factor", "predicted"]
    text = (
        "# How much slower the host's work is after staged copies\n\n"
        f"{where(describe_device(choice, None))}\n"
        f"Hooks and model code, medians over {options.rounds} runs of {STEPS} steps each, in turn with chains of the "
        "same\nmodules without weights to speak of. In the last three chains all modules of a group have code of their "
        "own.\n\n"
        f"{markdown_table(header, rows)}\n"
    )
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Holds what predictions make of the calibration's host work against real hooks around larger modules.

Chains of modules are profiled under accelerate's sequential offload, and what hooks, the modules' own forwards and the
code behind them take in a warm step is set beside a chain of the same modules with hardly any weights: with larger
ones, without hooks, and on CUDA with page-locked weights and under diffusers' group hooks with a stream. Beside each
factor stands what the slowdown of predictions says of it, by the calibration of the same run.

    scripts/check_host_work.py --output reports/host-work-cpu.md [--device emulated]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import torch
from accelerate import cpu_offload
from benchlib import markdown_table, where
from diffusers.hooks import apply_group_offloading
from torch import nn
from torch.nn import functional

import tracekit
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.slowdown import HostWork, Slower
from tracekit.analysis.prediction.tape import Op
from tracekit.capture.calibration.hostwork import FEW
from tracekit.device.choice import DeviceChoice, prepare_device, resolve_device
from tracekit.device.describe import describe_device

Forward = Callable[[torch.Tensor], torch.Tensor]
MIB = 1 << 20
SIZES = (1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB)
MIXED = (3, 7)
"""Modules with few bytes behind each that has 16 MiB."""
CHAIN_BYTES, CHAIN = 1024 * MIB, 24
"""A chain has so many modules, fewer where their weights together would be more."""
STEPS = 10


class Glue(nn.Module):
    """What a model does between modules with weights: it has none itself, so that no hook is attached to it."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A few small operations."""
        return self._forward(x)


class Block(Glue):
    """A module with a weight at which its forward does not look: only its copy differs between sizes."""

    def __init__(self, size_bytes: int, pinned: bool, forward: Forward) -> None:
        super().__init__(forward)
        weight = torch.ones(size_bytes // 4)
        self.weight = nn.Parameter(weight.pin_memory() if pinned else weight, requires_grad=False)


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


class Way(Enum):
    """How a chain's weights are brought."""

    PAGEABLE = "sequential"
    PAGE_LOCKED = "sequential, page-locked"
    STREAM = "group, stream"
    NONE = "without hooks"


class Chains:
    """Profiles chains on one device."""

    def __init__(self, choice: DeviceChoice, folder: Path) -> None:
        self.device = torch.device(choice.torch_device)
        self._folder = folder

    def run(self, sizes: Sequence[int], way: Way, *, calibration: bool) -> Predictor:
        """What a run of a chain with these weights says of costs."""
        chain = nn.Sequential()
        for number, size in enumerate(sizes):
            chain.append(Block(size, way is Way.PAGE_LOCKED, UNLIKE[number % len(UNLIKE)]))
            chain.append(Glue(UNLIKE[(number + 3) % len(UNLIKE)]))
        if way is Way.NONE:
            chain.to(self.device)
        elif way is Way.STREAM:
            apply_group_offloading(chain, self.device, offload_type="leaf_level", use_stream=True)
        else:
            cpu_offload(chain, self.device)
        x = torch.ones(1, 64, device=self.device)
        options = {"force": True, "device": self.device.type, "trace": False, "calibration": calibration}
        with tracekit.profile(chain, self._folder, **options) as run, torch.no_grad():
            for _ in range(STEPS):
                chain(x)
        return Predictor(run.timeline)


def host_work(predictor: Predictor, modules: int) -> HostWork[float]:
    """What hooks, own forwards and the code between take a module in a warm step, us."""
    own, apart = (
        statistics.fmean(
            sum(event.host_ns for event in tape.events if event.op is Op.WORK and event.in_owner is in_owner)
            for tape in predictor.warm
        )
        for in_owner in (True, False)
    )
    hooks = predictor.evidence.hooks
    took = (sum(hooks.onload.values()) + sum(hooks.offload.values()), own, apart)
    return HostWork(*(each / modules / 1000 for each in took))


def middles(slower: Slower) -> HostWork[float]:
    """The medians of factors."""
    return HostWork(*(factors[1] for factors in slower))


def mixed(followers: int) -> list[int]:
    """A chain in which each module of 16 MiB is followed by some of a few bytes."""
    return [FEW if number % (followers + 1) else SIZES[2] for number in range(CHAIN)]


def alike(size: int) -> list[int]:
    """A chain of modules of one size."""
    return [size] * max(min(CHAIN, CHAIN_BYTES // size), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    choice = resolve_device(options.device)
    prepare_device(choice, None, None)
    ways = [Way.NONE, Way.PAGEABLE]
    if choice.kind == "cuda":
        ways += [Way.PAGE_LOCKED, Way.STREAM]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        chains = Chains(choice, Path(folder) / "run")
        for way in ways:
            for name, sizes in chains_of(way):
                rows.append([name, way.value, *compared(chains, sizes, way, options.rounds)])
                print(*rows[-1], sep=" | ", flush=True)
    header = ["weights", "way", "few bytes, us a module"]
    header += [f"{kind}: factor / predicted" for kind in ("hooks", "own", "code between")]
    text = (
        "# How much slower the host's work is for hooks and what they copy\n\n"
        f"{where(describe_device(choice, None))}\n"
        "Hooks, modules' own forwards and the code between them in a warm step, against a chain of the same modules\n"
        f"of {FEW} bytes each under accelerate's sequential offload, the two in turn; medians over {options.rounds}\n"
        f"pairs of runs of {STEPS} steps. Predicted: what predictions make of the calibration of the same run.\n\n"
        f"{markdown_table(header, rows)}\n"
    )
    options.output.write_text(text)
    print(text)


def chains_of(way: Way) -> list[tuple[str, list[int]]]:
    """Names of chains and the sizes of their modules."""
    if way in (Way.NONE, Way.STREAM):
        return [("16 MiB each", alike(SIZES[2]))]
    return [
        *((f"{size // MIB} MiB each", alike(size)) for size in SIZES),
        *((f"16 MiB, then {followers} of few bytes", mixed(followers)) for followers in MIXED),
    ]


def compared(chains: Chains, sizes: list[int], way: Way, rounds: int) -> list[str]:
    """What work takes among hooks that copy few bytes; and factors, measured and predicted."""
    few, factors, predicted = [], [], []
    for _ in range(rounds):
        base = chains.run([FEW] * len(sizes), Way.PAGEABLE, calibration=False)
        other = chains.run(sizes, way, calibration=True)
        few.append(host_work(base, len(sizes)))
        took = host_work(other, len(sizes))
        factors.append(HostWork(*(to / max(of, 1e-9) for to, of in zip(took, few[-1], strict=True))))
        says = [other.evidence.slowdown.usual(each.evidence.moved) for each in (other, base)]
        predicted.append(HostWork(*(to / of for to, of in zip(*map(middles, says), strict=True))))
    usual_few, factor, expected = (
        HostWork(*(statistics.median(times) for times in zip(*each, strict=True))) for each in (few, factors, predicted)
    )
    pairs = [f"{measured:.2f} / {said:.2f}" for measured, said in zip(factor, expected, strict=True)]
    if way in (Way.NONE, Way.STREAM):
        pairs[0] = ""
    return [", ".join(f"{us:.0f}" for us in usual_few), *pairs]


if __name__ == "__main__":
    main()

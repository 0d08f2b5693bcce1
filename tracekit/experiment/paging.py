"""The paging experiment: its arms, which pairs of them test which hypothesis, and what cannot be tested where.

The arms differ in three factors (`Factors`): where the weights' bytes are when the first step begins, whether the
allocator's cache is cleared, whether kernels and libraries were used before. What a pair differs in is the cause; the
rest is alike, a process of its own included.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from tracekit.errors import UsageError
from tracekit.model.causes import Cause
from tracekit.model.conditions import Allocator, Kernels
from tracekit.model.experiment import Arm, Contrast, Factors, Plan, Turn, Weights
from tracekit.offload.modes import ANONYMOUS, PINNED, modes

EXPERIMENT = "paging"
BASELINE = "evicted"
MODES = ("sequential", "partial", "model", "group")
"""Modes whose first onload is in the first step; resident's, and those of a group with a stream, are at set-up."""

_OPTIONS: Mapping[Weights, list[str]] = {
    Weights.EVICTED: ["--page-cache", "evicted"],
    Weights.CACHED: ["--page-cache", "cached"],
    Weights.MAPPED: ["--page-cache", "mapped"],
    Weights.ANONYMOUS: ["--host-memory", ANONYMOUS],
    Weights.PINNED: ["--host-memory", PINNED],
}


def _arm(name: str, doc: str, **factors: Weights | Allocator | Kernels) -> Arm:
    chosen = Factors(**factors)  # type: ignore[arg-type]
    options = list(_OPTIONS[chosen.weights])
    if chosen.allocator != Allocator.AS_IS:
        options += ["--allocator", chosen.allocator.value]
    if chosen.kernels != Kernels.AS_IS:
        options += ["--kernels", chosen.kernels.value]
    return Arm(name=name, doc=doc, options=options, factors=chosen)


ARMS = (
    _arm("evicted", "weights in mmapped files, on disk alone", weights=Weights.EVICTED),
    _arm("cached", "weights in mmapped files, in the page cache"),
    _arm("mapped", "weights in mmapped files, in the page cache and the page tables", weights=Weights.MAPPED),
    _arm("anonymous", "weights in ordinary process memory", weights=Weights.ANONYMOUS),
    _arm("pinned", "weights in page-locked memory", weights=Weights.PINNED),
    _arm("no-clearing", "as cached, and the allocator's cache is never cleared", allocator=Allocator.NO_CLEARING),
    _arm("kernels-used", "as cached, and kernels and libraries were used before", kernels=Kernels.USED),
)
CONTRASTS = (
    Contrast(
        hypothesis="OS paging",
        claim="weights that are not in the page cache are read from the disk",
        slow="evicted",
        fast="cached",
        causes=[Cause.DISK],
    ),
    Contrast(
        hypothesis="page mapping",
        claim="pages that are in memory fault at their first touch all the same",
        slow="cached",
        fast="mapped",
        causes=[Cause.MAPPING],
    ),
    Contrast(
        hypothesis="driver staging",
        claim="copies from pageable memory go through the driver's own page-locked buffers",
        slow="anonymous",
        fast="pinned",
        causes=[Cause.STAGING],
    ),
    Contrast(
        hypothesis="PyTorch's allocator",
        claim="device memory is given back and got again at every onload",
        slow="cached",
        fast="no-clearing",
        causes=[Cause.ALLOCATION],
    ),
    Contrast(
        hypothesis="library and kernel warm-up",
        claim="libraries and kernels are loaded at their first use",
        slow="cached",
        fast="kernels-used",
        causes=[Cause.FIRST_USE],
    ),
    Contrast(
        hypothesis="paging and mapping",
        claim="both together, against weights in process memory: a cross-check of the two",
        slow="evicted",
        fast="anonymous",
        causes=[Cause.DISK, Cause.MAPPING],
        check=True,
    ),
)


def paging_plan(
    workload: str,
    options: Sequence[str],
    *,
    mode: str = "sequential",
    emulated: bool = False,
    arms: Collection[str] = (),
    repeats: int = 3,
    seed: int = 0,
) -> Plan:
    """The plan of a paging experiment.

    Args:
        workload: What ``tracekit profile`` takes: a hub id, a folder, ``synthetic:NAME``.
        options: What every arm has of ``tracekit profile``'s options, the offload mode included.
        mode: The offload mode in them, one of `MODES`.
        emulated: Whether it will run on the emulated device.
        arms: Names of the arms that are wanted; empty: all.
        repeats: Blocks; each has every arm once.
        seed: Of the order of the arms within each block.

    Raises:
        UsageError: an unknown arm or mode, or nothing is left to compare.
    """
    if mode not in MODES:
        raise UsageError(f"mode {mode} onloads nothing in its first step: use one of {', '.join(MODES)}")
    names = [arm.name for arm in ARMS]
    for name in arms:
        if name not in names:
            raise UsageError(f"unknown arm {name!r}: use some of {', '.join(names)}")
    left_out = {name: f"the arm {name} was left out by --arms" for name in names if arms and name not in arms}
    left_out |= cannot_run(mode, emulated)
    running = [name for name in names if name not in left_out]
    if not any({pair.slow, pair.fast} <= set(running) for pair in CONTRASTS):
        pairs = "; ".join(f"{pair.slow} and {pair.fast}" for pair in CONTRASTS)
        raise UsageError(f"these arms compare nothing that can run here: choose a pair of {pairs}")
    return Plan(
        name=EXPERIMENT,
        workload=workload,
        options=list(options),
        arms=list(ARMS),
        contrasts=list(CONTRASTS),
        left_out=left_out,
        baseline=BASELINE,
        seed=seed,
        turns=shuffled(running, repeats, seed),
    )


def cannot_run(mode: str, emulated: bool) -> dict[str, str]:
    """The arms that say nothing with this offload mode or on this device, each with the reason."""
    refusals = modes()[mode].refusals
    reasons = {
        memory: f"mode {mode} cannot hold {memory} host memory: {refusals[memory]}"
        for memory in (ANONYMOUS, PINNED)
        if memory in refusals
    }
    if emulated:
        reasons |= {
            "pinned": "the emulated device has no page-locked memory, and no driver that stages copies",
            "no-clearing": "the emulated device does not have PyTorch's CUDA allocator",
            "kernels-used": "the emulated device's kernels run on the CPU: their first use says nothing of a GPU's",
        }
    return reasons


def shuffled(arms: Sequence[str], repeats: int, seed: int) -> list[Turn]:
    """Every arm once in each block, in an order that the seed alone decides."""
    turns = []
    for block in range(repeats):
        order = list(arms)
        random.Random(f"{seed}:{block}").shuffle(order)
        turns += [Turn(block=block, arm=arm) for arm in order]
    return turns

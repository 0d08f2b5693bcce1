"""What each offload mode must copy, worked out from a plain run on the CPU and the weights' sizes.

The tests' oracle: it watches an untouched pipeline compute, counts how often each module is called, and derives from
that which weight has to cross to the device (and back) how often. It uses none of tracekit's capture and none of the
offload hooks. Tied weights are told by identity. Copies that move no weight (latents, embeddings, timesteps) are not
in it: a run in mode resident makes exactly those, in every mode the same ones.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tracekit.offload.options import OffloadOptions


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer where a module owns it; a tied one appears once for each owner, with one identity."""

    component: str
    fqn: str
    name: str
    size_bytes: int
    is_buffer: bool
    persistent: bool
    identity: int


@dataclass(frozen=True)
class BlockRoot:
    """A module whose lists of blocks are grouped at block level: the lists' names and lengths."""

    fqn: str
    lists: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PipelineFacts:
    """What a plain pipeline has, and how often one run calls each module: ``once + steps * per_step``."""

    weights: tuple[Weight, ...]
    once: Counter[str]
    per_step: Counter[str]
    root_owners: frozenset[str]
    """Components whose root module owns parameters itself: accelerate streams their persistent buffers, too."""
    component_order: tuple[str, ...]
    """Components in the order in which a run computes with them, repeats in a row dropped."""
    offload_order: tuple[str, ...]
    block_roots: tuple[BlockRoot, ...]

    def calls(self, fqn: str, steps: int) -> int:
        """How often one run of `steps` calls the module."""
        return self.once[fqn] + steps * self.per_step[fqn]


@dataclass(frozen=True)
class Expected:
    """Weight copies of set-up and of all runs together, by weight: how often each crosses."""

    setup: Counter[Weight]
    h2d: Counter[Weight]
    d2h: Counter[Weight]


def total_bytes(copies: Counter[Weight]) -> int:
    return sum(weight.size_bytes * count for weight, count in copies.items())


def observe(pipeline: Any, run: Callable[[int], object]) -> PipelineFacts:
    """Watch `pipeline` (on the CPU, with no offloading) while ``run(steps)`` calls it, with 1 and with 2 steps."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    names = {module: fqn for name, part in parts.items() for fqn, module in _modules(name, part)}
    one, _ = _count_calls(names, lambda: run(1))
    two, order = _count_calls(names, lambda: run(2))
    per_step = Counter({fqn: two[fqn] - one[fqn] for fqn in two})
    return PipelineFacts(
        weights=tuple(weight for name, part in parts.items() for weight in _weights(name, part)),
        once=Counter({fqn: one[fqn] - per_step[fqn] for fqn in one}),
        per_step=per_step,
        root_owners=frozenset(name for name, part in parts.items() if list(part.parameters(recurse=False))),
        component_order=order,
        offload_order=tuple(name for name in (pipeline.model_cpu_offload_seq or "").split("->") if name in parts),
        block_roots=tuple(root for name, part in parts.items() for root in _block_roots(name, part)),
    )


def expected_copies(
    facts: PipelineFacts,
    options: OffloadOptions,
    steps: int,
    *,
    runs: int = 1,
    resident: frozenset[str] = frozenset(),
) -> Expected:
    """The weight copies that the mode must make: at set-up, and in `runs` runs of `steps` steps after it.

    `resident` holds the dotted names, component included, of the parameters that partial offload keeps.
    """
    if options.mode == "resident":
        return Expected(Counter(_once_each(facts.weights)), Counter(), Counter())
    if options.mode == "model":
        moved = _model_run(facts)
        copies = Counter({weight: count * runs for weight, count in moved.items()})
        return Expected(Counter(), copies, Counter(copies))
    if options.mode == "group":
        assert not options.stream, "what a stream prefetches depends on the order seen in the first run"
        return _group(facts, options, steps, runs)
    return _sequential(facts, steps, runs, resident)


def _sequential(facts: PipelineFacts, steps: int, runs: int, resident: frozenset[str]) -> Expected:
    kept = {weight.identity for weight in facts.weights if f"{weight.fqn}.{weight.name}" in resident}
    setup = Counter(_once_each(weight for weight in facts.weights if weight.identity in kept))
    h2d: Counter[Weight] = Counter()
    for weight in facts.weights:
        streamed = not weight.is_buffer or (weight.persistent and weight.component in facts.root_owners)
        if not streamed:
            setup[weight] = 1
        elif weight.identity not in kept:
            h2d[weight] = runs * facts.calls(weight.fqn, steps)
    return Expected(setup, +h2d, Counter())


def _model_run(facts: PipelineFacts) -> Counter[Weight]:
    """One run: a component comes when it is first needed and goes when the one after it in the pipeline's order does.

    At the end of the call everything goes. What comes goes, so the ways back are as many.
    """
    before = dict(zip(facts.offload_order[1:], facts.offload_order, strict=False))
    on_device: set[str] = set()
    moved: Counter[Weight] = Counter()
    for component in facts.component_order:
        on_device.discard(before.get(component, ""))
        if component not in on_device:
            on_device.add(component)
            moved.update(_once_each(weight for weight in facts.weights if weight.component == component))
    return moved


def _group(facts: PipelineFacts, options: OffloadOptions, steps: int, runs: int) -> Expected:
    h2d: Counter[Weight] = Counter()
    d2h: Counter[Weight] = Counter()
    groups = (
        _leaf_groups(facts) if options.level == "leaf_level" else _block_groups(facts, options.blocks_per_group or 1)
    )
    for leader, weights, rest in groups:
        onloads = runs * facts.calls(leader, steps)
        if not onloads:
            continue
        for weight in _once_each(weights):
            h2d[weight] += onloads
            d2h[weight] += onloads
            if rest and weight.is_buffer and options.disk_path is None and weight.fqn != leader:
                # diffusers holds such a buffer twice, as its module's and in a list of its own: `.to("cpu")` replaces
                # the module's, so that from the first offload on they are two tensors, each copied for itself.
                h2d[weight] += onloads - 1
                d2h[weight] += onloads
    return Expected(Counter(), h2d, Counter() if options.disk_path is not None else d2h)


def _leaf_groups(facts: PipelineFacts) -> Iterator[tuple[str, list[Weight], bool]]:
    for fqn, owned in itertools.groupby(facts.weights, key=lambda weight: weight.fqn):
        yield fqn, list(owned), False


def _block_groups(facts: PipelineFacts, blocks: int) -> Iterator[tuple[str, list[Weight], bool]]:
    """Each group as the module whose call brings it, its weights, and whether it is a root's rest."""
    roots = {root.fqn for root in facts.block_roots}
    for root in facts.block_roots:
        rest = [weight for weight in facts.weights if _below(weight.fqn, root.fqn)]
        for name, length in root.lists:
            for start in range(0, length, blocks):
                members = [f"{root.fqn}.{name}.{index}" for index in range(start, min(start + blocks, length))]
                yield members[0], [w for w in rest if any(_below(w.fqn, member) for member in members)], False
        taken = [f"{root.fqn}.{name}" for name, _ in root.lists]
        taken += [other for other in roots if other != root.fqn and _below(other, root.fqn)]
        yield root.fqn, [w for w in rest if not any(_below(w.fqn, other) for other in taken)], True


def _once_each(weights: Any) -> list[Weight]:
    """The weights, of tied ones only the first."""
    return list({weight.identity: weight for weight in reversed(list(weights))}.values())[::-1]


def _below(fqn: str, ancestor: str) -> bool:
    return fqn == ancestor or fqn.startswith(f"{ancestor}.")


def _modules(component: str, part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in part.named_modules():
        yield f"{component}.{name}" if name else component, module


def _weights(component: str, part: nn.Module) -> Iterator[Weight]:
    stored = set(part.state_dict())
    for fqn, module in _modules(component, part):
        owned = [(name, tensor, False) for name, tensor in module.named_parameters(recurse=False)]
        owned += [(name, tensor, True) for name, tensor in module.named_buffers(recurse=False)]
        for name, tensor, is_buffer in owned:
            persistent = f"{fqn}.{name}".removeprefix(f"{component}.") in stored
            yield Weight(component, fqn, name, tensor.nbytes, is_buffer, persistent, id(tensor))


def _block_roots(fqn: str, module: nn.Module) -> Iterator[BlockRoot]:
    # The models say in this private attribute which of their parts are searched for blocks, besides themselves.
    searched = set(getattr(module, "_group_offload_block_modules", None) or ())
    lists = []
    for name, child in module.named_children():
        if name in searched:
            # Below the root the attribute is not read again.
            below = [(n, len(c)) for n, c in child.named_children() if isinstance(c, nn.ModuleList | nn.Sequential)]
            yield BlockRoot(f"{fqn}.{name}", tuple(below))
        elif isinstance(child, nn.ModuleList | nn.Sequential):
            lists.append((name, len(child)))
    yield BlockRoot(fqn, tuple(lists))


def _count_calls(names: dict[nn.Module, str], run: Callable[[], object]) -> tuple[Counter[str], tuple[str, ...]]:
    calls: Counter[str] = Counter()
    order: list[str] = []

    def count(module: nn.Module, args: object) -> None:
        fqn = names.get(module)
        if fqn is not None:
            calls[fqn] += 1
            component = fqn.partition(".")[0]
            if order[-1:] != [component]:
                order.append(component)

    handle = register_module_forward_pre_hook(count)
    try:
        with torch.no_grad():
            run()
    finally:
        handle.remove()
    return calls, tuple(order)

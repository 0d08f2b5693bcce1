"""How diffusers' group offloading moves weights (diffusers 0.42.1, hooks/group_offloading.py).

Without a stream, a group's weights are copied on the compute stream before its first module runs, the host awaiting
each, and copied back after its last one, into fresh pageable memory.

With a stream, diffusers page-locks a copy of every weight at set-up (each rounded up to a power of two by torch's
allocator), or, with low_cpu_mem, at every onload. Copies go through a stream of their own. In a component's first
forward each group is awaited; the order of calls is learned from it. From then on a group's first module waits for its
own copy, has the next group's copied ahead, and runs; after its last module the host waits for its kernels (unless
record_stream) and points the weights back to the host copy. A component whose root is not called itself (a VAE's
``decode``) never learns an order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tracekit.analysis.prediction.costs import Costs
from tracekit.analysis.prediction.offloader import Offloader
from tracekit.analysis.prediction.slowdown import How, Moved
from tracekit.analysis.prediction.weights import Weight, Weights, once_each
from tracekit.model.plan import Configuration

SEARCHED = ("quant_conv", "post_quant_conv", "encoder", "decoder")
"""Parts of autoencoders that diffusers searches for blocks of their own (``_group_offload_block_modules``)."""

MAX_HEAP_BYTES = 32 << 20
"""What glibc's malloc takes from its heap, which keeps freed memory, at most: its M_MMAP_THRESHOLD follows the largest
block freed, up to here (mallopt(3))."""

_NUMBER = re.compile(r"[0-9]{1,9}")
"""The name of a list's member; longer ones are no place in any list, and may be too long for Python to read."""


@dataclass(eq=False)
class Group:
    """Weights that move together: `leader`'s call brings them, `last`'s end drops them.

    `rest` are the weights of a root outside its blocks; they use no stream. Its buffers below the root are, from the
    first offload on, two tensors each, both copied.
    """

    leader: str
    last: str
    component: str
    weights: list[Weight]
    rest: bool = False
    doubled: frozenset[str] = frozenset()
    brings_itself: bool = True
    following: Group | None = None
    held: list[Weight] = field(default_factory=list)
    returned: bool = False


class GroupOffload(Offloader):
    """Group offload with the options of a configuration. `autoencoders` are the components searched for blocks."""

    def __init__(
        self,
        weights: Weights,
        costs: Costs,
        configuration: Configuration,
        autoencoders: Iterable[str] = (),
        *,
        paging: bool = False,
    ) -> None:
        super().__init__(weights, costs, paging=paging)
        self._options = configuration
        groups = (
            leaf_groups(weights)
            if configuration.group_level == "leaf_level"
            else block_groups(weights, configuration.blocks_per_group, frozenset(autoencoders))
        )
        self._by_leader = {group.leader: group for group in groups}
        # Blocks of the largest size that is ever freed go back to the kernel, as all above MAX_HEAP_BYTES do.
        sizes = (w.size_bytes for group in groups if self._returns(group) for w in group.weights)
        self._heap_bytes = max((size for size in sizes if size <= MAX_HEAP_BYTES), default=0)
        self._by_last: dict[str, list[Group]] = {}
        for group in groups:
            self._by_last.setdefault(group.last, []).append(group)
        self._order: dict[str, list[Group]] = {}
        self._learned: set[str] = set()
        # Page-locked blocks by size: how many there are, and how many of them no copy uses.
        self._pool: dict[int, int] = {}
        self._free: dict[int, int] = {}

    @property
    def locked_bytes(self) -> int:
        """With a stream all weights, each in a block of a power of two; with low_cpu_mem what is under way."""
        if not self._options.stream:
            return 0
        if self._options.low_cpu_mem:
            return sum(size * count for size, count in self._pool.items())
        return sum(_rounded(weight) for weight in self._pinned_weights())

    @property
    def anonymous_bytes(self) -> int:
        """Without a stream what was copied back."""
        if self._options.stream:
            return 0
        return sum(w.size_bytes for group in self._by_leader.values() if group.returned for w in group.weights)

    @property
    def replaces_loaded(self) -> bool:
        """With a stream the page-locked copy takes the place of what was loaded."""
        return self._options.stream and not self._options.low_cpu_mem

    def moves(self, fqn: str) -> Moved | None:
        """A group's weights at its first module; with low_cpu_mem the host copies them within its memory first."""
        group = self._by_leader.get(fqn)
        if group is None:
            return None
        streamed = self._options.stream and not self._options.low_cpu_mem
        return Moved(sum(weight.size_bytes for weight in group.weights), How.STREAMED if streamed else How.STAGED)

    def setup(self) -> None:
        """Page-lock a copy of every weight, where that is the mode."""
        if not self._options.stream or self._options.low_cpu_mem:
            return
        for weight in self._pinned_weights():
            self.machine.work(self.costs.pin(_rounded(weight)) + self.host_copy_ns(weight))

    def enter(self, fqn: str) -> None:
        """Bring the module's group if it leads one, and with a stream the next group ahead."""
        group = self._by_leader.get(fqn)
        if group is None or (group.rest and not self._options.stream and not group.weights):
            return
        if self._options.stream and group.component not in self._learned and group.leader != group.component:
            self._order.setdefault(group.component, []).append(group)
        if group.brings_itself:
            self._onload(group)
        elif not group.held:
            self._onload(group)
            self.machine.wait_link()
        if group.following is not None and not group.following.brings_itself:
            self._onload(group.following)
        elif not group.brings_itself:
            self.machine.wait_link()

    def leave(self, fqn: str) -> None:
        """Drop the groups whose last module this is; a component's order is known after its first forward."""
        for group in self._by_last.get(fqn, ()):
            self._offload(group)
        if self._options.stream and fqn in self.weights.components and fqn not in self._learned:
            self._learn(fqn)

    def _onload(self, group: Group) -> None:
        for weight in group.held:
            self.release(weight)
        streams = not self._returns(group)
        if streams:
            self.machine.wait_link()
            self._free = dict(self._pool)
        self.work(self.costs.group_onload_host(group.leader))
        group.held = list(group.weights)
        for weight in group.weights:
            copies = 2 if group.returned and weight.key in group.doubled else 1
            for _ in range(copies):
                self._bring(group, weight, streams=streams)

    def _bring(self, group: Group, weight: Weight, *, streams: bool) -> None:
        if not streams:
            self.bring(weight, allocate=not group.returned)
            if group.returned and not self._recycles(weight):
                self.machine.work(self.costs.unmap(weight.size_bytes))
            return
        call = self.costs.ahead_call_ns * self.scales.hooks
        if self._options.low_cpu_mem:
            call += self._pin_now(weight)
        self.machine.copy_ahead(self.costs.ahead(weight), call)
        if group.component not in self._learned:
            self.machine.wait_link()
        self.count_h2d(weight)
        self.hold(weight)

    def _returns(self, group: Group) -> bool:
        """Whether a group's weights are copied back."""
        return group.rest or not self._options.stream

    def _recycles(self, weight: Weight) -> bool:
        """Whether the C library keeps memory that a weight was copied back into, once it is freed."""
        return weight.size_bytes < self._heap_bytes

    def _offload(self, group: Group) -> None:
        self.work(self.costs.group_offload_host(group.leader))
        if not self._returns(group):
            if not self._options.record_stream:
                self.machine.wait_compute()
            for weight in group.held:
                self.release(weight)
        else:
            for weight in group.held:
                recycled = group.returned and self._recycles(weight)
                self.give_back(weight, recycled=recycled)
                if weight.key in group.doubled:
                    self.hold(weight)
                    self.give_back(weight, recycled=recycled)
            group.returned = True
        group.held = []

    def _learn(self, component: str) -> None:
        self._learned.add(component)
        order = self._order.get(component, [])
        root = self._by_leader.get(component)
        if root is None:
            root = Group(component, component, component, [], rest=True)
            self._by_leader[component] = root
        for group, following in zip([root, *order], order, strict=False):
            group.following = following
            following.brings_itself = False

    def _pinned_weights(self) -> list[Weight]:
        groups = [group for group in self._by_leader.values() if not group.rest]
        return list(once_each(weight for group in groups for weight in group.weights))

    def _pin_now(self, weight: Weight) -> float:
        """A page-locked copy for one onload: torch's host allocator gives the same blocks again once copied."""
        size = _rounded(weight)
        took = self.host_copy_ns(weight)
        if self._free.get(size, 0):
            self._free[size] -= 1
            return took
        self._pool[size] = self._pool.get(size, 0) + 1
        return took + self.costs.pin(size)


def leaf_groups(weights: Weights) -> list[Group]:
    """One group for each module that owns weights."""
    return [
        Group(fqn, fqn, weights.owned(fqn)[0].component, list(once_each(weights.owned(fqn)))) for fqn in weights.owners
    ]


def block_groups(weights: Weights, blocks: int, autoencoders: frozenset[str]) -> list[Group]:
    """Groups of `blocks` neighbours in each list of blocks below a root, and one of the root's rest."""
    groups: list[Group] = []
    for component in weights.components:
        searched = [f"{component}.{name}" for name in SEARCHED] if component in autoencoders else []
        for root in [*searched, component]:
            inside = weights.below(root)
            taken = [other for other in searched if other != root] if root == component else []
            for name, members in _lists(root, inside).items():
                if f"{root}.{name}" in taken:
                    continue
                by_group: dict[int, list[Weight]] = {}
                for index in sorted(members):
                    by_group.setdefault(index // blocks, []).extend(members[index])
                for number, own in by_group.items():
                    indexes = (number * blocks, min((number + 1) * blocks - 1, max(members)))
                    first, last = (f"{root}.{name}.{index}" for index in indexes)
                    groups.append(Group(first, last, component, list(once_each(own))))
                taken.append(f"{root}.{name}")
            rest = list(once_each(w for w in inside if not any(_below(w.fqn, other) for other in taken)))
            if rest:
                doubled = frozenset(w.key for w in rest if w.is_buffer and w.fqn != root)
                groups.append(Group(root, root, component, rest, rest=True, doubled=doubled))
    return groups


def _lists(root: str, weights: Iterable[Weight]) -> dict[str, dict[int, list[Weight]]]:
    """A root's children that are lists of modules, all members named by numbers, and each one's weights by its number.

    Members without weights are not among them: a name may say any number.
    """
    found: dict[str, dict[int, list[Weight]]] = {}
    others: set[str] = set()
    for weight in (weight for weight in weights if weight.fqn != root):
        child, *path = weight.fqn.removeprefix(f"{root}.").split(".")
        if path and _NUMBER.fullmatch(path[0]):
            found.setdefault(child, {}).setdefault(int(path[0]), []).append(weight)
        else:
            others.add(child)
    return {name: members for name, members in found.items() if name not in others}


def _below(fqn: str, ancestor: str) -> bool:
    return fqn == ancestor or fqn.startswith(f"{ancestor}.")


def _rounded(weight: Weight) -> int:
    """The power of two that torch's host allocator takes for it."""
    return 1 << max(weight.size_bytes - 1, 0).bit_length()

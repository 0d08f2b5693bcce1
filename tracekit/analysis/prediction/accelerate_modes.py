"""How accelerate's hooks move weights: resident, model, sequential and partial offload (accelerate 1.15).

Sequential: each module's weights are copied one by one on the compute stream before its forward, the host awaiting
each (``Tensor.to`` without non_blocking), the allocator's cache cleared after each; after the forward they are dropped,
nothing is copied back. A tied weight is copied for each module that has it. Model: a component comes whole before its
first module runs, and goes back whole, into fresh pageable memory, before the next one comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.analysis.prediction.costs import Costs
from tracekit.analysis.prediction.offloader import Offloader
from tracekit.analysis.prediction.slowdown import How, Moved
from tracekit.analysis.prediction.weights import Weight, Weights, once_each

AS_LOADED, ANONYMOUS, PINNED = "as-loaded", "anonymous", "pinned"
_PIN_BLOCK = 1 << 30
"""tracekit and its pasted code page-lock memory in blocks of this size, and cut weights out of them."""


class Resident(Offloader):
    """Everything on the device, moved there at set-up."""

    def setup(self) -> None:
        """Move all weights, tied ones once."""
        for weight in once_each(self.weights.all):
            self.machine.work(self.costs.moving_ns)
            self.bring(weight)


class ModelOffload(Offloader):
    """One component on the device at a time; `order` is that in which the run used them."""

    def __init__(self, weights: Weights, costs: Costs, order: Sequence[str], *, paging: bool = False) -> None:
        super().__init__(weights, costs, paging=paging)
        self._before = dict(zip(order[1:], order, strict=False))
        self._held: dict[str, list[Weight]] = {}
        self._copied_back: set[str] = set()

    @property
    def anonymous_bytes(self) -> int:
        """What was copied back is in ordinary memory from then on."""
        parts = self.weights.components
        return sum(weight.size_bytes for name in self._copied_back for weight in parts.get(name, []))

    def enter(self, fqn: str) -> None:
        """Bring the module's component, after giving back the one before it in the pipeline's order."""
        component = fqn.partition(".")[0]
        if component in self._held or component not in self.weights.components:
            return
        self._drop(self._before.get(component, ""))
        self._held[component] = self.weights.components[component]
        for weight in self._held[component]:
            self.machine.work(self.costs.moving_ns)
            self.bring(weight)

    def end_run(self) -> None:
        """Whatever is on the device goes back."""
        for component in list(self._held):
            self._drop(component)

    def _drop(self, component: str) -> None:
        weights = self._held.pop(component, [])
        for weight in weights:
            self.machine.work(self.costs.moving_ns)
            self.give_back(weight)
        if weights:
            self._copied_back.add(component)


class Sequential(Offloader):
    """Each module's weights just before its forward; `resident` ones (by key) stay on the device."""

    def __init__(
        self,
        weights: Weights,
        costs: Costs,
        *,
        memory: str = AS_LOADED,
        resident: frozenset[str] = frozenset(),
        paging: bool = False,
    ) -> None:
        super().__init__(weights, costs, paging=paging)
        self._pinned = memory == PINNED
        self._memory = memory
        self._resident = resident
        self._streamed = {
            fqn: [weight for weight in weights.owned(fqn) if weight.streams and weight.key not in resident]
            for fqn in weights.owners
        }
        # With all its weights resident a module's hook only moves inputs.
        self._idle = {fqn for fqn, streamed in self._streamed.items() if not streamed and weights.owned(fqn)}

    @property
    def clears_cache(self) -> bool:
        """After every weight."""
        return True

    def moves(self, fqn: str) -> Moved | None:
        """Its weights that do not stay."""
        streamed = self._streamed.get(fqn)
        if not streamed:
            return Moved(0) if fqn in self._idle else None
        return Moved(sum(weight.size_bytes for weight in streamed), How.WAITED if self._pinned else How.STAGED)

    def setup(self) -> None:
        """Place what stays, hold the host copy of the rest as asked, and put the buffers onto the device."""
        once = list(once_each(self.weights.all))
        for weight in once:
            if weight.key in self._resident:
                self.bring(weight)
        rest = [weight for weight in once if weight.key not in self._resident]
        if self._pinned:
            self.machine.work(self.costs.pin(_PIN_BLOCK) * self.locked_bytes / _PIN_BLOCK)
        if self._memory != AS_LOADED:
            self.copy_all(rest, fresh=not self._pinned)
        for weight in self.weights.all:
            if not weight.streams:
                self.bring(weight, pinned=self._pinned)

    @property
    def locked_bytes(self) -> int:
        """All but the resident weights, where they are pinned."""
        return self._rest_bytes() if self._pinned else 0

    @property
    def anonymous_bytes(self) -> int:
        """All but the resident weights, where they are cloned."""
        return self._rest_bytes() if self._memory == ANONYMOUS else 0

    @property
    def replaces_loaded(self) -> bool:
        """A host copy of its own takes the place of what was loaded."""
        return self._memory != AS_LOADED

    def enter(self, fqn: str) -> None:
        """Onload a module's own weights."""
        streamed = self._streamed.get(fqn)
        if not streamed:
            if fqn in self._idle:
                self.work(self.costs.idle_hook_ns)
            return
        self.work(self.costs.onload_host(fqn, len(streamed)))
        for weight in streamed:
            self.bring(weight, pinned=self._pinned)
        self.work(self.costs.clearing(fqn, len(streamed)))

    def leave(self, fqn: str) -> None:
        """Drop them."""
        streamed = self._streamed.get(fqn)
        if streamed:
            self.work(self.costs.offload_host(fqn))
            for weight in streamed:
                self.release(weight)

    def _rest_bytes(self) -> int:
        return sum(weight.size_bytes for weight in once_each(self.weights.all) if weight.key not in self._resident)

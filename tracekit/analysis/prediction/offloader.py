"""What every offload mode's hooks have in common: weights that come and go, counted, on a simulated machine."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from tracekit.analysis.prediction.costs import Costs
from tracekit.analysis.prediction.machine import Machine
from tracekit.analysis.prediction.slowdown import HostScales, Moved
from tracekit.analysis.prediction.tape import Op, Tape
from tracekit.analysis.prediction.weights import Weight, Weights
from tracekit.model.plan import Traffic


class Offloader:
    """An offload mode without any hook: a base whose weights are on the device already.

    `paging`: host memory does not hold the weights, so that mapped ones are read from disk at every onload.
    """

    def __init__(self, weights: Weights, costs: Costs, *, paging: bool = False) -> None:
        self.weights = weights
        self.costs = costs
        self.machine = Machine(in_place=costs.in_place)
        self._brought = self._brought_bytes = self._returned = self._returned_bytes = 0
        self.device_bytes = 0
        self.beside_bytes = 0
        self.peak_bytes = 0
        self.slack_bytes = 0
        self.peak_with_slack = 0
        self._paging = paging
        self._touched: set[str] = set()

    @property
    def traffic(self) -> Traffic:
        """What was copied so far."""
        return Traffic(self._brought, self._brought_bytes, self._returned, self._returned_bytes)

    @property
    def locked_bytes(self) -> int:
        """Page-locked host memory that the mode holds."""
        return 0

    @property
    def anonymous_bytes(self) -> int:
        """Ordinary host memory that the mode holds beside, or in place of, the weights as they were loaded."""
        return 0

    @property
    def replaces_loaded(self) -> bool:
        """Whether what was loaded is given up for that memory."""
        return False

    @property
    def clears_cache(self) -> bool:
        """Whether the allocator's cache is cleared all the time, so that activations need the driver, too."""
        return False

    def moves(self, fqn: str) -> Moved | None:  # noqa: ARG002
        """What is copied to the device at this module in a warm step; None where the module has no hook."""
        return None

    @cached_property
    def scales(self) -> HostScales:
        """How much longer the host's work takes than in the profiled run."""
        return self.costs.host_scales(self.moves)

    def work(self, host_ns: float) -> None:
        """A module's hook works, as long as it did in the profiled run but for what copies change."""
        self.machine.work(host_ns * self.scales.hooks)

    def setup(self) -> None:
        """What the mode does once, after loading."""

    def enter(self, fqn: str) -> None:
        """A module is about to run."""

    def leave(self, fqn: str) -> None:
        """A module has run."""

    def end_run(self) -> None:
        """The pipeline's call ends."""

    def play(self, tape: Tape) -> None:
        """Work a tape off, with the mode's hooks around the modules' calls."""
        machine, clears_cache = self.machine, self.clears_cache
        scales, work_factor = self.scales, self.costs.work_factor
        for event in tape.events:
            if event.op is not Op.LEAVE:
                self._beside(event.beside_bytes)
            # By identity: there are millions of events in a plan, and comparing texts takes ten times as long.
            if event.op is Op.WORK:
                host = event.host_ns if clears_cache else event.host_ns - event.allocation_ns
                once = min(event.once_ns, host)
                scale = scales.own if event.in_owner else scales.apart
                machine.work((once + (host - once) * scale) * work_factor + event.pause_ns, event.device_ns)
            elif event.op is Op.ENTER:
                self.enter(event.fqn)
            elif event.op is Op.LEAVE:
                self.leave(event.fqn)
                self._beside(event.beside_bytes)
            else:
                machine.copy(event.host_ns)

    def bring(self, weight: Weight, *, pinned: bool = False, allocate: bool = True) -> None:
        """Copy a weight to the device, the host waiting."""
        link = self.costs.h2d(weight, pinned, self.scales.hooks)
        link += 0.0 if pinned else self.first_touch(weight)
        self.machine.copy(link, self.costs.allocation(weight) * self.scales.hooks if allocate else 0.0)
        self.count_h2d(weight)
        self.hold(weight)

    def give_back(self, weight: Weight, *, recycled: bool = False) -> None:
        """Copy a weight back to the host, the host waiting, and free its device memory.

        `recycled`: memory that was freed before may be there for it.
        """
        self.machine.copy(self.costs.d2h(weight, recycled=recycled))
        self._returned += 1
        self._returned_bytes += weight.size_bytes
        self.release(weight)

    def first_touch(self, weight: Weight, *, on_host: bool = False) -> float:
        """What touching a weight's pages adds now: once, or every time where memory does not hold them.

        `on_host`: to a copy within host memory.
        """
        if self._paging and weight.mapped:
            return self.costs.disk(weight)
        if weight.key in self._touched:
            return 0.0
        self._touched.add(weight.key)
        return self.costs.mapping(weight) if on_host else self.costs.excess(weight)

    def _beside(self, size_bytes: int) -> None:
        """So much device memory is taken beside the weights from now on."""
        if size_bytes != self.beside_bytes:
            self.beside_bytes = size_bytes
            self.note_peak()

    def count_h2d(self, weight: Weight) -> None:
        """Count one copy to the device."""
        self._brought += 1
        self._brought_bytes += weight.size_bytes

    def hold(self, weight: Weight) -> None:
        """A weight takes device memory from now on."""
        self.device_bytes += weight.device_bytes
        self.slack_bytes += weight.slack_bytes
        self.note_peak()

    def release(self, weight: Weight) -> None:
        """A weight takes device memory no more."""
        self.device_bytes -= weight.device_bytes
        self.slack_bytes -= weight.slack_bytes

    def note_peak(self, *, anew: bool = False) -> None:
        """Remember the most device memory so far, or from now on: all of it; the weights' with their slack."""
        now, with_slack = self.device_bytes + self.beside_bytes, self.device_bytes + self.slack_bytes
        self.peak_bytes = now if anew else max(self.peak_bytes, now)
        self.peak_with_slack = with_slack if anew else max(self.peak_with_slack, with_slack)

    def copy_all(self, weights: Iterable[Weight], *, fresh: bool) -> None:
        """Copy weights into host memory of their own, `fresh` or there already."""
        for weight in weights:
            self.machine.work(self.host_copy_ns(weight, fresh=fresh))

    def host_copy_ns(self, weight: Weight, *, fresh: bool = False) -> float:
        """A copy of a weight within host memory, into pages that are `fresh` or there already."""
        copy = self.costs.clone if fresh else self.costs.host_copy
        return copy(weight.size_bytes) + self.first_touch(weight, on_host=True)

"""What each piece of an offload mode costs: from the profiled run's own copies and hooks, else from its calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from tracekit.analysis.activity import Activity
from tracekit.analysis.ceilings import ceiling_rows
from tracekit.analysis.prediction.bands import Band, band, spread, wider
from tracekit.analysis.prediction.copies import CopyEvidence
from tracekit.analysis.prediction.hooks import HookCosts
from tracekit.analysis.prediction.rates import Level, Rates, UnknownCost
from tracekit.analysis.prediction.slowdown import UNCHANGED, HostScales, How, Moved, Slowdown, Slower, scale
from tracekit.analysis.prediction.tape import TapeReader, kernels_in_place
from tracekit.analysis.prediction.weights import Weight
from tracekit.model import CeilingRow, Measure, Timeline
from tracekit.model.text import codes_and_texts


@dataclass(frozen=True)
class Evidence:
    """All that one run says of costs, before a level is chosen."""

    copies: CopyEvidence
    hooks: HookCosts
    rates: Sequence[CeilingRow]
    copy_bands: Mapping[bool, Band]
    work_band: Band
    slowdown: Slowdown
    moved: Sequence[Moved | None]
    """What the run's own mode copied in a warm step, at each of `owners`."""
    owners: Sequence[str]
    """The modules with weights that a warm step calls."""
    grouped: bool
    in_place: bool
    """Whether kernels run in the host's own time."""

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity, reader: TapeReader) -> Evidence:
        """The evidence of a timeline and of its tapes."""
        usual, steps = reader.usual_steps, reader.each_step
        copies = CopyEvidence.of(timeline, activity, usual)
        rows = ceiling_rows(timeline.run.calibration)
        measured = {row.measure for row in rows}
        for pinned, measure in ((False, Measure.PAGEABLE_H2D), (True, Measure.PINNED_H2D)):
            if measure not in measured:
                rows += _rows_of(copies, pinned, measure)
        bands = {
            pinned: wider(band(copies.steps[pinned], copies.usual_steps[pinned]), spread(rows, measure))
            for pinned, measure in ((False, Measure.PAGEABLE_H2D), (True, Measure.PINNED_H2D))
        }
        work = [tape.host_ns for tape in steps]
        usual_work = [work[place] for place in reader.usual_places]
        work_band = wider(band(work, usual_work), spread(rows, Measure.CODE_BETWEEN_ALONE))
        hooks, grouped = HookCosts.of(timeline, activity, usual), timeline.run.manifest.offload.mode == "group"
        called = dict.fromkeys(event.fqn for tape in steps for event in tape.events)  # in order
        with_weights = set(codes_and_texts(timeline.run.parameters["fqn"])[1])
        owners = [fqn for fqn in called if fqn in with_weights]
        in_place = kernels_in_place(timeline)
        # Accelerate's offload has a hook at each of them, tracekit a span only where it brings something.
        spanless = Moved(0) if timeline.run.manifest.offload.mode in ("sequential", "partial") else None
        moved = [copies.moved.get(fqn, Moved(0)) if hooks.tensors.get(fqn) else spanless for fqn in owners]
        slowdown = Slowdown(timeline.run.calibration)
        return cls(copies, hooks, rows, bands, work_band, slowdown, moved, owners, grouped, in_place)


class Costs:
    """Costs in ns at one level of the measured spreads. `notes` gathers what had to be assumed for lack of evidence.

    `host`: how many times as long host code takes as in the profiled run.
    """

    def __init__(self, evidence: Evidence, level: Level, host: float) -> None:
        self._copies = evidence.copies
        self._rates = Rates(evidence.rates, level)
        self._copy_factor = {pinned: _factor(band, level) for pinned, band in evidence.copy_bands.items()}
        self.hooks = evidence.hooks
        self._level = level
        self._slowdown = evidence.slowdown
        self._owners, self._moved = evidence.owners, evidence.moved
        self._grouped = evidence.grouped
        self.in_place = evidence.in_place
        self._host = host
        self.work_factor = _factor(evidence.work_band, level) * host
        self.call_ns = evidence.copies.call_ns * host
        self.notes: set[str] = set()

    def host_scales(self, moves: Callable[[str], Moved | None]) -> HostScales:
        """How much longer a mode's host work takes than this run's.

        That follows from which modules it has hooks at, and what it copies at each. Where the host computes kernels,
        these take the caches over in any mode.
        """
        if self.in_place:
            return HostScales(1.0, 1.0, 1.0)
        moved = [moves(fqn) for fqn in self._owners]
        if not self._slowdown.knows_copies and _stages(moved) != _stages(self._moved):
            self.notes.add("what staging does to the host's work was not calibrated: it is taken to do nothing")
        if not self._slowdown.knows_hooks and _brings(moved) != _brings(self._moved):
            self.notes.add("what hooks do to the code around them was not calibrated: it is taken to be nothing")
        both = zip(self._slowdown.usual(moved), self._own_factors, strict=True)
        return HostScales(*(scale(to, of, self._level) for to, of in both))

    @cached_property
    def _own_factors(self) -> Slower:
        """How much slower the profiled run's own copies made its host work."""
        return UNCHANGED if self.in_place else self._slowdown.usual(self._moved)

    def h2d(self, weight: Weight, pinned: bool, host_scale: float = 1.0) -> float:
        """A warm copy to the device, as long as the host would wait for it; device memory apart.

        From memory that this run did not copy from, its call takes the host as `host_scale` says.

        Raises:
            UnknownCost: neither this run's copies nor its calibration tell.
        """
        warm = self._copies.warm[pinned]
        name = (weight.fqn, weight.name)
        if name in warm:
            # Of a weight in another dtype, in proportion to its bytes.
            return warm[name] * self._copy_factor[pinned] * weight.size_bytes / max(self._copies.sizes[name], 1)
        measure = Measure.PINNED_H2D if pinned else Measure.PAGEABLE_H2D
        return self._rates.ns(measure, weight.size_bytes) + self.call_ns * host_scale

    def ahead(self, weight: Weight) -> float:
        """A copy from page-locked memory on a stream of its own: the transfer alone."""
        if (weight.fqn, weight.name) in self._copies.warm[True]:
            return max(self.h2d(weight, True) - self._copies.call_ns, 0.0)
        return self._rates.ns(Measure.PINNED_H2D, weight.size_bytes)

    def excess(self, weight: Weight) -> float:
        """What the first touch of a weight in its mmapped file took beyond a warm copy: disk reads and page mapping."""
        first = self._copies.first.get((weight.fqn, weight.name))
        if first is None or not weight.mapped:
            return 0.0
        first *= weight.size_bytes / max(self._copies.sizes[weight.fqn, weight.name], 1) * self._copy_factor[False]
        try:
            return max(first - self.h2d(weight, False), 0.0)
        except UnknownCost:
            self.notes.add("no warm copy and no calibration to compare first onloads with: they count whole")
            return first

    def mapping(self, weight: Weight) -> float:
        """What that touch adds to a copy within host memory, in which the driver has no part.

        Where nothing came from disk, mapping the pages alone, as calibrated.
        """
        excess, measure = self.excess(weight), Measure.MAP_PAGES
        if (weight.fqn, weight.name) in self._copies.read or not self._rates.has(measure):
            return excess
        return min(excess, self._rates.ns(measure, weight.size_bytes))

    def disk(self, weight: Weight) -> float:
        """What reading a weight from disk again adds to its copy."""
        if self._rates.has(Measure.DISK_READ):
            return max(self.excess(weight), self._rates.ns(Measure.DISK_READ, weight.size_bytes))
        return self.excess(weight)

    def d2h(self, weight: Weight, *, recycled: bool = False) -> float:
        """A copy back into pageable memory: `recycled`, where the C library may have pages for it that are mapped.

        It may also have given them back to the kernel meanwhile.
        """
        if recycled and self._level is not Level.HIGH and self._rates.has(Measure.PAGEABLE_D2H):
            return self._rates.ns(Measure.PAGEABLE_D2H, weight.size_bytes) + self.call_ns
        if self._rates.has(Measure.FRESH_D2H):
            return self._rates.ns(Measure.FRESH_D2H, weight.size_bytes) + self.call_ns
        self.notes.add("copies back to the host were not measured: taken to be as fast as copies to the device")
        return self._rates.ns(Measure.PAGEABLE_H2D, weight.size_bytes) + self.call_ns

    def unmap(self, size_bytes: int) -> float:
        """Giving memory that was copied back into to the kernel; a run with groups has it among its hooks' work."""
        known = self._rates.has(Measure.UNMAP) and not self._grouped
        return self._rates.ns(Measure.UNMAP, size_bytes) if known else 0.0

    def clone(self, size_bytes: int) -> float:
        """Copying within host memory into fresh pages."""
        return self._rates.ns(Measure.CLONE, size_bytes)

    def host_copy(self, size_bytes: int) -> float:
        """Copying within host memory into pages that are there."""
        return self._rates.ns(Measure.HOST_COPY, size_bytes)

    def pin(self, size_bytes: int) -> float:
        """Page-locking so much memory."""
        return self._rates.ns(Measure.PIN, size_bytes)

    def pinned_ns(self, size_bytes: int) -> float:
        """What the link takes for so many bytes from page-locked memory, in copies as large as were calibrated."""
        largest = max(self._rates.sizes(Measure.PINNED_H2D), default=0)
        if not largest:
            raise UnknownCost("pinned copies were not measured")
        return self._rates.ns(Measure.PINNED_H2D, largest) * size_bytes / largest

    def allocation(self, weight: Weight) -> float:
        """Getting device memory for a weight from the driver, as it was when the cache had just been cleared."""
        return self._copies.allocation.get((weight.fqn, weight.name), 0.0) * self._host

    def onload_host(self, fqn: str, tensors: int) -> float:
        """The host's work of a module's onload hook that brings so many weights, copies apart."""
        measured = self.hooks.onload.get(fqn)
        usual = self.hooks.tensors.get(fqn, tensors)
        if measured is None:
            return (self.hooks.base_ns + self.hooks.tensor_ns * tensors) * self.work_factor
        least = min(measured, self.hooks.base_ns)
        return max(measured - self.hooks.tensor_ns * (usual - tensors), least) * self.work_factor

    @cached_property
    def idle_hook_ns(self) -> float:
        """The host's work of a hook of which the weights stay: as calibrated, else what any onload hook takes."""
        calibrated = self._calibrated(Measure.IDLE_HOOK)
        return self.hooks.base_ns * self.work_factor if calibrated is None else calibrated

    def group_onload_host(self, fqn: str) -> float:
        """The host's work of a group's onload before its first copy.

        From a run without groups: as calibrated, else what accelerate's offload takes here, which goes over a module's
        weights once without copying, too.
        """
        hooks = self.hooks
        if self._grouped:
            return hooks.onload.get(fqn, hooks.base_ns + hooks.tensor_ns) * self.work_factor
        first, each = (self._calibrated(measure) for measure in (Measure.GROUP_ONLOAD, Measure.GROUP_WEIGHT))
        if first is not None and each is not None:
            return max(first - each, 0.0)
        return hooks.offload.get(fqn, hooks.usual_offload_ns) * self.work_factor

    @cached_property
    def ahead_call_ns(self) -> float:
        """The host's work of issuing a copy in a group's onload: as calibrated, else what any copy's call adds."""
        calibrated = None if self._grouped else self._calibrated(Measure.GROUP_WEIGHT)
        return self.call_ns if calibrated is None else calibrated

    def group_offload_host(self, fqn: str) -> float:
        """The host's work of a group's hooks beside the onload; nothing where neither run nor calibration tells."""
        if self._grouped:
            return self.offload_host(fqn)
        return self._calibrated(Measure.GROUP_CALL) or 0.0

    def _calibrated(self, measure: Measure) -> float | None:
        """A hook's time, as long as it would take among this run's own copies; None where it was not calibrated."""
        calibrated = self._rates.usual(measure)
        if calibrated is None:
            return None
        return calibrated * self._own_factors.hooks[1] * self.work_factor

    @property
    def moving_ns(self) -> float:
        """The host's work for each weight in a call that moves a whole module: what each adds to an onload hook's."""
        return self.hooks.tensor_ns * self.work_factor

    def clearing(self, fqn: str, tensors: int) -> float:
        """Clearing the allocator's cache after each of a module's weights."""
        usual = max(self.hooks.tensors.get(fqn, tensors), 1)
        return self.hooks.clearing.get(fqn, 0.0) * tensors / usual * self.work_factor

    def offload_host(self, fqn: str) -> float:
        """The host's work of a module's offload hook."""
        return self.hooks.offload.get(fqn, self.hooks.usual_offload_ns) * self.work_factor


def _rows_of(copies: CopyEvidence, pinned: bool, measure: Measure) -> list[CeilingRow]:
    """Rates from the run's own warm copies, where it has no calibration."""
    by_size: dict[int, list[float]] = {}
    for name, took in copies.warm[pinned].items():
        by_size.setdefault(copies.sizes[name], []).append(took)
    return [
        CeilingRow(
            measure=measure,
            size_bytes=size,
            samples=len(times),
            median_ns=round(median(times)),
            min_ns=round(min(times)),
            max_ns=round(max(times)),
        )
        for size, times in sorted(by_size.items())
        if size
    ]


def _stages(moved: Sequence[Moved | None]) -> bool:
    return any(each.size_bytes and each.how is How.STAGED for each in moved if each is not None)


def _brings(moved: Sequence[Moved | None]) -> list[bool]:
    return [each is not None and each.size_bytes > 0 for each in moved]


def _factor(band: Band, level: Level) -> float:
    return {Level.LOW: band[0], Level.MIDDLE: 1.0, Level.HIGH: band[1]}[level]

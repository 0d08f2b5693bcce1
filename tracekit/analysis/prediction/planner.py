"""Make a plan from one run: every configuration predicted, what fits, the best by number of steps, and break-evens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracekit.analysis.prediction.assumptions import ASSUMPTIONS
from tracekit.analysis.prediction.code import code_for
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.residents import choose_residents, resident_names, shortest_names
from tracekit.model import OffloadInfo, Timeline
from tracekit.model.plan import BreakEven, Configuration, Limit, OffloadPlan, PlanRow, Residents

DEFAULT_STEPS = (4, 10, 28, 50)

_SEQUENTIAL = Configuration(mode="sequential")


def make_plan(
    timeline: Timeline,
    *,
    vram_bytes: int | None = None,
    ram_bytes: int | None = None,
    steps: Sequence[int] = DEFAULT_STEPS,
    predictor: Predictor | None = None,
) -> OffloadPlan:
    """The plan of a run. Without caps: those of the machine that was profiled; `predictor`: the run's, if at hand.

    Raises:
        UsageError: nothing can be predicted from this run.
    """
    predictor, manifest = predictor or Predictor(timeline), timeline.run.manifest
    vram = vram_bytes or manifest.device.limit_bytes
    ram = ram_bytes or manifest.machine.ram_bytes or None
    emulated = manifest.device.kind == "emulated"
    chosen = _chosen(predictor, vram, emulated=emulated)
    measured = configuration_of(manifest.offload)
    offered = list(dict.fromkeys([*([measured] if measured else []), *configurations(predictor, chosen, emulated)]))
    rows = [_row(predictor, configuration, vram, ram, steps) for configuration in offered]
    notes = [note for row in rows if row.prediction for note in row.prediction.notes]
    if not manifest.complete:
        notes.append("this run is incomplete: what it did not reach is not predicted")
    return OffloadPlan(
        path=timeline.run.path,
        workload=manifest.workload,
        measured=measured.name if measured else manifest.offload.mode,
        emulated=emulated,
        vram_bytes=vram,
        ram_bytes=ram,
        steps=list(steps),
        rows=rows,
        best=_best(rows, steps),
        break_even=break_evens(rows, measured or _SEQUENTIAL),
        residents=chosen.get("as-loaded"),
        limit=_limit(predictor, chosen),
        assumptions=list(ASSUMPTIONS),
        notes=list(dict.fromkeys(notes)),
    )


def configuration_of(offload: OffloadInfo) -> Configuration | None:
    """The configuration that a run had; None where it cannot be named (a script's, or a resident order)."""
    options = offload.options
    if offload.mode in ("resident", "model", "sequential"):
        return Configuration(mode=offload.mode, host_memory=offload.host_memory)
    if offload.mode == "group" and not options.get("disk_path"):
        blocks = options.get("blocks_per_group")
        return Configuration(
            mode="group",
            host_memory=offload.host_memory,
            group_level=str(options.get("level") or "leaf_level"),
            blocks_per_group=blocks if isinstance(blocks, int) else 1,
            stream=bool(options.get("stream")),
            record_stream=bool(options.get("record_stream")),
            low_cpu_mem=bool(options.get("low_cpu_mem")),
        )
    return None


def configurations(predictor: Predictor, chosen: dict[str, Residents], emulated: bool) -> list[Configuration]:
    """What is worth comparing. The emulated device has neither streams nor page-locked memory."""
    partial = [
        Configuration(mode="partial", host_memory=memory, resident=resident_names(predictor, residents))
        for memory, residents in chosen.items()
    ]
    found = [
        _SEQUENTIAL,
        Configuration(mode="sequential", host_memory="pinned"),
        *partial,
        Configuration(mode="model"),
        Configuration(mode="group"),
        Configuration(mode="group", group_level="block_level"),
        Configuration(mode="group", stream=True),
        Configuration(mode="group", stream=True, low_cpu_mem=True),
        Configuration(mode="group", group_level="block_level", stream=True),
        Configuration(mode="resident"),
    ]
    return [each for each in found if not emulated or (not each.stream and each.host_memory != "pinned")]


def break_evens(rows: Sequence[PlanRow], base: Configuration) -> list[BreakEven]:
    """From how many steps each configuration that fits is ahead of `base`, the one that saves most per step first."""
    by_name = {row.configuration.name: row for row in rows}
    start = by_name.get(base.name)
    if start is None or start.prediction is None:
        return []
    found = []
    for row in rows:
        if row is start or not row.fits or row.prediction is None:
            continue
        sooner, later = start.prediction, row.prediction
        saved = sooner.warm_step_ns.less(later.warm_step_ns)
        if saved.value <= 0:
            continue
        extra = later.total_ns(1).less(sooner.total_ns(1)).value
        found.append(
            BreakEven(
                sooner=base.name,
                later=row.configuration.name,
                steps=ahead_from(extra, saved.value),
                steps_low=ahead_from(extra, saved.high),
                steps_high=ahead_from(extra, saved.low),
                saved_per_step_ns=saved,
                saved_share=saved.value / max(sooner.warm_step_ns.value, 1),
            )
        )
    return sorted(found, key=lambda each: -each.saved_per_step_ns.value)


def ahead_from(extra_ns: int, saved_ns: int) -> int | None:
    """The first number of steps at which what each saves has paid what is spent once; None: never."""
    if extra_ns <= 0:
        return 1
    return 1 + math.ceil(extra_ns / saved_ns) if saved_ns > 0 else None


def _chosen(predictor: Predictor, vram: int | None, *, emulated: bool) -> dict[str, Residents]:
    """What partial offload should keep, by the host memory of the rest."""
    chosen: dict[str, Residents] = {}
    for memory in ("as-loaded",) if emulated else ("as-loaded", "pinned"):
        try:
            residents = choose_residents(predictor, vram, memory) if vram else None
        except UnknownCost:
            continue
        if residents is not None:
            chosen[memory] = residents
    return chosen


def _row(
    predictor: Predictor, configuration: Configuration, vram: int | None, ram: int | None, steps: Sequence[int]
) -> PlanRow:
    try:
        prediction = predictor.predict(configuration, ram_bytes=ram)
    except UnknownCost as unknown:
        return PlanRow(configuration=configuration, prediction=None, totals={}, reason=str(unknown))
    manifest = predictor.timeline.run.manifest
    names = shortest_names(
        configuration.resident,
        (f"{weight.fqn}.{weight.name}" for weight in predictor.weights.all if not weight.is_buffer),
    )
    device = manifest.device.torch_device or "cuda"
    missing_device, missing_host = prediction.missing_bytes(vram, ram)
    return PlanRow(
        configuration=configuration,
        prediction=prediction,
        totals={count: prediction.total_ns(count) for count in steps},
        missing_device_bytes=missing_device,
        missing_host_bytes=missing_host,
        code=code_for(configuration, device, predictor.denoisers, names),
    )


def _best(rows: Sequence[PlanRow], steps: Sequence[int]) -> dict[int, str]:
    fitting = [row for row in rows if row.fits]
    if not fitting:
        return {}
    return {count: min(fitting, key=lambda row: row.totals[count].value).configuration.name for count in steps}


def _limit(predictor: Predictor, chosen: dict[str, Residents]) -> Limit | None:
    parts = predictor.weights.components
    total = sum(w.size_bytes for name in predictor.denoisers for w in parts.get(name, ()))
    # What fits beside everything else may stay; a cap that has room for all has nothing to stream.
    kept = max((residents.size_bytes for residents in chosen.values()), default=0)
    try:
        link = round(predictor.costs().pinned_ns(total - kept))
    except UnknownCost:
        link = None
    return Limit(compute_ns=round(predictor.compute_ns), link_ns=link, streamed_bytes=total - kept, kept_bytes=kept)

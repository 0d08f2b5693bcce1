"""The rules behind the findings: when each applies, on what evidence, and which configuration would be better."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.findings.case import Case, longest
from tracekit.analysis.findings.command import MODE_OPTIONS, again
from tracekit.model import Direction, HostMemory, Measure, SpanKind
from tracekit.model.finding import Basis, Finding
from tracekit.model.plan import Configuration, Estimate
from tracekit.model.text import says, take_rows
from tracekit.model.typical import always_pages, warm_steps
from tracekit.units import format_bytes, format_duration, format_memory, format_rate, format_share, known_bytes

Rule = Callable[[Case], Finding | None]

_STREAMING = ("sequential", "partial")
_MUCH = 0.25
"""Share of a warm step that exposed copies must take before another way of copying is worth a try."""
_LITTLE_HIDDEN = 0.1
_UNUSED = 0.25
"""A peak below this share of the device's memory leaves it nearly unused."""
_STREAM = Configuration(mode="group", stream=True)


def pageable_memory(case: Case) -> Finding | None:
    """Sequential offload copies from pageable memory, through the driver's own buffers."""
    summary, own = case.summary, case.configuration
    by_memory = summary.h2d_bytes_by_memory
    pageable = by_memory.get(HostMemory.MMAP, 0) + by_memory.get(HostMemory.ANONYMOUS, 0)
    if own is None or case.emulated or case.mode not in _STREAMING or pageable <= summary.h2d_bytes / 2:
        return None
    # Page-locked copies of weights that memory cannot hold as they are would be worse.
    if always_pages(summary):
        return None
    warm = warm_steps(summary.steps, summary.paging) or summary.steps
    rate = format_rate(sum(step.h2d_bytes for step in warm), sum(step.h2d_ns for step in warm))
    pinned = [row for row in summary.ceilings if row.measure == Measure.PINNED_H2D]
    ceiling = f"; page-locked memory: {format_rate(pinned[-1].size_bytes, pinned[-1].median_ns)}" if pinned else ""
    return case.predicted(
        "pageable-memory",
        "Page-lock the weights: the driver stages every copy of pageable memory",
        f"{format_share(pageable / summary.h2d_bytes)} of {format_bytes(summary.h2d_bytes)} came from pageable memory, "
        f"at {rate} in warm steps{ceiling}",
        msgspec.structs.replace(own, host_memory="pinned"),
        command=again(case.timeline.run.manifest, ("--host-memory",), "--host-memory pinned"),
        moment=longest(_onloads(case)),
        plain=True,
    )


def exposed_copies(case: Case) -> Finding | None:
    """No kernel runs beside the copies, though a stream could copy ahead."""
    shares = case.shares
    if case.emulated or case.mode not in (*_STREAMING, "script") or always_pages(case.summary):
        return None
    if shares is None or shares.exposed < _MUCH or 1 - shares.exposed / shares.copy >= _LITTLE_HIDDEN:
        return None
    return case.predicted(
        "exposed-copies",
        "Copy ahead on a stream: the device waits for every weight",
        f"copies are under way for {format_share(shares.copy)} of a warm step, and kernels hide "
        f"{format_share(1 - shares.exposed / shares.copy)} of that",
        _STREAM,
        command=again(case.timeline.run.manifest, MODE_OPTIONS, "--offload group --stream"),
        moment=longest(_onloads(case)),
        plain=True,
    )


def cache_clearing(case: Case) -> Finding | None:
    """Accelerate clears the allocator's cache after every weight, so that the driver is asked for memory each time."""
    if case.mode not in _STREAMING or case.emulated:
        return None
    spans, copies = case.timeline.spans, case.predictor.evidence.copies
    chosen = (spans["kind"] == SpanKind.EMPTY_CACHE) & (spans["step_index"] >= 0)
    clears = spans.loc[chosen, ["start_ns", "end_ns"]]
    if clears.empty:
        return None
    clearing, allocation = case.predictor.evidence.hooks.clearing, copies.allocation
    step = sum(took for fqn, took in clearing.items() if _in_loop(case, fqn))
    step += sum(took for (fqn, _), took in allocation.items() if _in_loop(case, fqn))
    low, high = case.predictor.evidence.work_band
    return case.measured(
        "cache-clearing",
        "Keep the allocator's cache: it is cleared after every weight",
        f"{len(clears):,} calls of empty_cache in {case.steps} steps; clearing, and getting the memory back from the "
        f"driver, take {format_duration(step)} a step",
        Estimate(round(step), round(step * low), round(step * high)),
        cost="device memory that may fragment",
        command=again(case.timeline.run.manifest, ("--allocator",), "--allocator no-clearing"),
        moment=longest(clears),
        code="import torch\n\ntorch.cuda.empty_cache = lambda: None  # for as long as the pipeline runs\n",
    )


def group_copies_back(case: Case) -> Finding | None:
    """Group offload without a stream copies weights back to the host, into memory that has to be mapped first."""
    own = case.configuration
    if own is None or own.mode != "group" or own.stream or not case.summary.d2h_bytes:
        return None
    copies = case.timeline.copies
    back = copies.loc[
        copies["is_weight"] & (copies["direction"] == Direction.D2H), ["size_bytes", "start_ns", "end_ns"]
    ]
    if back.empty:
        return None
    better = Configuration(mode="sequential") if case.emulated else _STREAM
    took = int((back["end_ns"] - back["start_ns"]).sum())
    return case.predicted(
        "group-copies-back",
        "Give group offload a stream: without one it copies every weight back",
        f"{len(back):,} copies brought {format_bytes(int(back['size_bytes'].sum()))} of weights back to the host, "
        f"which took {format_duration(took)}; the host copies were there before",
        better,
        command=again(
            case.timeline.run.manifest,
            MODE_OPTIONS,
            "--offload sequential" if case.emulated else "--offload group --stream",
        ),
        moment=longest(back),
        plain=True,
    )


def pinning_on_the_fly(case: Case) -> Finding | None:
    """With low_cpu_mem every weight is copied into page-locked memory at every onload."""
    own = case.configuration
    if own is None or own.mode != "group" or not own.low_cpu_mem:
        return None
    onloads = case.timeline.spans[case.timeline.spans["kind"] == SpanKind.ONLOAD]
    took = int((onloads["end_ns"] - onloads["start_ns"]).sum())
    return case.predicted(
        "pinning-on-the-fly",
        "Page-lock the weights once: low_cpu_mem does it at every onload",
        f"{len(onloads):,} onloads took {format_duration(took)} of the host, which copies each weight into "
        "page-locked memory first",
        msgspec.structs.replace(own, low_cpu_mem=False),
        command=again(case.timeline.run.manifest, ("--low-cpu-mem",), ""),
        moment=longest(onloads),
        plain=True,
    )


def weights_exceed_ram(case: Case) -> Finding | None:
    """Host memory does not hold the weights: no step is ever warm."""
    paging = case.summary.paging
    if paging is None or not always_pages(case.summary):
        return None
    ram = case.timeline.run.manifest.machine.ram_bytes
    return Finding(
        slug="weights-exceed-ram",
        title="Make the weights fit into host memory: they are read from disk in every step",
        evidence=f"{known_bytes(paging.later_read_bytes)} came from disk after step 1; the weights are "
        f"{format_memory(case.predictor.weights.total_bytes)}, the machine has {format_memory(ram)}, "
        "and a limit of the process may be lower",
        gains=[],
        basis=Basis.MEASURED,
        cost="more memory, or weights of fewer bytes (quantized)",
        command="",
        code=_quantized(case),
    )


def component_every_step(case: Case) -> Finding | None:
    """Model offload brings a whole component more than once in the denoising loop."""
    if case.mode not in ("model", "script"):
        return None
    spans = case.timeline.spans
    rows = spans.loc[(spans["kind"] == SpanKind.ONLOAD) & (spans["step_index"] >= 0), ["fqn", "start_ns", "end_ns"]]
    rows = rows[says(rows["fqn"], case.timeline.run.manifest.components.__contains__)]
    repeated = rows[rows.duplicated("fqn")]
    if repeated.empty:
        return None
    names = sorted(set(repeated["fqn"].astype(str)))
    took = int((repeated["end_ns"] - repeated["start_ns"]).sum())
    a_step = took // len(case.timeline.steps)
    return case.measured(
        "component-every-step",
        f"Keep {', '.join(names)} on the device for the whole loop: whole components come again in later steps",
        f"{len(repeated):,} onloads of whole components after their first took {format_duration(took)}",
        Estimate(a_step, a_step, a_step),
        cost="device memory for them together",
        moment=longest(repeated),
        code="\n".join(f'pipe.{name}.to("cuda")' for name in names) + "\n",
    )


def mapped_weights(case: Case) -> Finding | None:
    """Weights in their mmapped files fault, and can be evicted; memory of one's own does neither."""
    own, paging = case.configuration, case.summary.paging
    if own is None or case.mode not in _STREAMING or paging is None or not paging.mapped_bytes:
        return None
    if always_pages(case.summary):
        return None
    return case.predicted(
        "mapped-weights",
        "Copy the weights into memory once: they are still in their mmapped files",
        f"{format_bytes(paging.mapped_bytes)} of weights were in mapped files at their first onload; "
        f"{known_bytes(paging.later_read_bytes)} came from disk after step 1",
        msgspec.structs.replace(own, host_memory="anonymous"),
        command=again(case.timeline.run.manifest, ("--host-memory",), "--host-memory anonymous"),
        moment=longest(_onloads(case)),
    )


def weights_fit(case: Case) -> Finding | None:
    """All weights, or each component's, fit on the device, and are copied in every step all the same."""
    peak, total = case.summary.peak_allocated_bytes, case.vram_bytes
    if not _streams(case) or peak is None or not total or case.whole is None:
        return None
    parts = case.predictor.weights.components
    sizes = {name: sum(weight.size_bytes for weight in own) for name, own in parts.items()}
    resident = case.whole.mode == "resident"
    what = (
        f"all weights together take {format_memory(sum(sizes.values()))}"
        if resident
        else f"the largest component takes {format_memory(max(sizes.values()))}"
    )
    return case.predicted(
        "weights-fit",
        "Keep all weights on the device: they fit"
        if resident
        else "Bring whole components, once a run: each of them fits on the device",
        f"the peak was {format_memory(peak)} of {format_memory(total)}, and {what}",
        case.whole,
        command=again(case.timeline.run.manifest, MODE_OPTIONS, f"--offload {case.whole.mode}"),
        moment=longest(_onloads(case)),
    )


def idle_device_memory(case: Case) -> Finding | None:
    """The device is nearly empty while its weights are copied in every step: the post's opening remark."""
    peak, total = case.summary.peak_allocated_bytes, case.vram_bytes
    if not _streams(case) or case.mode == "partial" or peak is None or not total or peak > _UNUSED * total:
        return None
    if case.whole is not None or case.residents is None:
        return None
    kept, partial = case.residents, case.partial()
    parts = case.predictor.weights.components
    whole = sum(weight.size_bytes for name in case.predictor.denoisers for weight in parts.get(name, ()))
    return case.predicted(
        "idle-device-memory",
        "Use the device's memory: keep part of the denoiser there",
        f"the peak was {format_memory(peak)} of {format_memory(total)}; keeping {format_memory(kept.size_bytes)}, "
        f"{format_share(kept.size_bytes / max(whole, 1))} of the denoiser, saves {format_duration(kept.saved_ns)} "
        "of copying and hooks a step",
        partial,
        command=shlex.join(["tracekit", "plan", case.summary.path, *case.cap_options, "--code", partial.name])
        if partial
        else "",
        moment=longest(_onloads(case)),
    )


def larger_dtype(case: Case) -> Finding | None:
    """Half the bytes would take half the copying: the post's closing remark."""
    own = case.configuration
    dtypes = case.timeline.run.parameters.groupby("dtype", observed=True)["size_bytes"].sum()
    large = {str(name): int(size) for name, size in dtypes.items() if str(name) in ("float32", "bfloat16", "float16")}
    if own is None or not large:
        return None
    held = ", ".join(f"{format_bytes(size)} in {name}" for name, size in large.items())
    scale = 0.25 if "float32" in large and len(large) == 1 else 0.5
    return case.predicted(
        "larger-dtype",
        "Quantize the weights: every byte of them crosses the link",
        f"weights: {held}; {format_bytes(case.summary.h2d_bytes)} were copied. Estimated from bytes alone, at one byte "
        "a weight: what computing with quantized weights takes is not in it",
        msgspec.structs.replace(own, weight_scale=scale),
        cost="some accuracy; kernels that unpack the weights",
        code=_quantized(case),
    )


RULES: tuple[Rule, ...] = (
    pageable_memory,
    exposed_copies,
    cache_clearing,
    group_copies_back,
    pinning_on_the_fly,
    weights_exceed_ram,
    component_every_step,
    mapped_weights,
    weights_fit,
    idle_device_memory,
    larger_dtype,
)


def _streams(case: Case) -> bool:
    """Whether steps wait for weights that come again and again: as the mode says, or as a script's figures do."""
    if case.mode == "script":
        return case.shares is not None and case.shares.exposed >= _MUCH
    return case.mode in _STREAMING


def _onloads(case: Case) -> pd.DataFrame:
    """When the warm steps' weight copies to the device went on."""
    copies = case.timeline.copies
    rows = case.timeline.once(onload_rows)
    return take_rows(copies, ["start_ns", "end_ns"], rows[copies["step_index"].to_numpy()[rows] > 0])


def _in_loop(case: Case, fqn: str) -> bool:
    return fqn.partition(".")[0] in case.summary.denoisers


def _quantized(case: Case) -> str:
    denoiser = case.summary.denoisers[0] if case.summary.denoisers else "transformer"
    cls = case.timeline.run.manifest.components.get(denoiser, "AutoModel")
    return (
        "import torch\n"
        f"from diffusers import {cls}, TorchAoConfig\n"
        "from torchao.quantization import Int8WeightOnlyConfig\n\n"
        f"pipe.{denoiser} = {cls}.from_pretrained(\n"
        "    pipe.name_or_path,\n"
        f'    subfolder="{denoiser}",\n'
        "    quantization_config=TorchAoConfig(Int8WeightOnlyConfig()),\n"
        "    torch_dtype=torch.bfloat16,\n"
        ")\n"
    )

"""Suggest what to do next: only what this run's own figures speak for, with the command that does it."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from pathlib import PurePath

from tracekit.analysis.verdict import Shares, knows_kernels
from tracekit.model import Cause, HostMemory, Manifest, Paging, Summary
from tracekit.model.typical import always_pages, step_causes, typical_step, warm_steps
from tracekit.units import GIB, format_duration, format_memory, format_rate

_STREAMING = ("sequential", "partial")
_MUCH = 0.25
"""Share of a step that exposed copies must take before a faster way of copying is worth a try."""
_LITTLE_HIDDEN = 0.1
_WITHOUT_WARM = 0.1
"""Share of all first onloads' time, of modules onloaded once, from which a second run is worth its time."""
_HEADROOM_USE = 0.9
"""Share of the free device memory that a suggestion may fill: activations vary, and fragments take some."""

_FLAGS = ("--stream", "--record-stream", "--low-cpu-mem", "--force")
_MODE_OPTIONS = (
    "--offload", "--host-memory", "--resident-gib", "--resident-order", "--group-level", "--blocks-per-group",
    "--offload-to-disk", "--stream", "--record-stream", "--low-cpu-mem",
)  # fmt: skip
"""Options of `tracekit profile` that belong to one mode: another mode starts without them."""
_OUTPUT_OPTIONS = ("--output", "--force")
"""A new run gets a new folder."""


def next_steps(summary: Summary, manifest: Manifest, weight_bytes: Mapping[str, int]) -> list[str]:
    """Suggestions, the most telling first. `weight_bytes`: by component, as the parameters table says."""
    warm = warm_steps(summary.steps, summary.paging)
    suggestions = []
    if summary.steps and not warm:
        suggestions.append(
            "One step has nothing warm to compare with: "
            + _again(manifest, ("--steps",), "--steps 4", "run more steps")
        )
    suggestions += _against_paging(summary, manifest)
    shares = Shares.of(warm)
    if shares is not None and shares.exposed >= _MUCH and knows_kernels(summary):
        suggestions += _fewer_copies(summary, manifest, weight_bytes)
        # Page-locked copies of weights that memory cannot hold as they are would be worse.
        suggestions += [] if always_pages(summary) else _faster_copies(summary, manifest, shares)
    once = [module for module in summary.modules if module.onloads == 1]
    first_ns = sum(module.first_ns for module in summary.modules)
    if warm and sum(module.first_ns for module in once) > _WITHOUT_WARM * first_ns:
        names = ", ".join(dict.fromkeys(module.fqn.partition(".")[0] for module in once))
        suggestions.append(
            f"The weights of {names} were onloaded once, so they have no warm sample: "
            + _again(manifest, ("--runs",), "--runs 2", "call the pipeline twice")
        )
    return suggestions


def _against_paging(summary: Summary, manifest: Manifest) -> list[str]:
    """More memory where every step pages; a filled page cache where disk reads are much of step 1."""
    if summary.paging is None or not summary.steps:
        return []
    if summary.paging.paging is Paging.ALWAYS:
        return [
            f"The {format_memory(summary.paging.mapped_bytes)} of weights in mapped files do not stay in memory: "
            "give the process more of it, or load smaller (quantised) weights"
        ]
    disk = step_causes(summary, summary.steps[0]).get(Cause.DISK)
    if disk is None or disk.duration_ns < _MUCH * summary.steps[0].wall_ns:
        return []
    again = _again(manifest, ("--page-cache",), "--page-cache cached", "read the weights' files once before the call")
    return [f"Disk reads took {format_duration(disk.duration_ns)} of step 1; with the files in the page cache: {again}"]


def _faster_copies(summary: Summary, manifest: Manifest, shares: Shares) -> list[str]:
    """Page-locked memory and copying ahead; the emulated device can do neither."""
    if summary.emulated or summary.mode not in (*_STREAMING, "group", "script"):
        return []
    suggestions = []
    by_memory = summary.h2d_bytes_by_memory
    pageable = by_memory.get(HostMemory.MMAP, 0) + by_memory.get(HostMemory.ANONYMOUS, 0)
    if pageable > summary.h2d_bytes / 2 and summary.mode in _STREAMING:
        suggestions.append(
            f"{pageable / summary.h2d_bytes:.0%} of the bytes come from pageable memory, {_pageable_cost(summary)}: "
            + _again(manifest, ("--host-memory",), "--host-memory pinned", "pin the host copies of the weights")
        )
    hidden = 1 - shares.exposed / shares.copy
    if hidden < _LITTLE_HIDDEN and manifest.offload.options.get("stream") is not True:
        suggestions.append(
            f"Kernels hide {hidden:.0%} of the copy time; a stream copies ahead while they run: "
            + _again(manifest, _MODE_OPTIONS, "--offload group --stream", "enable_group_offload(use_stream=True)")
        )
    return suggestions


def _pageable_cost(summary: Summary) -> str:
    """What pageable memory costs: the staging of a warm step where it is known, else the rate."""
    typical = typical_step(summary)
    staging = step_causes(summary, typical).get(Cause.STAGING) if typical is not None else None
    if staging is not None and typical is not None:
        return (
            f"whose staging takes {format_duration(staging.duration_ns)} of a {format_duration(typical.wall_ns)} step; "
            "page-locked memory needs none"
        )
    warm = warm_steps(summary.steps, summary.paging)
    rate = format_rate(sum(step.h2d_bytes for step in warm), sum(step.h2d_ns for step in warm))
    return f"at {rate} when warm; page-locked memory copies faster"


def _fewer_copies(summary: Summary, manifest: Manifest, weight_bytes: Mapping[str, int]) -> list[str]:
    """Keep weights on the device where what was free at the peak has room for them."""
    total, largest = sum(weight_bytes.values()), max(weight_bytes.values(), default=0)
    if not total or summary.mode not in (*_STREAMING, "script"):
        return []
    limit = manifest.device.cap_bytes or manifest.device.total_bytes
    in_code = "enable_model_cpu_offload()"
    if limit is None or summary.peak_reserved_bytes is None:
        again = _again(manifest, _MODE_OPTIONS, "--offload model", in_code)
        why = "Model offload copies each component once a run instead of once a step"
        return [f"{why}, where {format_memory(largest)} of device memory can hold the largest: {again}"]
    kept = manifest.offload.options.get("resident_bytes")
    free = limit - summary.peak_reserved_bytes
    room = _HEADROOM_USE * free + (kept if isinstance(kept, int) else 0)
    why = f"{format_memory(free)} of the device's {format_memory(limit)} were never used"
    if total <= room:
        again = _again(manifest, _MODE_OPTIONS, "--offload resident", "move the pipeline to the device")
        return [f"{why}, and all weights would fit ({format_memory(total)}): {again}"]
    if largest <= room:
        again = _again(manifest, _MODE_OPTIONS, "--offload model", in_code)
        return [f"{why}, and each component would fit (the largest: {format_memory(largest)}): {again}"]
    if _HEADROOM_USE * free < GIB:
        return []
    options = f"--offload partial --resident-gib {int(room / GIB)}"
    again = _again(manifest, _MODE_OPTIONS, options, "keep some of the denoiser's modules there")
    return [f"{why}; weights that stay there are not copied: {again}"]


def _again(manifest: Manifest, replaced: tuple[str, ...], options: str, in_code: str) -> str:
    """The command that was profiled, with other options; `in_code` where the user's own code set the run up."""
    arguments = _profile_arguments(manifest.command)
    if manifest.offload.mode == "script" or not arguments:
        return f"in your code, {in_code}"
    kept, is_value = [], False
    for word in arguments:
        if is_value:
            is_value = False
        elif word.partition("=")[0] in (*replaced, *_OUTPUT_OPTIONS):
            is_value = word not in _FLAGS and "=" not in word
        else:
            kept.append(word)
    return shlex.join(["tracekit", "profile", *kept, *options.split()])


def _profile_arguments(command: list[str]) -> list[str]:
    """What follows `tracekit profile` in a command line, however tracekit was started; empty where it is another's."""
    for index, (before, word) in enumerate(itertools.pairwise(command)):
        if word == "profile" and PurePath(before).name in ("tracekit", "__main__.py"):
            return command[index + 2 :]
    return []

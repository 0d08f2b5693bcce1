"""What the figures rest on: paging's evidence, then machine, versions and command, enough to repeat the run."""

from __future__ import annotations

import shlex

from tracekit.model import Manifest, PagingEvidence
from tracekit.model.report import CheckState
from tracekit.render.plaintext import visible
from tracekit.units import format_bytes, format_duration, format_memory, format_share, known_bytes

MARKS = {CheckState.PASSED: "✓", CheckState.NOTED: "!", CheckState.FAILED: "✕", CheckState.UNKNOWN: "?"}


def paging_facts(paging: PagingEvidence) -> list[tuple[str, str]]:
    """What the paging verdict rests on."""
    resident = "the kernel does not tell" if paging.resident_before is None else format_share(paging.resident_before)
    if paging.read_ahead_bytes:
        resident += f", {format_bytes(paging.read_ahead_bytes)} of it read ahead from disk"
    steps = ", ".join(f"{run + 1}.{step + 1}" for run, step in paging.paged_steps[:12])
    more = f" and {len(paging.paged_steps) - 12} more" if len(paging.paged_steps) > 12 else ""
    return [
        ("Weights in mapped files", format_bytes(paging.mapped_bytes)),
        ("In memory when the copy of their first onload began", resident),
        ("Read from disk in first onloads", known_bytes(paging.first_read_bytes)),
        ("Read from disk in later onloads", known_bytes(paging.later_read_bytes)),
        ("Steps that paged (run.step)", f"{steps}{more}" if steps else "none"),
    ]


def provenance(manifest: Manifest) -> list[tuple[str, str]]:
    """The run's circumstances; what is not known is left out."""
    device, machine, conditions = manifest.device, manifest.machine, manifest.conditions
    rows = [
        ("Pipeline", manifest.pipeline_class),
        ("Workload", manifest.workload),
        ("Components", ", ".join(f"{name}: {kind}" for name, kind in manifest.components.items())),
        ("Call", ", ".join(f"{key}={value}" for key, value in manifest.call.items() if value is not None)),
        ("Offloading", _options(manifest)),
        ("Host memory", manifest.offload.host_memory),
        ("Device", device.name),
        ("Device memory", format_memory(device.total_bytes) if device.total_bytes else ""),
        ("Memory cap", format_memory(device.cap_bytes) if device.cap_bytes else ""),
        ("Link", device.link),
        ("Driver", device.driver),
        ("Device records", manifest.activity),
        ("Page cache", str(conditions.page_cache)),
        ("Allocator", str(conditions.allocator)),
        ("Kernels", str(conditions.kernels)),
        ("CPU", f"{machine.cpu}, {machine.cores} cores" if machine.cores else machine.cpu),
        ("RAM", format_memory(machine.ram_bytes) if machine.ram_bytes else ""),
        ("Operating system", machine.kernel),
        ("Python", machine.python),
        *manifest.versions.items(),
        ("tracekit", manifest.tracekit_version),
        ("tracekit's own time", format_duration(sum(manifest.overhead_ns.values())) if manifest.overhead_ns else ""),
        ("Recorded", manifest.created),
    ]
    return [(name, visible(value)) for name, value in rows if value]


def command_line(manifest: Manifest) -> str:
    """The command that made the run, ready to paste."""
    return visible(shlex.join(manifest.command))


def _options(manifest: Manifest) -> str:
    options = ", ".join(f"{key}={value}" for key, value in manifest.offload.options.items() if value is not None)
    return f"{manifest.offload.mode} ({options})" if options else manifest.offload.mode

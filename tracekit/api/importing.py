"""Make a run folder of a trace that torch.profiler wrote, or tracekit itself."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import tracekit
from tracekit.api.run import Run
from tracekit.errors import UsageError
from tracekit.model import ClockInfo, DeviceInfo, Manifest, OffloadInfo
from tracekit.runfolder import RunWriter, check_replaceable, default_run_path

if TYPE_CHECKING:
    from tracekit.runfolder.tracerows import TraceFacts
    from tracekit.runfolder.tracestream import TraceHeader

MODE = "imported"
"""The offload mode of a run whose trace does not say it."""


def import_trace(trace: str | Path, output: str | Path | None = None, *, force: bool = False) -> Run:
    """Read a torch.profiler (Kineto) trace, ``.json`` or ``.json.gz``, into a run folder.

    Copies, kernels, memory kinds, runtime calls, Python frames and annotations are taken over, and ``ProfilerStep#N``
    become the steps; from tracekit's own traces spans and named copies, too. What a trace cannot say (residency, module
    names, memory) has no value. It is read in pieces of bounded memory; only spans and named copies are all held (up to
    150 bytes each).

    Args:
        trace: the file.
        output: the run folder to make; by default ``runs/<file>_imported_<date-time>``.
        force: replace a run folder that is there, once the trace has been read whole.

    Raises:
        UsageError: the file is no trace, is damaged or holds nothing to import; the folder cannot be made.
    """
    # numpy is imported when a trace is read, not with the package.
    from tracekit.runfolder.tracerows import TraceRows
    from tracekit.runfolder.tracestream import TraceStream

    path = Path(trace)
    name = path.name.removesuffix(".gz").removesuffix(".json")
    target = Path(output) if output is not None else default_run_path(Path(), name, MODE, datetime.now())
    if not path.is_file():
        raise UsageError(f"there is no trace {path}: give a .json or .json.gz file that torch.profiler wrote")
    manifest = _blank_manifest(path)
    stream = TraceStream(path)
    check_replaceable(target, force)
    # Beside its place: a folder that is there is only replaced by a whole one.
    writer = RunWriter.create(target.with_name(f".{target.name}.{os.getpid()}.import"), manifest)
    try:
        rows = TraceRows(writer)
        for events in stream.pieces():
            rows.add(events)
        facts = rows.finish(is_tracekits=stream.header.tracekit is not None)
        if not facts.kept.total():
            raise UsageError(f"{path} has no copy, kernel, runtime call or annotation: nothing to import")
        _describe(manifest, stream.header, facts)
        writer.finish(manifest)
        writer.move(target, force)
    except BaseException:
        writer.discard()
        raise
    return Run(target)


def _blank_manifest(trace: Path) -> Manifest:
    return Manifest(
        tracekit_version=tracekit.__version__,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=list(sys.orig_argv),
        workload=trace.name,
        offload=OffloadInfo(mode=MODE),
        device=DeviceInfo(kind="", name="no device recorded", torch_device=""),
        clock=ClockInfo(monotonic_ns=0, epoch_ns=time.time_ns()),
    )


def _describe(manifest: Manifest, header: TraceHeader, facts: TraceFacts) -> None:
    """Put into the manifest what the trace says of itself."""
    # Times are the trace's own, which count from its base.
    manifest.clock.epoch_ns = header.baseTimeNanoseconds
    manifest.pipeline_class, manifest.components = facts.pipeline_class, facts.components
    manifest.process_id = facts.host_pid
    if facts.devices:
        kind = header.tracekit.device if header.tracekit is not None else "cuda"
        device = header.deviceProperties[0] if header.deviceProperties else None
        manifest.device = DeviceInfo(
            kind=kind,
            name=(device.name if device is not None else "") or "device without a name",
            torch_device=f"{kind}:{min(facts.devices)}",
            total_bytes=device.totalGlobalMem if device is not None else None,
        )
        manifest.activity = "emulated" if kind == "emulated" else "cupti"
    manifest.counts = {f"events left out: {category or 'no category'}": n for category, n in facts.left_out.items()}
    if header.tracekit is None:
        manifest.warnings.append(
            "imported from a torch.profiler trace, which does not say which weight a copy was, from which file it "
            "came, nor what the page cache held: these are blank"
        )
    else:
        manifest.workload, manifest.offload.mode = header.tracekit.workload, header.tracekit.mode
        manifest.warnings.append(
            "imported from a trace, which has less than the run folder it was made from: counters, parameters, "
            "calibration and steps that the trace left out are blank"
        )
        if not header.tracekit.complete:
            manifest.incomplete_reason = "its trace says that the profile did not end in order"

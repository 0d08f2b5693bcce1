"""The Chrome trace of a run, made for people to read in Perfetto; chrome://tracing and HTA open it, too."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from tracekit.model import NONE, DeviceInfo, Manifest, Timeline
from tracekit.model.text import by_position
from tracekit.render.chromewriter import ChromeTraceWriter
from tracekit.render.counters import CounterTrack, counter_tracks
from tracekit.render.devicetracks import DeviceTracks, device_rows, device_tracks, stream_names
from tracekit.render.flows import FLOW_NAME, weight_flows
from tracekit.render.hostslices import run_rows
from tracekit.render.hosttracks import HostTracks, host_tracks
from tracekit.render.selection import Selection, Thinning, select_steps
from tracekit.render.slices import TraceStats
from tracekit.render.tracks import TrackIds
from tracekit.units import format_duration


def write_chrome_trace(
    timeline: Timeline,
    stream: BinaryIO,
    only_steps: Sequence[int] | None = None,
    *,
    compress: bool = True,
    thinning: Thinning | None = None,
) -> TraceStats:
    """Write a run as Chrome trace JSON (gzipped unless told otherwise) and return what it holds.

    `only_steps` keeps those steps alone (0-based, negative ones from each run's end), `thinning` fewer and only longer
    slices; the trace says what is left out. The same timeline gives the same bytes.

    Raises:
        UsageError: `only_steps` names no step of this run.
        OSError: the stream cannot be written.
    """
    timeline = _by_position(timeline)
    manifest = timeline.run.manifest
    selection = select_steps(timeline.steps, run_rows(timeline), only_steps, thinning)
    stats = TraceStats(left_out_steps=selection.left_out_steps)
    operations = device_rows(timeline)
    tracks = [
        replace(track, t_ns=t_ns, values=values)
        for track in counter_tracks(timeline, operations, stats)
        for t_ns, values in [selection.samples(track.t_ns, track.values)]
        if len(t_ns)
    ]
    devices = {int(index) for index in operations["device_index"].unique()} | {track.device_index for track in tracks}
    host_ids, device_ids = _processes(manifest, {index: stream_names(operations, index) for index in devices - {NONE}})
    host = host_tracks(timeline, selection, host_ids, stats)
    launches = (
        timeline.run.runtime_calls["correlation_id"].to_numpy(np.int64)[host.calls.row],
        host.calls.start_ns,
        host.call_fqn,
    )
    device = device_tracks(timeline, operations, selection, device_ids, launches, stats)
    leave, arrive = weight_flows(timeline, host, device, host_ids.pid, stats)

    base_ns = _earliest(host, device, tracks)
    writer = ChromeTraceWriter(stream, base_ns, _header(manifest, base_ns), compress=compress)
    _name_processes(writer, manifest, selection, host_ids, device_ids)
    for slices in host.slices:
        writer.slices(
            host_ids.pid, slices.track, slices.start_ns, slices.end_ns,
            categories=slices.categories, names=slices.names, args=slices.args,
        )  # fmt: skip
        stats.count_slices(slices)
    for ids in device_ids.values():
        slices = device.slices.take(device.pid == ids.pid)
        writer.slices(
            ids.pid, slices.track, slices.start_ns, slices.end_ns,
            categories=slices.categories, names=slices.names, args=slices.args,
        )  # fmt: skip
        stats.count_slices(slices)
    writer.flows(FLOW_NAME, leave, arrive)
    for track in tracks:
        pid = host_ids.pid if track.device_index == NONE else device_ids[track.device_index].pid
        writer.counter(pid, track.title, track.unit, track.t_ns, track.values)
        stats.counter_samples += len(track.t_ns)
    writer.close()
    stats.events = writer.events
    return stats


def _by_position(timeline: Timeline) -> Timeline:
    """The timeline with every table indexed by position, by which slices refer to their rows."""
    run = replace(
        timeline.run,
        runtime_calls=by_position(timeline.run.runtime_calls),
        frames=by_position(timeline.run.frames),
    )
    spans, copies, steps = map(by_position, (timeline.spans, timeline.copies, timeline.steps))
    return replace(timeline, run=run, steps=steps, spans=spans, copies=copies)


def _processes(manifest: Manifest, devices: Mapping[int, Mapping[int, str]]) -> tuple[TrackIds, Mapping[int, TrackIds]]:
    """The host under its real process id; devices (with names of their streams) under the smallest ids beside it."""
    host_pid = manifest.process_id if 0 < manifest.process_id < 2**31 else 1
    free = (pid for pid in itertools.count(1) if pid != host_pid)
    host = TrackIds("thread", host_pid, {host_pid: "main"})
    return host, {index: TrackIds("stream", next(free), devices[index]) for index in sorted(devices)}


def _name_processes(
    writer: ChromeTraceWriter,
    manifest: Manifest,
    selection: Selection,
    host_ids: TrackIds,
    device_ids: Mapping[int, TrackIds],
) -> None:
    emulated = ", emulated device" if manifest.device.kind == "emulated" else ""
    incomplete = "" if manifest.complete else ", incomplete"
    left_out = f", {selection.left_out_steps} steps left out" if selection.left_out_steps else ""
    short = f", slices under {format_duration(selection.min_ns)} left out" if selection.min_ns else ""
    what = manifest.pipeline_class or manifest.workload
    writer.process(host_ids.pid, f"host: {what}, {manifest.offload.mode}{emulated}{incomplete}{left_out}{short}", 0)
    for index, ids in device_ids.items():
        writer.process(ids.pid, _device_name(manifest.device, index), index + 1)
    for ids in (host_ids, *device_ids.values()):
        for track in ids.tracks():
            writer.thread(ids.pid, track.tid, track.name, track.sort_index)


def _device_name(device: DeviceInfo, index: int) -> str:
    if device.kind == "emulated":
        return f"emulated accelerator {index} (no GPU)"
    return f"GPU {index}: {device.name}"


def _header(manifest: Manifest, base_ns: int) -> dict[str, Any]:
    """Kineto's keys, by which other tools find the epoch time of moment 0, the devices and the rank."""
    return {
        "schemaVersion": 1,
        "deviceProperties": [
            {"id": 0, "name": manifest.device.name, "totalGlobalMem": manifest.device.total_bytes or 0}
        ],
        "distributedInfo": {"rank": 0},
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": manifest.clock.epoch_ns + base_ns - manifest.clock.monotonic_ns,
        "tracekit": {
            "version": manifest.tracekit_version,
            "workload": manifest.workload,
            "mode": manifest.offload.mode,
            "device": manifest.device.kind,
            "complete": manifest.complete,
        },
    }


def _earliest(host: HostTracks, device: DeviceTracks, tracks: Sequence[CounterTrack]) -> int:
    starts = [slices.start_ns for slices in (*host.slices, device.slices)] + [track.t_ns for track in tracks]
    return min((int(times.min()) for times in starts if len(times)), default=0)

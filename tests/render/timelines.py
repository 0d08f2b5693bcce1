"""Timelines for the renderers' tests: a tiny one written by hand, and raw rows that no analysis has touched."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from builders import START_NS, THREAD, Row, make_manifest, make_run

from tracekit.model import NONE, Timeline
from tracekit.model.text import text_of
from tracekit.render.chrome import write_chrome_trace
from tracekit.render.slices import TraceStats

RUN_NS = START_NS + 1_000_000


def bare_timeline(
    rows: Mapping[str, Iterable[Row]], steps: Sequence[tuple[int, int]] = (), **manifest: Any
) -> Timeline:
    """A timeline of one run from plain rows; derived columns come from the rows, else say "denoise, no step"."""
    run = make_run(rows, make_manifest(**manifest))
    spans = run.spans.assign(
        **_derived(rows.get("spans", ()), phase="denoise", step_index=NONE, component="", own_ns=NONE, device_ns=NONE)
    )
    copies = run.copies.assign(
        **_derived(
            rows.get("copies", ()), phase="denoise", step_index=NONE, is_weight=True, first=False, device_name="",
            device_start_ns=NONE, device_end_ns=NONE, device_stream_id=NONE, correlation_id=NONE,
        )
    )  # fmt: skip
    copies["duration_ns"] = copies["end_ns"] - copies["start_ns"]
    whole = spans[spans["kind"] == "run"]
    runs = pd.DataFrame({name: whole[name].to_numpy(np.int64) for name in ("run_index", "start_ns", "end_ns")})
    starts = [start for start, _ in steps]
    frame = pd.DataFrame(
        {
            "run_index": np.zeros(len(steps), np.int64),
            "step_index": np.arange(len(steps)),
            "start_ns": np.array(starts, np.int64),
            "end_ns": np.array([end for _, end in steps], np.int64),
        }
    )
    denoise = (steps[0][0], steps[-1][1]) if steps else (NONE, NONE)
    runs = runs.assign(denoise_start_ns=denoise[0], denoise_end_ns=denoise[1])
    return Timeline(run=run, runs=runs, denoisers=("transformer",), steps=frame, spans=spans, copies=copies)


def tiny_timeline() -> Timeline:
    """One run of one step: a weight onloaded, its module run, offloaded; all on the device, too."""
    at = RUN_NS
    common: Row = {"run_index": 0, "thread_id": THREAD}
    fqn = "transformer.blocks.0.proj"
    return bare_timeline(
        {
            "spans": [
                common | {"span_id": 0, "kind": "run", "name": "FluxPipeline", "start_ns": at, "end_ns": at + 9_000},
                common | {"span_id": 1, "parent_id": 0, "kind": "forward", "name": "Flux", "fqn": "transformer",
                          "component": "transformer", "step_index": 0, "own_ns": 1_000, "device_ns": 900,
                          "start_ns": at + 1_000, "end_ns": at + 8_000},
                common | {"span_id": 2, "parent_id": 1, "kind": "onload", "name": "onload", "fqn": fqn,
                          "step_index": 0, "start_ns": at + 1_500, "end_ns": at + 4_500},
                common | {"span_id": 3, "parent_id": 1, "kind": "forward", "name": "Linear", "fqn": fqn,
                          "component": "transformer", "step_index": 0, "own_ns": 2_000, "device_ns": 900,
                          "start_ns": at + 4_500, "end_ns": at + 6_500},
            ],
            "copies": [
                common | {"copy_id": 0, "span_id": 2, "direction": "H2D", "size_bytes": 16_000, "fqn": fqn,
                          "parameter": "weight", "operation": "Tensor.to", "host_memory": "mmap", "step_index": 0,
                          "file_path": "/m/t.safetensors", "file_offset": 64, "device": "cuda:0", "first": True,
                          "start_ns": at + 1_600, "end_ns": at + 4_400, "device_start_ns": at + 2_000,
                          "device_end_ns": at + 4_000, "device_stream_id": 7, "correlation_id": 1},
            ],
            "host_samples": [{"copy_id": 0, "resident_before": 0.25, "read_bytes": 12_000}],
            "device_ops": [
                {"op": "memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "device_index": 0, "stream_id": 7,
                 "start_ns": at + 2_000, "end_ns": at + 4_000, "size_bytes": 16_000, "correlation_id": 1},
                {"op": "kernel", "name": "gemm<128>", "device_index": 0, "stream_id": 7, "start_ns": at + 5_100,
                 "end_ns": at + 6_000, "correlation_id": 2},
            ],
            "runtime_calls": [
                {"name": "cudaMemcpyAsync", "thread_id": THREAD, "start_ns": at + 1_700, "end_ns": at + 4_300,
                 "correlation_id": 1},
                {"name": "cudaLaunchKernel", "thread_id": THREAD, "start_ns": at + 4_700, "end_ns": at + 4_900,
                 "correlation_id": 2},
            ],
            "counters": [
                {"series": "device_allocated_bytes", "device_index": 0, "t_ns": at + 1_600, "value": 2.0**30},
                {"series": "nvml_power_watts", "device_index": 0, "t_ns": at + 500, "value": 300.5},
            ],
        },
        steps=[(at + 1_000, at + 8_000)],
    )  # fmt: skip


def trace_of(timeline: Timeline, only_steps: Sequence[int] | None = None) -> tuple[bytes, TraceStats]:
    stream = io.BytesIO()
    stats = write_chrome_trace(timeline, stream, only_steps)
    return stream.getvalue(), stats


def events_of(data: bytes) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(data))["traceEvents"]
    return events


def slices_of(data: bytes, category: str | None = None) -> list[dict[str, Any]]:
    return [event for event in events_of(data) if event["ph"] == "X" and category in (None, event["cat"])]


def _derived(rows: Iterable[Row], **defaults: Any) -> dict[str, Any]:
    rows = list(rows)
    columns = {name: [row.get(name, default) for row in rows] for name, default in defaults.items()}
    dtypes: dict[type, Any] = {int: np.int64, bool: np.bool_}
    return {
        name: text_of(values) if isinstance(default, str) else np.array(values, dtypes[type(default)])
        for (name, values), default in zip(columns.items(), defaults.values(), strict=True)
    }

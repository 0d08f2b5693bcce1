"""Traces as torch.profiler writes them on a GPU, from the field names of libkineto's output_json.cpp."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

HOST, THREAD, STREAM = 4242, 4243, 7
BASE_NS = 1_790_857_026_000_000_000
FIRST_US = 4_660_984_400_440.271
STEP_US = 1_000.0
COPIES = (
    ("Memcpy HtoD (Pageable -> Device)", 4096, 50.0),
    ("Memcpy HtoD (Pinned -> Device)", 8192, 20.0),
    ("Memcpy DtoH (Device -> Pageable)", 16, 5.0),
    ("Memcpy DtoD (Device -> Device)", 32, 5.0),
)


def kineto_events(steps: int = 3) -> list[dict[str, Any]]:
    """Steps of four copies and a kernel each, with what else such a trace holds around them."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "ts": FIRST_US, "pid": HOST, "tid": 0, "args": {"name": "python"}},
        {"ph": "M", "name": "process_sort_index", "ts": FIRST_US, "pid": "Spans", "tid": 0, "args": {"sort_index": 1}},
        _event("Trace", "PyTorch Profiler (0)", "Spans", "PyTorch Profiler", 0, steps * STEP_US, {"Op count": 0}),
    ]
    correlation = 0
    for step in range(steps):
        start = step * STEP_US
        events.append(_event("user_annotation", f"ProfilerStep#{step + 2}", HOST, THREAD, start, STEP_US - 1, {}))
        events.append(_event("cpu_op", "aten::to", HOST, THREAD, start + 1, 200, {"Input Dims": [[2, 2], []]}))
        for index, (name, size, duration) in enumerate(COPIES):
            correlation += 1
            at = start + 10 + 100 * index
            args = {"device": 0, "context": 1, "stream": STREAM, "correlation": correlation, "bytes": size,
                    "memory bandwidth (GB/s)": size / duration / 1000}  # fmt: skip
            events.append(_call("cudaMemcpyAsync", at, 60, correlation))
            events.append(_event("gpu_memcpy", name, 0, STREAM, at + 5, duration, args))
        correlation += 1
        events.append(_call("cudaLaunchKernel", start + 600, 5, correlation))
        args = {"device": 0, "context": 1, "stream": STREAM, "correlation": correlation, "grid": [1, 1, 1],
                "est. achieved occupancy %": 0}  # fmt: skip
        events.append(_event("kernel", 'void gemm<float, 4>("x\\y", {}[])', 0, STREAM, start + 610, 100, args))
        events.append({"ph": "s", "id": correlation, "pid": HOST, "tid": THREAD, "ts": FIRST_US + start + 600,
                       "cat": "ac2g", "name": "ac2g"})  # fmt: skip
    return events


def kineto_text(events: list[dict[str, Any]]) -> str:
    """The file's text: some of the header before the events and some after them, as Kineto has it."""
    device = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_029_158_912, "computeMajor": 9}
    head = json.dumps({"schemaVersion": 1, "deviceProperties": [device], "with_stack": 0})[:-1]
    listed = ",\n".join(json.dumps(event, indent=2) for event in events)
    return f'{head},\n  "traceEvents": [\n{listed}\n  ],\n  "traceName": "x", "baseTimeNanoseconds": {BASE_NS}\n}}'


def write_trace(path: Path, events: list[dict[str, Any]] | None = None) -> Path:
    """Write a trace, gzipped where its name says so."""
    data = kineto_text(kineto_events() if events is None else events).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _call(name: str, at: float, duration: float, correlation: int) -> dict[str, Any]:
    return _event("cuda_runtime", name, HOST, THREAD, at, duration, {"cbid": 41, "correlation": correlation})


def _event(
    category: str, name: str, pid: int | str, tid: int | str, at: float, dur: float, args: Any
) -> dict[str, Any]:
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": FIRST_US + at,
        "dur": dur,
        "args": args,
    }

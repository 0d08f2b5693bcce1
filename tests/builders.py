"""Runs built in memory by hand, so that analysis and renderers are tested on figures known beforehand.

`build_run` makes a sequential-offload run: set-up, then a pipeline call with encode, denoising steps and decode, each
leaf module onloaded, run and offloaded in turn. Its times follow from the constants below. `make_run` makes any other
run from plain rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tracekit.model import (
    NONE,
    TABLES,
    ClockInfo,
    DeviceInfo,
    Direction,
    HostMemory,
    MachineInfo,
    Manifest,
    OffloadInfo,
    RunData,
    SpanKind,
    Table,
)
from tracekit.model.text import concat_rows, text_of
from tracekit.runfolder import RunWriter

START_NS = 5_000_000_000_000
"""CLOCK_MONOTONIC when the built process began."""
THREAD = 4242
STREAM = 7

US = 1_000
MS = 1_000_000
KERNEL_NS = 30 * US
CALL_NS = 10 * US
"""What a call costs on the host around the work that it starts."""
WARM_BYTES_PER_US = 8_000  # 8 GB/s, a pageable copy from the page cache
COLD_BYTES_PER_US = 1_600  # 1.6 GB/s, the same copy when it comes from disk

_DTYPES = {"i32": "int32", "i64": "int64", "f64": "float64", "bool": "bool"}
_EMPTY: dict[str, Any] = {"i32": NONE, "i64": NONE, "f64": math.nan, "str": "", "bool": False}
_TIMES = ("start_ns", "end_ns", "t_ns")

Row = dict[str, Any]


def make_frame(table: Table, rows: Iterable[Row]) -> pd.DataFrame:
    """A table's data frame from rows that name only the columns that matter; the others hold "no value"."""
    rows = list(rows)
    columns = {column: [row.get(column.name, _EMPTY[column.kind]) for row in rows] for column in table.columns}
    return pd.DataFrame(
        {
            column.name: text_of(values) if column.kind == "str" else np.array(values, dtype=_DTYPES[column.kind])
            for column, values in columns.items()
        }
    )


def make_manifest(kind: str = "cuda", **changes: Any) -> Manifest:
    """A complete manifest of a sequential Flux run on ``cuda`` or ``emulated``, with any field changed."""
    devices = {
        "cuda": DeviceInfo(
            kind="cuda", name="NVIDIA H100 80GB HBM3", torch_device="cuda:0", total_bytes=85_000_000_000
        ),
        "emulated": DeviceInfo(kind="emulated", name="emulated accelerator", torch_device="emulated:0"),
    }
    fields: dict[str, Any] = {
        "tracekit_version": "0.1.0",
        "complete": True,
        "created": "2025-01-02T03:04:05+00:00",
        "command": ["tracekit", "profile", "synthetic:flux-tiny"],
        "workload": "synthetic:flux-tiny",
        "pipeline_class": "FluxPipeline",
        "components": {
            "transformer": "FluxTransformer2DModel",
            "text_encoder": "CLIPTextModel",
            "vae": "AutoencoderKL",
        },
        "call": {"steps": 3, "height": 64, "width": 64, "seed": 0},
        "offload": OffloadInfo(mode="sequential"),
        "device": devices[kind],
        "machine": MachineInfo(cpu="a CPU", cores=16, ram_bytes=128 * 2**30, kernel="6.1", python="3.12"),
        "versions": {"torch": "2.13.0", "diffusers": "0.42.1"},
        "clock": ClockInfo(monotonic_ns=START_NS, epoch_ns=1_735_786_000_000_000_000, alignment_error_ns=2_000),
        "process_id": THREAD,
        "activity": "cupti" if kind == "cuda" else "emulated",
    }
    return Manifest(**(fields | changes))


def make_run(rows: Mapping[str, Iterable[Row]], manifest: Manifest | None = None, path: str = "runs/built") -> RunData:
    """A run from plain rows by table name; tables left out are empty."""
    frames = {name: make_frame(table, rows.get(name, ())) for name, table in TABLES.items()}
    return RunData(path=path, manifest=manifest or make_manifest(), **frames)


@dataclass(frozen=True)
class _Leaf:
    fqn: str
    module_class: str
    weight_bytes: int
    bias_bytes: int

    @property
    def parameters(self) -> tuple[tuple[str, int], ...]:
        return ("weight", self.weight_bytes), ("bias", self.bias_bytes)


@dataclass
class _Segment:
    """A stretch of one thread's run: rows with local times and ids, put into place by `_place`.

    Span 0 is the enclosing run's span, correlation and copy ids count from 0.
    """

    emulated: bool
    run_index: int
    bytes_per_us: int
    now: int = 0
    device_free: int = 0
    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})
    open_spans: list[int] = field(default_factory=lambda: [0])
    span_count: int = 0
    copy_count: int = 0
    correlation_count: int = 0

    def begin(self) -> int:
        self.span_count += 1
        self.open_spans.append(self.span_count)
        return self.now

    def end(self, start_ns: int, kind: SpanKind, name: str, fqn: str = "") -> None:
        self.now += US
        span_id = self.open_spans.pop()
        self.rows["spans"].append(
            {
                "span_id": span_id, "parent_id": self.open_spans[-1], "kind": str(kind), "name": name, "fqn": fqn,
                "run_index": self.run_index, "thread_id": THREAD, "start_ns": start_ns, "end_ns": self.now,
            }
        )  # fmt: skip

    def copy(
        self, direction: Direction, size_bytes: int, operation: str, leaf: _Leaf | None = None, name: str = ""
    ) -> None:
        """One synchronous pageable copy: the hook's call, the runtime call in it and the device's record."""
        duration = max(US, size_bytes * US // self.bytes_per_us)
        start = self.now
        device_start = start + 2 * US if self.emulated else max(start + 4 * US, self.device_free)
        device_end = device_start + duration
        self.now = device_end + CALL_NS // 2
        self.rows["copies"].append(
            {
                "copy_id": self.copy_count, "span_id": self.open_spans[-1], "run_index": self.run_index,
                "thread_id": THREAD, "direction": str(direction), "size_bytes": size_bytes,
                "start_ns": start, "end_ns": self.now, "fqn": leaf.fqn if leaf else "", "parameter": name,
                "operation": operation, "host_memory": str(HostMemory.MMAP if leaf else HostMemory.ANONYMOUS),
                "host_address": 0x7F0000000000 + 64 * self.copy_count,
                "file_path": "/models/flux/transformer.safetensors" if leaf else "",
                "file_offset": 4096 if leaf else NONE, "device": "emulated:0" if self.emulated else "cuda:0",
                "stream_id": 0,
            }
        )  # fmt: skip
        if leaf:
            cold = self.bytes_per_us == COLD_BYTES_PER_US
            self.rows["host_samples"].append(
                {
                    "copy_id": self.copy_count, "resident_before": 0.25 if cold else 1.0,
                    "read_bytes": size_bytes * 3 // 4 if cold else 0, "major_faults": int(cold),
                    "minor_faults": size_bytes // 65536, "io_stall_ns": duration // 2 if cold else 0,
                }
            )  # fmt: skip
        self.copy_count += 1
        way = "HtoD (Pageable -> Device)" if direction == Direction.H2D else "DtoH (Device -> Pageable)"
        self._device_op("memcpy", f"Memcpy {way}", device_start, device_end, size_bytes)
        if self.emulated:
            self._runtime_call("emulated memcpy", device_start, device_end)
        else:
            self._runtime_call("cudaMemcpyAsync", start + 2 * US, device_end + 2 * US)

    def kernel(self, name: str) -> None:
        """One kernel: launched and left to run on CUDA, run in the call on the emulated device."""
        launch = self.now
        start = launch + US if self.emulated else max(launch + 8 * US, self.device_free)
        self._device_op("kernel", name, start, start + KERNEL_NS)
        if self.emulated:
            self._runtime_call("emulated launch", start, start + KERNEL_NS)
            self.now = start + KERNEL_NS + US
        else:
            self._runtime_call("cudaLaunchKernel", launch + US, launch + 5 * US)
            self.now = launch + CALL_NS

    def counter(self, series: str, value: float) -> None:
        self.rows["counters"].append({"series": series, "device_index": 0, "t_ns": self.now, "value": value})

    def _device_op(self, op: str, name: str, start_ns: int, end_ns: int, size_bytes: int = NONE) -> None:
        self.device_free = end_ns
        self.rows["device_ops"].append(
            {
                "op": op, "name": name, "device_index": 0, "stream_id": THREAD if self.emulated else STREAM,
                "start_ns": start_ns, "end_ns": end_ns, "size_bytes": size_bytes,
                "correlation_id": self.correlation_count,
            }
        )  # fmt: skip

    def _runtime_call(self, name: str, start_ns: int, end_ns: int) -> None:
        self.rows["runtime_calls"].append(
            {
                "name": name, "thread_id": THREAD, "start_ns": start_ns, "end_ns": end_ns,
                "correlation_id": self.correlation_count,
            }
        )  # fmt: skip
        self.correlation_count += 1


def _streamed_leaf(segment: _Segment, leaf: _Leaf) -> None:
    """One leaf module under accelerate's sequential offload: onload, forward, offload, cache emptied."""
    start = segment.begin()
    for name, size_bytes in leaf.parameters:
        segment.copy(Direction.H2D, size_bytes, "Tensor.to", leaf, name)
    segment.counter("device_allocated_bytes", float(leaf.weight_bytes + leaf.bias_bytes))
    segment.counter("device_reserved_bytes", float(2 * (leaf.weight_bytes + leaf.bias_bytes)))
    segment.end(start, SpanKind.ONLOAD, "AlignDevicesHook.pre_forward", leaf.fqn)
    start = segment.begin()
    segment.kernel("ampere_bf16_s16816gemm_128x128" if leaf.module_class == "Linear" else "layer_norm_kernel")
    segment.end(start, SpanKind.FORWARD, leaf.module_class, leaf.fqn)
    start = segment.begin()
    cache_start = segment.begin()
    segment.now += 2 * US
    segment.end(cache_start, SpanKind.EMPTY_CACHE, "torch.cuda.empty_cache")
    segment.end(start, SpanKind.OFFLOAD, "AlignDevicesHook.post_forward", leaf.fqn)
    segment.counter("device_allocated_bytes", 0.0)


def _component(segment: _Segment, name: str, module_class: str, blocks: Mapping[str, Sequence[_Leaf]]) -> None:
    start = segment.begin()
    for block_fqn, leaves in blocks.items():
        block_start = segment.begin()
        for leaf in leaves:
            _streamed_leaf(segment, leaf)
        segment.end(block_start, SpanKind.FORWARD, "Block", block_fqn)
    segment.end(start, SpanKind.FORWARD, module_class, name)


def _blocks(prefix: str, count: int, weight_bytes: int) -> dict[str, list[_Leaf]]:
    kinds = (
        ("norm1", "LayerNorm", 64),
        ("attn.to_q", "Linear", 4),
        ("attn.to_out.0", "Linear", 4),
        ("ff.proj", "Linear", 1),
    )
    return {
        f"{prefix}.{index}": [
            _Leaf(f"{prefix}.{index}.{name}", kind, max(64, weight_bytes // share), max(16, weight_bytes // 1024))
            for name, kind, share in kinds
        ]
        for index in range(count)
    }


def _model(blocks: int, weight_bytes: int) -> dict[str, tuple[str, dict[str, list[_Leaf]]]]:
    return {
        "text_encoder": ("CLIPTextModel", _blocks("text_encoder.layers", 1, weight_bytes // 2)),
        "transformer": ("FluxTransformer2DModel", _blocks("transformer.transformer_blocks", blocks, weight_bytes)),
        "vae": ("AutoencoderKL", _blocks("vae.decoder.up_blocks", 1, weight_bytes // 4)),
    }


def _place(
    segment: _Segment, starts: np.ndarray, run_span: int, span_base: int, copy_base: int, correlation_base: int
) -> dict[str, pd.DataFrame]:
    """The segment's rows once for each start, ids made unique: the way to a million rows without a Python loop."""
    placed = {}
    for name, rows in segment.rows.items():
        frame = make_frame(TABLES[name], rows)
        repeat = np.repeat(np.arange(len(starts)), len(frame))
        tiled = concat_rows([frame] * len(starts)) if len(starts) > 1 else frame
        for column in tiled.columns:
            if column in _TIMES:
                tiled[column] += starts[repeat]
            elif column in ("span_id", "parent_id"):
                ids = tiled[column].to_numpy()
                tiled[column] = np.where(ids == 0, run_span, span_base + repeat * segment.span_count + ids)
            elif column == "copy_id":
                tiled[column] += copy_base + repeat * segment.copy_count
            elif column == "correlation_id":
                tiled[column] += correlation_base + repeat * segment.correlation_count
        placed[name] = tiled
    return placed


@dataclass
class _Builder:
    emulated: bool
    now: int = START_NS
    spans: int = 0
    copies: int = 0
    correlations: int = 1
    parts: list[dict[str, pd.DataFrame]] = field(default_factory=list)

    def rows(self, name: str, rows: list[Row]) -> None:
        self.parts.append({name: make_frame(TABLES[name], rows)})

    def setup(self, name: str, duration_ns: int) -> None:
        span = {
            "kind": "setup",
            "name": name,
            "thread_id": THREAD,
            "start_ns": self.now,
            "end_ns": self.now + duration_ns,
        }
        self.rows("spans", [span | {"span_id": self.spans}])
        self.spans += 1
        self.now += duration_ns

    def put(self, segment: _Segment, run_span: int, times: int = 1) -> None:
        length = max(segment.now, segment.device_free) + US
        starts = self.now + length * np.arange(times, dtype=np.int64)
        # Local span ids count from 1.
        self.parts.append(_place(segment, starts, run_span, self.spans - 1, self.copies, self.correlations))
        self.spans += times * segment.span_count
        self.copies += times * segment.copy_count
        self.correlations += times * segment.correlation_count
        self.now += times * length

    def segment(self, run_index: int, bytes_per_us: int) -> _Segment:
        return _Segment(self.emulated, run_index, bytes_per_us)

    def step(self, run_index: int, bytes_per_us: int, blocks: Mapping[str, Sequence[_Leaf]]) -> _Segment:
        segment = self.segment(run_index, bytes_per_us)
        segment.copy(Direction.H2D, 8, "Tensor.to")  # the timestep
        _component(segment, "transformer", "FluxTransformer2DModel", blocks)
        start = segment.begin()
        segment.kernel("vectorized_elementwise_kernel")
        segment.end(start, SpanKind.SCHEDULER, "FlowMatchEulerDiscreteScheduler", "scheduler")
        return segment


def build_run(
    *,
    device: str = "cuda",
    steps: int = 3,
    runs: int = 1,
    blocks: int = 2,
    weight_bytes: int = 8_000_000,
    **manifest_changes: Any,
) -> RunData:
    """A sequential-offload run of a small Flux: cold in step 1 of its first run, warm from then on.

    Each block has four leaf modules of two parameters; a step so makes ``8 * blocks + 1`` copies. Copies and kernels
    have runtime calls with correlation ids; on ``emulated`` the call lasts as long as the device works.
    """
    builder = _Builder(emulated=device == "emulated")
    model = _model(blocks, weight_bytes)
    builder.setup("load", 1_000 * MS)
    builder.setup("attach sequential offload", 200 * MS)
    builder.now += 5 * MS
    for run_index in range(runs):
        run_span, run_start = builder.spans, builder.now
        builder.spans += 1
        first_speed = WARM_BYTES_PER_US if run_index else COLD_BYTES_PER_US
        encode = builder.segment(run_index, first_speed)
        encode.now += 500 * US
        _component(encode, "text_encoder", *model["text_encoder"])
        builder.put(encode, run_span)
        builder.put(builder.step(run_index, first_speed, model["transformer"][1]), run_span)
        if steps > 1:
            builder.put(builder.step(run_index, WARM_BYTES_PER_US, model["transformer"][1]), run_span, steps - 1)
        decode = builder.segment(run_index, first_speed)
        _component(decode, "vae", *model["vae"])
        decode.copy(Direction.D2H, 12_288, "Tensor.cpu")
        builder.put(decode, run_span)
        run = {"span_id": run_span, "kind": "run", "name": "FluxPipeline", "run_index": run_index, "thread_id": THREAD}
        builder.rows("spans", [run | {"start_ns": run_start, "end_ns": builder.now}])
        builder.now += 2 * MS
    builder.rows("parameters", _parameter_rows(model))
    power = [
        {"series": "nvml_power_watts", "device_index": 0, "t_ns": int(t), "value": 300.0 + index}
        for index, t in enumerate(np.linspace(START_NS, builder.now, 16))
    ]
    builder.rows("counters", [] if builder.emulated else power)
    frames = {
        name: concat_rows([part[name] for part in builder.parts if name in part])
        if any(name in part for part in builder.parts)
        else make_frame(table, ())
        for name, table in TABLES.items()
    }
    changes = {"call": {"steps": steps, "height": 64, "width": 64, "seed": 0}} | manifest_changes
    return RunData(path="runs/FluxPipeline_sequential_built", manifest=make_manifest(device, **changes), **frames)


def build_large_run(copies: int = 1_000_000, device: str = "cuda") -> RunData:
    """A run of about that many copies, for the cost of analysis and rendering: 1,001 copies a step."""
    return build_run(device=device, steps=max(2, copies // 1_001), blocks=125, weight_bytes=2_000_000)


def _parameter_rows(model: Mapping[str, tuple[str, Mapping[str, Sequence[_Leaf]]]]) -> list[Row]:
    return [
        {
            "fqn": leaf.fqn, "parameter": name, "module_class": leaf.module_class, "component": component,
            "size_bytes": size_bytes, "dtype": "bfloat16", "host_memory": "mmap",
            "file_path": "/models/flux/transformer.safetensors", "file_offset": 4096,
        }
        for component, (_, blocks) in model.items()
        for leaves in blocks.values()
        for leaf in leaves
        for name, size_bytes in leaf.parameters
    ]  # fmt: skip


def write_run(folder: Path, run: RunData) -> Path:
    """The run as the folder that capture would have written."""
    writer = RunWriter.create(folder, run.manifest)
    for name, table in TABLES.items():
        for row in getattr(run, name).astype(object).itertuples(index=False):
            writer.append(table, *row)
    writer.finish(run.manifest)
    return folder

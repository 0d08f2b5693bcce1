"""The tables of a run folder: their columns, what each means, and its unit.

Capture writes these rows, analysis and renderers read them, and neither knows the other. Times are integer nanoseconds
of CLOCK_MONOTONIC (`_ns`), sizes are integer bytes (`_bytes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NONE = -1
"""In an integer column: no value (stored as null in Parquet)."""

ColumnKind = Literal["i32", "i64", "f64", "str", "bool"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its storage kind, and what it means with its unit.

    An integer `NONE`, an empty string and NaN mean "no value" where `nullable`.
    """

    name: str
    kind: ColumnKind
    doc: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A named set of columns; one Parquet folder of the run folder."""

    name: str
    doc: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns' names, in storage order."""
        return tuple(column.name for column in self.columns)


class SpanKind(StrEnum):
    """What a span of the host timeline is."""

    RUN = "run"  # one call of the pipeline; name = the pipeline's class
    SCHEDULER = "scheduler"  # one scheduler.step; its end closes a step
    FORWARD = "forward"  # one module's forward, without its own onload and offload
    ONLOAD = "onload"
    OFFLOAD = "offload"
    SETUP = "setup"  # loading, applying an offload mode, pinning; name says which
    EMPTY_CACHE = "empty_cache"  # the allocator asked to give its cached blocks back
    SYNCHRONIZE = "synchronize"  # the profiled code waited for the device
    GARBAGE = "garbage collection"  # Python's cyclic collector ran, for 1 ms at least; name = the generation
    ANNOTATION = "annotation"  # what the program named itself: torch.profiler's record_function and ProfilerStep#N
    TRACEKIT = "tracekit"  # tracekit's own work, so that it can be subtracted


class Phase(StrEnum):
    """Which part of a run something belongs to. Derived (analysis.phases), never captured."""

    SETUP = "setup"
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"


class Direction(StrEnum):
    """Which way a copy goes."""

    H2D = "H2D"
    D2H = "D2H"


class HostMemory(StrEnum):
    """What the host side of a copy is."""

    MMAP = "mmap"
    ANONYMOUS = "anonymous"
    PINNED = "pinned"
    UNKNOWN = "unknown"


class Measure(StrEnum):
    """What a row of the calibration table measured."""

    PINNED_H2D = "pinned H2D"
    PAGEABLE_H2D = "pageable H2D"  # from anonymous memory that is mapped already
    PINNED_D2H = "pinned D2H"
    PAGEABLE_D2H = "pageable D2H"
    FRESH_D2H = "fresh D2H"  # into pageable memory that was never touched, as offloads copy back
    UNMAP = "unmap"  # giving such memory back to the kernel
    PIN = "pin"  # page-locking memory
    CLONE = "clone"  # copying within anonymous memory, its first touch included
    HOST_COPY = "host copy"  # copying within anonymous memory that is mapped already
    # Small modules under offload hooks, by what is copied for each just before it runs (`size_bytes`), CPU time:
    HOOK_WORK = "hook work"  # the hook's, from pageable memory, the copy apart
    OWN_CODE = "own code"  # the module's own forward
    CODE_BETWEEN = "code between"  # code behind its call, and how it is called
    OWN_CODE_BEHIND = "own code behind"  # of a module behind those, whose weights stay: the mean of some
    CODE_BETWEEN_BEHIND = "code between behind"
    WAITED_HOOK_WORK = "waited hook work"  # the same from page-locked memory, for the copy of which the host waits
    WAITED_OWN_CODE = "waited own code"
    WAITED_CODE_BETWEEN = "waited code between"
    WAITED_OWN_CODE_BEHIND = "waited own code behind"
    WAITED_CODE_BETWEEN_BEHIND = "waited code between behind"
    OWN_CODE_AMONG_HOOKS = "own code among hooks"  # at its fastest, a few bytes being copied
    CODE_BETWEEN_AMONG_HOOKS = "code between among hooks"
    OWN_CODE_ALONE = "own code alone"  # at its fastest, without hooks
    CODE_BETWEEN_ALONE = "code between alone"
    OWN_CODE_IDLE_HOOKS = "own code among idle hooks"  # at its fastest, where the weights stay
    CODE_BETWEEN_IDLE_HOOKS = "code between idle hooks"
    IDLE_HOOK = "idle hook"  # what the hook of a module whose weights stay adds to its call
    GROUP_ONLOAD = "group onload"  # diffusers' onload of a group of one weight, which issues the copy, CPU time
    GROUP_WEIGHT = "group weight"  # what each further weight adds to it
    # By the size of each group, which a stream brings ahead, CPU time at its fastest:
    GROUP_CALL = "group call"  # what diffusers' group hooks add to a module's call beside the onload
    GROUP_OWN_CODE = "group own code"  # a module's own forward among these hooks
    GROUP_CODE_BETWEEN = "group code between"
    UNGROUPED_OWN_CODE = "ungrouped own code"  # the same beside it, without hooks
    UNGROUPED_CODE_BETWEEN = "ungrouped code between"
    DISK_READ = "disk read"  # direct I/O from the weights' own files: fills no cache
    MAP_PAGES = "map pages"  # first touch of pages of a file that are in the page cache


MODULES_BEHIND = 15
"""So many modules behind one that brought something are timed together."""

SPANS = Table(
    "spans",
    "Intervals on the host, written when they end.",
    (
        Column("span_id", "i64", "Unique in the run folder; a parent's id is below its children's."),
        Column("parent_id", "i64", "The span open around this one on its thread when it began.", nullable=True),
        Column("kind", "str", "A SpanKind."),
        Column("name", "str", "What to show: a class, a method, what set-up did."),
        Column("fqn", "str", "Dotted module path, component included; of an onload, what is onloaded.", nullable=True),
        Column("note", "str", "What a reader must know, such as 'compiled region'.", nullable=True),
        Column("run_index", "i32", "The run (pipeline call) it happened in.", nullable=True),
        Column("thread_id", "i64", "Native thread id."),
        Column("start_ns", "i64", "Start, CLOCK_MONOTONIC ns."),
        Column("end_ns", "i64", "End, CLOCK_MONOTONIC ns."),
    ),
)
COPIES = Table(
    "copies",
    "Host/device transfers as the hooks saw them: the call on the host, what it moved and for whom.",
    (
        Column("copy_id", "i64", "Unique in the run folder."),
        Column("span_id", "i64", "The innermost span open on the thread.", nullable=True),
        Column("run_index", "i32", "The run (pipeline call) it happened in.", nullable=True),
        Column("thread_id", "i64", "Native thread id."),
        Column("direction", "str", "A Direction."),
        Column("size_bytes", "i64", "Bytes moved over the link (elements times the device side's item size)."),
        Column("start_ns", "i64", "When the call began on the host, CLOCK_MONOTONIC ns."),
        Column("end_ns", "i64", "When the call returned on the host; an asynchronous copy may still run."),
        Column("fqn", "str", "The module whose weight it is; empty when it is not a weight.", nullable=True),
        Column("parameter", "str", "The parameter's or buffer's name in that module.", nullable=True),
        Column("operation", "str", "The call that copied: Tensor.to, Tensor.copy_, Tensor.item, ..."),
        Column("host_memory", "str", "A HostMemory: what the host side is."),
        Column("host_address", "i64", "Address of the host side's first byte.", nullable=True),
        Column("file_path", "str", "The mmapped file behind the host side.", nullable=True),
        Column("file_offset", "i64", "Offset of the first byte in that file, bytes.", nullable=True),
        Column("device", "str", "The device's name in torch, such as cuda:0."),
        Column("stream_id", "i64", "torch's id of the stream that was current.", nullable=True),
        Column("non_blocking", "bool", "Whether the call asked for an asynchronous copy."),
    ),
)
HOST_SAMPLES = Table(
    "host_samples",
    "Host-memory evidence of copies from pageable memory, taken without touching its pages. A weight is probed in full "
    "at its first copy, and at one in 64 after that; after those in between only `read_bytes` is counted, from the "
    "count before on, and when it grew, every weight is probed in full once more.",
    (
        Column("copy_id", "i64", "The copy it belongs to."),
        Column(
            "resident_before",
            "f64",
            "Share of the weight's pages that were in memory just before, 0 to 1; of mapped files alone.",
            nullable=True,
        ),
        Column(
            "read_bytes",
            "i64",
            "Bytes that the process (all its threads) had read from disk during the copy, read-ahead for later weights "
            "included.",
            nullable=True,
        ),
        Column("major_faults", "i64", "Major page faults of the process (all threads) during the copy.", nullable=True),
        Column("minor_faults", "i64", "Minor page faults of the process (all threads) during the copy.", nullable=True),
        Column("io_stall_ns", "i64", "Time the machine stalled on I/O during the copy (PSI some).", nullable=True),
        Column("probe_ns", "i64", "What taking this sample took, just before the copy and after it.", nullable=True),
    ),
)
DEVICE_OPS = Table(
    "device_ops",
    "What the device did, from CUPTI (or the emulated device's own record).",
    (
        Column("op", "str", "kernel, memcpy or memset."),
        Column("name", "str", "Kernel name, or Kineto's name: 'Memcpy HtoD (Pageable -> Device)', 'Memset (Device)'."),
        Column("device_index", "i32", "Which device."),
        Column("stream_id", "i64", "CUPTI's stream id."),
        Column("start_ns", "i64", "Start on the device, mapped to CLOCK_MONOTONIC ns."),
        Column("end_ns", "i64", "End on the device."),
        Column("size_bytes", "i64", "Bytes moved or set; none for a kernel.", nullable=True),
        Column("correlation_id", "i64", "Joins it to the runtime call that launched it.", nullable=True),
    ),
)
RUNTIME_CALLS = Table(
    "runtime_calls",
    "Calls into the CUDA runtime and driver: launches, copies, cudaMalloc, synchronisations. "
    "Into the emulated device: one an operation, as long as it.",
    (
        Column(
            "name", "str", "cudaMemcpyAsync, cudaLaunchKernel, cudaMalloc, ..., or emulated memcpy, emulated launch."
        ),
        Column("thread_id", "i64", "Native thread id."),
        Column("start_ns", "i64", "Start, mapped to CLOCK_MONOTONIC ns."),
        Column("end_ns", "i64", "End."),
        Column("correlation_id", "i64", "Joins it to the device operation it launched.", nullable=True),
    ),
)
HOST_PYTHON = "host_python_ns"
"""The series of counters that says what a fixed piece of Python took: how fast the host was."""
COUNTERS = Table(
    "counters",
    "Sampled quantities over time.",
    (
        Column("series", "str", "Name with unit: device_allocated_bytes, nvml_power_watts, host_python_ns, ..."),
        Column("device_index", "i32", "Which device; none for the host.", nullable=True),
        Column("t_ns", "i64", "When, CLOCK_MONOTONIC ns."),
        Column("value", "f64", "The value, in the unit that the series' name says."),
    ),
)
PARAMETERS = Table(
    "parameters",
    "Every weight and buffer of the profiled components, as they were when the profile began.",
    (
        Column("fqn", "str", "The module that holds it."),
        Column("parameter", "str", "Its name there."),
        Column("module_class", "str", "The module's class."),
        Column("component", "str", "The pipeline's component."),
        Column("size_bytes", "i64", "Elements times item size."),
        Column("dtype", "str", "torch's name of the dtype, without 'torch.'."),
        Column("is_buffer", "bool", "A buffer, not a parameter."),
        Column("tied_to", "str", "Dotted name of the first parameter with the same storage.", nullable=True),
        Column("host_memory", "str", "A HostMemory: where it was held then."),
        Column("file_path", "str", "The mmapped file behind it.", nullable=True),
        Column("file_offset", "i64", "Offset in that file, bytes.", nullable=True),
    ),
)
CALIBRATION = Table(
    "calibration",
    "What this machine can do: brief measurements made before the runs, one row a sample.",
    (
        Column("measure", "str", "A Measure: what was measured."),
        Column("size_bytes", "i64", "Bytes moved, read, locked or mapped in the sample."),
        Column("duration_ns", "i64", "What that took: a copy's time on the device where the device tells it."),
    ),
)
FRAMES = Table(
    "frames",
    "Python function calls, on request (VizTracer).",
    (
        Column("name", "str", "Function, file and line."),
        Column("thread_id", "i64", "Native thread id."),
        Column("start_ns", "i64", "Start, CLOCK_MONOTONIC ns."),
        Column("end_ns", "i64", "End."),
    ),
)
TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (SPANS, COPIES, HOST_SAMPLES, DEVICE_OPS, RUNTIME_CALLS, COUNTERS, PARAMETERS, CALIBRATION, FRAMES)
}

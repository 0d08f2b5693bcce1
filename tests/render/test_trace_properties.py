"""Whatever rows a run holds, its trace loses none of them and no viewer has to bend one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.lint import lint
from timelines import RUN_NS, bare_timeline, slices_of, trace_of

TIMES = st.tuples(st.integers(0, 3_000), st.integers(-20, 1_500)).map(
    lambda pair: {"start_ns": RUN_NS + pair[0], "end_ns": RUN_NS + pair[0] + pair[1]}
)
THREADS = st.sampled_from([4242, 4243, 0, 2**33])
FQNS = st.sampled_from(["", "transformer", "transformer.a", "transformer.a.b", "vae"])
KINDS = st.sampled_from(
    ["forward", "onload", "offload", "setup", "scheduler", "tracekit", "empty_cache", "garbage collection"]
)


def rows(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.builds(lambda times, others: times | others, TIMES, st.fixed_dictionaries(columns))
    return st.lists(row, max_size=12)


SPANS = rows(kind=KINDS, name=st.text(max_size=4), fqn=FQNS, thread_id=THREADS, parent_id=st.integers(-1, 25))
COPIES = rows(
    fqn=FQNS, parameter=st.sampled_from(["weight", "bias"]), direction=st.sampled_from(["H2D", "D2H"]),
    thread_id=THREADS, size_bytes=st.integers(0, 10_000), correlation_id=st.integers(-1, 20), is_weight=st.booleans(),
    device=st.just("cuda:0"),
)  # fmt: skip
OPS = rows(
    op=st.sampled_from(["kernel", "memcpy", "memset"]), name=st.sampled_from(["k", "Memcpy HtoD (Pageable -> Device)"]),
    device_index=st.integers(0, 1), stream_id=st.sampled_from([0, 7, 13]), size_bytes=st.integers(-1, 1_000),
    correlation_id=st.integers(-1, 20),
)  # fmt: skip
CALLS = rows(name=st.just("cudaLaunchKernel"), thread_id=THREADS, correlation_id=st.integers(-1, 20))
FRAMES = rows(name=st.text(max_size=4), thread_id=THREADS)
COUNTERS = st.lists(
    st.fixed_dictionaries(
        {
            "series": st.sampled_from(["device_allocated_bytes", "nvml_power_watts", "odd"]),
            "device_index": st.integers(-1, 1),
            "t_ns": st.integers(RUN_NS, RUN_NS + 5_000),
            "value": st.floats(allow_nan=True, allow_infinity=True),
        }
    ),
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(SPANS, COPIES, OPS, CALLS, FRAMES, COUNTERS, st.integers(0, 200))
def test_nothing_is_lost_and_nothing_overlaps(
    spans: list[dict[str, Any]],
    copies: list[dict[str, Any]],
    ops: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    frames: list[dict[str, Any]],
    counters: list[dict[str, Any]],
    error_ns: int,
) -> None:
    numbered = [row | {"span_id": index} for index, row in enumerate(spans)]
    copied = [row | {"copy_id": index} for index, row in enumerate(copies)]
    tables = {
        "spans": numbered, "copies": copied, "device_ops": ops, "runtime_calls": calls, "frames": frames,
        "counters": counters,
    }  # fmt: skip
    timeline = bare_timeline(tables)
    timeline.run.manifest.clock.alignment_error_ns = error_ns
    data, stats = trace_of(timeline)
    report = lint(data)
    assert (report.errors, report.warnings) == ({}, {})
    written = Counter(event["cat"] for event in slices_of(data))
    wanted = Counter(row["kind"] for row in spans)
    wanted += Counter({"kernel": "kernel", "memcpy": "gpu_memcpy", "memset": "gpu_memset"}[row["op"]] for row in ops)
    wanted += Counter({"copy": len(copies), "cuda_runtime": len(calls), "python_function": len(frames)})
    del written["component"]
    assert written == wanted
    assert stats.clipped_max_ns <= error_ns
    assert stats.backward_slices == sum(
        row["end_ns"] < row["start_ns"] for table in (spans, copies, ops, calls, frames) for row in table
    )
    assert report.flows + stats.flows_left_out <= sum(copy["is_weight"] for copy in copies)

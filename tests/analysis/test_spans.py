"""Own time and device time of nested spans."""

import pytest
from builders import KERNEL_NS, build_run, make_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import build_timeline
from tracekit.model import NONE

# span_id, parent_id, thread_id, start, end; parents' rows come after their children's, as capture writes them
SPANS = [
    (2, 1, 1, 120, 140),
    (3, 1, 1, 150, 180),
    (1, 0, 1, 110, 190),
    (0, NONE, 1, 100, 200),
    (4, NONE, 2, 100, 200),
]


def spans_of(kernels):
    """The timeline's spans by id; kernels: (thread, launch, start, duration)."""
    rows = [
        {
            "span_id": i,
            "parent_id": p,
            "thread_id": t,
            "start_ns": s,
            "end_ns": e,
            "kind": "forward",
            "fqn": f"unet.{i}",
        }
        for i, p, t, s, e in SPANS
    ]
    ops = [
        {"op": "kernel", "name": "k", "start_ns": start, "end_ns": start + duration, "correlation_id": index}
        for index, (_, _, start, duration) in enumerate(kernels)
    ]
    calls = [
        {
            "name": "cudaLaunchKernel",
            "thread_id": thread,
            "start_ns": launch,
            "end_ns": launch + 1,
            "correlation_id": index,
        }
        for index, (thread, launch, _, _) in enumerate(kernels)
    ]
    tables = {"spans": rows, "device_ops": ops, "runtime_calls": calls}
    return build_timeline(make_run(tables)).spans.set_index("span_id").sort_index()


def naive_device_ns(kernels) -> list[int]:
    result = []
    for _, _, own_thread, span_start, span_end in sorted(SPANS):
        ran = set()
        for thread, launch, start, duration in kernels:
            if thread == own_thread and span_start <= launch < span_end:
                ran |= set(range(start, start + duration))
        result.append(len(ran))
    return result


def test_own_time_is_without_the_children():
    assert spans_of([])["own_ns"].tolist() == [20, 30, 20, 30, 100]


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(90, 210), st.integers(90, 260), st.integers(0, 30)), max_size=12)
)
def test_device_time_is_the_union_of_what_was_launched_inside(kernels):
    assert spans_of(kernels)["device_ns"].tolist() == naive_device_ns(kernels)


def test_components_are_the_first_part_of_names():
    assert spans_of([])["component"].unique().tolist() == ["unet"]
    assert build_timeline(build_run()).spans["component"].unique().tolist() == [
        "", "text_encoder", "transformer", "scheduler", "vae",
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_a_built_runs_forwards_have_their_kernels(device):
    spans = build_timeline(build_run(device=device, steps=2, blocks=3)).spans
    forwards = spans[spans["kind"] == "forward"]
    leaves = forwards[forwards["fqn"].str.contains("norm1|attn|proj")]
    assert (leaves["device_ns"] == KERNEL_NS).all()
    whole = forwards[forwards["fqn"] == "transformer"]
    assert (whole["device_ns"] == 3 * 4 * KERNEL_NS).all()


def test_a_chain_of_any_length_is_fine():
    count = 50_000
    rows = [
        {"span_id": i, "parent_id": i - 1, "kind": "setup", "thread_id": 1, "start_ns": i, "end_ns": 10**6 - i}
        for i in range(count)
    ]
    spans = build_timeline(make_run({"spans": rows})).spans
    assert spans["own_ns"].tolist() == [2] * (count - 1) + [10**6 - 2 * (count - 1)]

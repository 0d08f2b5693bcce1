"""Which weights are on the device when: what brings and drops them, in every mode, and sums over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import START_NS, Row, build_run, make_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.report import build_report
from tracekit.analysis.report import residency as view
from tracekit.analysis.report.residency import MAX_ROWS, block_of
from tracekit.analysis.weightstays import ALWAYS, Stays, weight_stays
from tracekit.model import RunData
from tracekit.model.report import Matrix, Residency

FQN = "transformer.blocks.0.proj"


def residency_of(run: RunData) -> Residency | None:
    timeline = build_timeline(run)
    return build_report([(timeline, summarize(timeline), None)]).runs[0].residency


def shares(matrix: Matrix) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(matrix.values, "<f4").reshape(matrix.rows, matrix.columns)


def weight(fqn: str = FQN, size: int = 100, **changes: Any) -> Row:
    row = {"fqn": fqn, "parameter": "weight", "module_class": "Linear", "component": "transformer", "dtype": "bfloat16"}
    return row | {"size_bytes": size, "host_memory": "anonymous"} | changes


def span(kind: str, start: int, end: int, fqn: str = FQN, span_id: int = 0) -> Row:
    times = {"start_ns": START_NS + start, "end_ns": START_NS + end}
    return {"kind": kind, "name": kind, "fqn": fqn, "span_id": span_id, "run_index": 0, "thread_id": 1} | times


def moved(start: int, direction: str = "H2D", fqn: str = FQN, span_id: int = -1, size: int = 100) -> Row:
    times = {"start_ns": START_NS + start, "end_ns": START_NS + start + 1}
    where = {"direction": direction, "fqn": fqn, "parameter": "weight", "span_id": span_id, "size_bytes": size}
    return where | times | {"copy_id": start, "run_index": 0, "thread_id": 1, "operation": "Tensor.to"}


def stays_of(spans: list[Row], copies: list[Row], parameters: list[Row]) -> list[tuple[int, int, int | None]]:
    """Each stay's weight, start and end since the run began; None for a stay that nothing ends."""
    run = make_run({"spans": [span("run", 0, 10_000, "", 99), *spans], "copies": copies, "parameters": parameters})
    stays = weight_stays(build_timeline(run))
    found = zip(stays.weight.tolist(), stays.start_ns.tolist(), stays.end_ns.tolist(), strict=True)
    return [(row, start - START_NS, None if end == ALWAYS else end - START_NS) for row, start, end in sorted(found)]


def test_sequential_offload_leaves_a_module_at_a_time() -> None:
    run = build_run(steps=3, blocks=4)
    residency = residency_of(run)
    assert residency is not None
    assert [window.key for window in residency.windows] == ["run", "first", "warm"]
    assert residency.modules[:2] == ["text_encoder.layers.0", "transformer.transformer_blocks.0"]
    # The largest leaf of 8 MB with its bias; the device's own counter says the same.
    largest = int(run.counters.loc[run.counters["series"] == "device_allocated_bytes", "value"].max())
    for window in residency.windows:
        assert max(window.weight_bytes) == largest == 8_007_812
    assert residency.finding.startswith("At most 7.64 MiB of the transformer's ")
    # A block's bytes stay for as long as its leaves are onloaded and run, and no longer.
    timeline = build_timeline(run)
    first, block = residency.windows[1], residency.modules.index("transformer.transformer_blocks.1")
    own = timeline.spans[timeline.spans["fqn"].astype(str).str.startswith("transformer.transformer_blocks.1.")]
    own = own[own["step_index"] == 0]
    onloads, offloads = (own[own["kind"] == kind].sort_values("start_ns") for kind in ("onload", "offload"))
    at_most = (offloads["end_ns"].to_numpy() - onloads["start_ns"].to_numpy()).sum()
    held = shares(first.share)[block].sum() * (first.end_ns - first.start_ns) / view.SLICES
    assert 0 < held <= at_most
    assert residency.stay_ns[block] <= at_most


def test_no_weight_that_was_seen_coming_no_view() -> None:
    assert residency_of(make_run({"spans": [span("run", 0, 100, "", 99)]})) is None


def test_an_onloads_weights_go_with_the_next_offload() -> None:
    spans = [span("onload", 10, 20, span_id=1), span("offload", 30, 40, span_id=2)]
    assert stays_of(spans, [moved(12, span_id=1)], [weight()]) == [(0, 12, 40)]


@pytest.mark.parametrize("dropper", ["transformer", "transformer.blocks.0", FQN, ""])
def test_an_offload_around_it_drops_a_weight(dropper: str) -> None:
    spans = [span("onload", 10, 20, span_id=1), span("offload", 30, 40, dropper, 2)]
    assert stays_of(spans, [moved(12, span_id=1)], [weight()]) == [(0, 12, 40)]


@pytest.mark.parametrize("other", ["transformer.blocks.0.projection", "transformer.blocks.00", "vae"])
def test_no_other_modules_offload_does(other: str) -> None:
    spans = [span("onload", 10, 20, span_id=1), span("offload", 30, 40, other, 2)]
    assert stays_of(spans, [moved(12, span_id=1)], [weight()]) == [(0, 12, None)]


def test_a_groups_leader_drops_what_its_onload_brought() -> None:
    leader = "transformer.blocks.1.proj"
    spans = [span("onload", 10, 20, leader, 1), span("offload", 30, 40, leader, 2)]
    assert stays_of(spans, [moved(12, span_id=1)], [weight()]) == [(0, 12, 40)]


def test_a_resident_weight_stays_through_its_modules_offloads() -> None:
    spans = [span("onload", 10, 20, span_id=1), span("offload", 30, 40, span_id=2)]
    assert stays_of(spans, [moved(5)], [weight()]) == [(0, 5, None)]


def test_a_weight_that_is_copied_back_is_gone() -> None:
    assert stays_of([], [moved(5), moved(50, "D2H"), moved(70)], [weight()]) == [(0, 5, 51), (0, 70, None)]


def test_tied_weights_count_once() -> None:
    tied = weight("transformer.head", tied_to=f"{FQN}.weight")
    found = stays_of([], [moved(5), moved(9, fqn="transformer.head")], [weight(), tied])
    assert found == [(0, 5, 9), (0, 9, None)]


def test_blocks_are_named_by_their_path_down_to_a_number() -> None:
    assert block_of("transformer.blocks.12.attn.to_out.0") == "transformer.blocks.12"
    assert block_of("transformer.time_embed.linear_1") == "transformer.time_embed"
    assert block_of("transformer") == "transformer"


def test_thousands_of_blocks_are_merged_and_lose_nothing() -> None:
    many, few = (residency_of(build_run(steps=2, blocks=count)) for count in (300, 2))
    assert many is not None
    assert few is not None
    assert few.blocks_a_row == 1
    assert many.blocks_a_row == 3
    assert len(many.modules) <= MAX_ROWS
    assert many.modules[0] == "text_encoder.layers.0 to transformer.transformer_blocks.1"
    parameters = build_run(steps=2, blocks=300).parameters
    assert sum(many.sizes_bytes) == parameters["size_bytes"].sum()


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(-50, 1_300), st.integers(1, 900)), min_size=1, max_size=12)
)
def test_slices_hold_what_the_stays_add_up_to(drawn: list[tuple[int, int, int]]) -> None:
    """Against a count at every single nanosecond."""
    start, length = START_NS, 1_200
    sizes, begins, lengths = (np.array(column, np.int64) for column in zip(*drawn, strict=True))
    stays = Stays(
        pd.DataFrame({"fqn": "a", "component": "a", "size_bytes": sizes}),
        np.arange(len(sizes)), start + begins, start + begins + lengths,
    )  # fmt: skip
    moments = np.arange(length)[:, None]
    there = ((begins <= moments) & (moments < begins + lengths)) * sizes
    timeline = build_timeline(make_run({}))
    block, total = np.zeros(len(sizes), np.int64), np.array([float(sizes.sum())])
    window = view._window(timeline, stays, block, total, "run", "whole run", start, start + length)
    each = there.sum(axis=1).reshape(view.SLICES, -1)
    assert np.allclose(shares(window.share)[0], each.mean(axis=1) / sizes.sum(), atol=1e-5)
    assert window.weight_bytes == each.max(axis=1).tolist()

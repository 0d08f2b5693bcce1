"""Loading is told apart from attaching hooks, and garbage collections from both, in runs of every mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from builders import make_frame

from tracekit.analysis import build_timeline
from tracekit.analysis.prediction.setup import SetupTimes
from tracekit.api import Run
from tracekit.model import NONE, SPANS, SpanKind
from tracekit.model.plan import Configuration
from tracekit.model.text import concat_rows
from tracekit.offload.options import OffloadOptions

PAUSE_NS = 1_000_000


def spans(run: Run, word: str) -> pd.DataFrame:
    rows = run.data.spans
    return rows[(rows["kind"] == SpanKind.SETUP) & rows["name"].astype(str).str.contains(word)]


def collecting(run: Run, word: str) -> SetupTimes:
    """The set-up of a run in which a garbage collection came in the middle of a set-up span."""
    (row,) = spans(run, word).tail(1).to_dict("records")
    middle = (row["start_ns"] + row["end_ns"]) // 2
    collection = row | {"span_id": 10**6, "parent_id": NONE, "kind": str(SpanKind.GARBAGE), "name": "generation 2"}
    collection |= {"start_ns": middle - PAUSE_NS // 2, "end_ns": middle + PAUSE_NS // 2}
    rows = concat_rows([run.data.spans, make_frame(SPANS, [collection])])
    return SetupTimes.of(build_timeline(replace(run.data, spans=rows)))


@pytest.mark.parametrize(
    "offload",
    [OffloadOptions(mode="sequential"), OffloadOptions(mode="model"), OffloadOptions(mode="group")],
    ids=lambda offload: offload.mode,
)
def test_loading_and_attaching_are_told_apart(
    real_run: Callable[[OffloadOptions], Run], offload: OffloadOptions
) -> None:
    run = real_run(offload)
    times = SetupTimes.of(run.timeline)
    loading, attaching = (
        int((rows["end_ns"] - rows["start_ns"]).sum()) for rows in (spans(run, "^load$|^remove"), spans(run, "^attach"))
    )
    assert 0 < times.load_ns <= loading
    assert 0 < times.attach_ns <= attaching
    own = Configuration(mode=offload.mode)
    assert times.ns(own) == times.load_ns + times.attach_ns + times.collecting_ns
    assert times.ns(Configuration(mode="resident")) <= times.load_ns + times.collecting_ns
    assert not times.unknown_attach(offload.mode)


def test_a_resident_run_tells_of_loading_alone(real_run: Callable[[OffloadOptions], Run]) -> None:
    times = SetupTimes.of(real_run(OffloadOptions(mode="resident")).timeline)
    assert times.load_ns > 0
    assert times.attach_ns == 0
    assert times.unknown_attach("sequential")
    assert not times.unknown_attach("resident")


@pytest.mark.parametrize("word", ["^load$", "^remove"])
def test_a_collection_while_loading_counts_in_every_mode(sequential: Run, word: str) -> None:
    assert collecting(sequential, word) == SetupTimes.of(sequential.timeline)


def test_a_collection_while_attaching_counts_in_modes_with_as_many_hooks_alone(sequential: Run) -> None:
    usual, paused = SetupTimes.of(sequential.timeline), collecting(sequential, "^attach")
    assert paused.load_ns + paused.attach_ns == pytest.approx(
        usual.load_ns + usual.attach_ns - PAUSE_NS, abs=PAUSE_NS / 10
    )
    assert paused.collecting_ns == pytest.approx(usual.collecting_ns + PAUSE_NS, abs=PAUSE_NS / 10)
    spared = [Configuration(mode=mode) for mode in ("resident", "model")]
    spared.append(Configuration(mode="group", group_level="block_level"))
    for configuration in spared:
        assert paused.ns(configuration) <= paused.load_ns + paused.attach_ns
    for mode in ("sequential", "partial", "group"):
        assert paused.ns(Configuration(mode=mode)) == paused.load_ns + paused.attach_ns + paused.collecting_ns

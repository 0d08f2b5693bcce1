from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from builders import START_NS, THREAD, US, make_manifest, make_run
from rich.console import Console

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.memoryholders import memory_holders, out_of_memory
from tracekit.model import Timeline
from tracekit.model.memoryholders import MemoryHolders
from tracekit.render.memoryholders import memory_holder_lines
from tracekit.render.terminal import render_summary

MIB = 1 << 20
REASON = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 12.00 GiB of "
    "which 900.00 MiB is free. Of the allocated memory 1.00 GiB is allocated by PyTorch, and 2.25 MiB is reserved by "
    "PyTorch but unallocated."
)
WEIGHTS = {
    ("text_encoder.embed", "weight"): 40 * MIB,
    ("transformer.blocks.0.proj", "weight"): 100 * MIB,
    ("transformer.blocks.0.proj", "bias"): 1 * MIB,
    ("transformer.blocks.1.proj", "weight"): 200 * MIB,
}


def at(offset: int) -> int:
    return START_NS + offset * US


def span(span_id: int, kind: str, start: int, end: int, fqn: str = "", parent: int = 1, run: int = 0) -> dict[str, Any]:
    return {
        "span_id": span_id, "parent_id": parent, "kind": kind, "name": kind, "fqn": fqn, "run_index": run,
        "thread_id": THREAD, "start_ns": at(start), "end_ns": at(end),
    }  # fmt: skip


def copy(copy_id: int, span_id: int, start: int, name: tuple[str, str]) -> dict[str, Any]:
    return {
        "copy_id": copy_id, "span_id": span_id, "run_index": 0, "thread_id": THREAD, "direction": "H2D",
        "size_bytes": WEIGHTS[name], "start_ns": at(start), "end_ns": at(start + 1), "fqn": name[0],
        "parameter": name[1], "operation": "Tensor.to", "host_memory": "mmap", "device": "cuda:0",
    }  # fmt: skip


@pytest.fixture
def failed() -> Timeline:
    """The text encoder stays on the device; block 0 was onloaded and dropped; in block 1's forward memory ran out."""
    text, weight, bias, other = WEIGHTS
    parameters = [
        {"fqn": fqn, "parameter": name, "component": fqn.partition(".")[0], "size_bytes": size}
        for (fqn, name), size in WEIGHTS.items()
    ]
    tied = {"fqn": "text_encoder.head", "parameter": "weight", "component": "text_encoder"}
    parameters.append(tied | {"size_bytes": 40 * MIB, "tied_to": "text_encoder.embed.weight"})
    spans = [
        span(1, "run", 10, 100, parent=-1),
        span(2, "forward", 20, 99, "transformer"),
        span(3, "onload", 21, 29, "transformer.blocks.0", 2),
        span(4, "forward", 30, 39, "transformer.blocks.0", 2),
        span(5, "offload", 40, 45, "transformer.blocks.0", 2),
        span(6, "onload", 50, 59, "transformer.blocks.1.proj", 2),
        span(7, "forward", 60, 98, "transformer.blocks.1.proj", 2),
        span(8, "tracekit", 101, 120, parent=-1),
        span(9, "synchronize", 105, 110, parent=8),
    ]
    copies = [copy(0, -1, 1, text), copy(1, 3, 22, weight), copy(2, 3, 24, bias), copy(3, 6, 52, other)]
    samples = [(5, 40, 64), (25, 141, 160), (46, 40, 160), (55, 240, 256), (70, 300, 320), (110, 250, 320)]
    counters = [
        {"series": f"device_{what}_bytes", "device_index": 0, "t_ns": at(t), "value": float(value * MIB)}
        for t, *values in samples
        for what, value in zip(("allocated", "reserved"), values, strict=True)
    ]
    manifest = make_manifest(complete=False, incomplete_reason=REASON)
    manifest.device.cap_bytes = 12 << 30
    tables = {"spans": spans, "copies": copies, "counters": counters, "parameters": parameters}
    return build_timeline(make_run(tables, manifest))


def shares(memory: MemoryHolders) -> dict[str, int]:
    return {holder.component: holder.weight_bytes // MIB for holder in memory.holders}


def test_what_is_on_the_device_when_memory_runs_out_has_names(failed: Timeline) -> None:
    memory = out_of_memory(failed)
    assert memory is not None
    assert shares(memory) == {"transformer": 200, "text_encoder": 40}
    assert memory.holders[0].modules == [("transformer.blocks.1.proj", 200 * MIB)]
    assert (memory.holders[0].component_bytes, memory.holders[1].component_bytes) == (301 * MIB, 40 * MIB)
    assert (memory.fqn, memory.allocated_bytes, memory.other_bytes) == (
        "transformer.blocks.1.proj", 300 * MIB, 60 * MIB
    )  # fmt: skip
    assert (memory.cap_bytes, memory.requested_bytes) == (12 << 30, 3 << 29)
    assert memory.unallocated_bytes == round(2.25 * MIB)


def test_at_any_moment_an_offload_drops_what_its_onload_brought(failed: Timeline) -> None:
    assert shares(memory_holders(failed, at(2))) == {"text_encoder": 40}
    assert shares(memory_holders(failed, at(42))) == {"transformer": 101, "text_encoder": 40}
    after = memory_holders(failed, at(46))
    assert (shares(after), after.other_bytes, after.unallocated_bytes) == ({"text_encoder": 40}, 0, 120 * MIB)


def test_a_tied_weight_counts_once_whichever_name_was_copied(failed: Timeline) -> None:
    copies = failed.copies.copy()
    copies["fqn"] = copies["fqn"].astype(str).replace("text_encoder.embed", "text_encoder.head").astype("category")
    by_the_other_name = replace(failed, copies=copies)
    assert shares(memory_holders(by_the_other_name, at(2))) == {"text_encoder": 40}


def test_a_resident_weight_stays_through_the_offloads_of_its_module(failed: Timeline) -> None:
    # Of block 0 the weight was put there before the run, as partial residency does; its bias streams.
    resident = failed.copies["copy_id"] == 1
    moved = failed.copies.assign(
        span_id=failed.copies["span_id"].mask(resident, -1), start_ns=failed.copies["start_ns"].mask(resident, at(2))
    )
    partial = replace(failed, copies=moved)
    assert shares(memory_holders(partial, at(42))) == {"transformer": 101, "text_encoder": 40}
    assert shares(memory_holders(partial, at(46))) == {"transformer": 100, "text_encoder": 40}
    memory = out_of_memory(partial)
    assert memory is not None
    assert dict(memory.holders[0].modules) == {
        "transformer.blocks.1": 200 * MIB, "transformer.blocks.0": 100 * MIB
    }  # fmt: skip


def test_nothing_is_guessed_where_memory_was_not_recorded(failed: Timeline) -> None:
    run = make_run({}, make_manifest(complete=False, incomplete_reason="torch.OutOfMemoryError: no words"))
    blank = memory_holders(replace(failed, run=run), at(98))
    assert (blank.holders, blank.allocated_bytes, blank.other_bytes, blank.unallocated_bytes) == ([], None, None, None)
    assert memory_holder_lines(blank) == ["out of device memory"]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_samples_that_are_no_amount_count_for_nothing(failed: Timeline, value: float) -> None:
    failed.run.counters["value"] = value
    failed.run.manifest.incomplete_reason = "OutOfMemoryError: "
    summary = summarize(failed)
    assert (summary.peak_allocated_bytes, summary.peak_reserved_bytes) == (None, None)
    assert summary.out_of_memory is not None
    assert (summary.out_of_memory.allocated_bytes, summary.out_of_memory.unallocated_bytes) == (None, None)


@pytest.mark.parametrize("reason", ["", "MemoryError: here", "KeyboardInterrupt: "])
def test_a_run_that_ended_otherwise_has_no_holders(failed: Timeline, reason: str) -> None:
    failed.run.manifest.incomplete_reason = reason
    assert out_of_memory(failed) is None


def test_the_lines_say_who_held_how_much(failed: Timeline) -> None:
    memory = out_of_memory(failed)
    assert memory is not None
    assert memory_holder_lines(memory) == [
        "out of device memory in transformer.blocks.1.proj asking for 1.50 GiB: 300 MiB of 12.0 GiB was allocated",
        "  transformer's weights: 200 MiB of 301 MiB (transformer.blocks.1.proj 200 MiB)",
        "  text_encoder's weights: 40.0 MiB, all of them",
        "  activations, inputs, workspaces: 60.0 MiB",
        "  reserved and not in use (fragmentation): 2.25 MiB",
    ]


def test_the_summary_shows_them_under_its_verdict(failed: Timeline) -> None:
    printed = io.StringIO()
    render_summary(summarize(failed), Console(file=printed, width=80))
    text = " ".join(printed.getvalue().split())
    assert all(line.strip() in text for line in memory_holder_lines(out_of_memory(failed)))

"""Onloads cold against warm, by parameter, module and component."""

from __future__ import annotations

import dataclasses

import pytest
from builders import COLD_BYTES_PER_US, US, WARM_BYTES_PER_US, build_run, make_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.model import RunData, TransferRow


def rows(run: RunData) -> dict[tuple[str, str], TransferRow]:
    return {(row.fqn, row.parameter): row for row in summarize(build_timeline(run)).transfers}


LEAF = "transformer.transformer_blocks.0.ff.proj"


def test_components_then_modules_then_parameters_each_by_excess() -> None:
    transfers = summarize(build_timeline(build_run(steps=3))).transfers
    levels = [2 if row.parameter else 1 if "." in row.fqn else 0 for row in transfers]
    assert levels == sorted(levels)
    assert {row.fqn for row in transfers if "." not in row.fqn} == {"transformer", "text_encoder", "vae"}
    for level in range(3):
        excess = [row.excess_ns for row, own in zip(transfers, levels, strict=True) if own == level]
        known = [ns for ns in excess if ns is not None]
        assert excess == sorted(known, reverse=True) + [None] * (len(excess) - len(known))


def test_a_parameter_and_its_module_cold_against_warm() -> None:
    found = rows(build_run(steps=4))
    weight, module = found[LEAF, "weight"], found[LEAF, ""]
    assert (weight.onloads, weight.weight_bytes, weight.warm_samples) == (4, 8_000_000, 3)
    assert weight.first_ns == 8_000_000 * US // COLD_BYTES_PER_US
    assert weight.warm_ns == weight.warm_low_ns == weight.warm_high_ns == 8_000_000 * US // WARM_BYTES_PER_US
    assert weight.excess_ns == weight.first_ns - weight.warm_ns
    assert weight.first_paged
    assert weight.first_read_bytes == 6_000_000
    assert module.first_ns == weight.first_ns + found[LEAF, "bias"].first_ns
    assert found["transformer", ""].weight_bytes == sum(
        row.weight_bytes for (fqn, name), row in found.items() if name and fqn.startswith("transformer.")
    )


def test_a_module_onloaded_once_has_no_warm_sample_and_two_runs_give_one() -> None:
    once = rows(build_run(runs=1))["text_encoder", ""]
    assert (once.onloads, once.warm_samples, once.warm_ns, once.excess_ns) == (1, 0, None, None)
    twice = rows(build_run(runs=2))
    for component in ("text_encoder", "vae"):
        assert twice[component, ""].warm_samples == 1
        assert twice[component, ""].excess_ns > 0


def test_onloads_that_paged_are_no_warm_samples() -> None:
    run = build_run(steps=4)
    late = run.host_samples.assign(resident_before=0.5)
    assert rows(dataclasses.replace(run, host_samples=late))[LEAF, "weight"].warm_samples == 0


def test_what_was_not_probed_is_unknown_and_not_zero() -> None:
    run = build_run()
    found = rows(dataclasses.replace(run, host_samples=run.host_samples.iloc[:0]))
    assert found[LEAF, "weight"].first_read_bytes is None
    assert not found[LEAF, "weight"].first_paged


def test_an_onload_of_part_of_a_module_is_no_sample_of_the_whole() -> None:
    own = {"direction": "H2D", "fqn": "unet.a"}
    copies = [
        own | {"copy_id": 0, "parameter": "w", "size_bytes": 100, "start_ns": 0, "end_ns": 50},
        own | {"copy_id": 1, "parameter": "b", "size_bytes": 100, "start_ns": 50, "end_ns": 90},
        own | {"copy_id": 2, "parameter": "w", "size_bytes": 100, "start_ns": 100, "end_ns": 110},
    ]
    found = rows(make_run({"copies": copies}))
    assert (found["unet.a", ""].first_ns, found["unet.a", ""].warm_ns) == (90, None)
    assert found["unet.a", "w"].warm_ns == 10


@settings(max_examples=15)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(1, 5))
def test_excess_is_zero_when_cold_equals_warm(durations: list[int], later: int) -> None:
    copies = []
    now = 0
    for onload in range(later + 1):
        for place, duration in enumerate(durations):
            row = {"copy_id": len(copies), "direction": "H2D", "fqn": f"unet.{place}", "parameter": "w"}
            copies.append(row | {"size_bytes": 10, "start_ns": now, "end_ns": now + duration, "run_index": onload})
            now += duration + 5
    found = rows(make_run({"copies": copies}))
    assert {row.excess_ns for row in found.values()} == {0}
    assert found["unet", ""].first_ns == sum(durations)


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_modules_have_the_figures_of_their_transfers(device: str) -> None:
    summary = summarize(build_timeline(build_run(device=device)))
    found = {row.fqn: row for row in summary.transfers if "." in row.fqn and not row.parameter}
    assert len(found) == len(summary.modules)
    for module in summary.modules:
        row = found[module.fqn]
        assert (module.first_ns, module.warm_ns, module.onloads) == (row.first_ns, row.warm_ns, row.onloads)

"""In every mode the emulated device counts the copies that the mode must make, and the pictures stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from expectations import PipelineFacts, expected_copies, total_bytes
from tiny_runs import NAMES, STEPS, SetupRecorder, call, make

from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.offload.residency import resident_parameters

_MODES = {
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "sequential, anonymous": OffloadOptions(mode="sequential", host_memory="anonymous"),
    "partial, smallest": OffloadOptions(mode="partial", resident_bytes=2_000_000),
    "partial, largest": OffloadOptions(mode="partial", resident_bytes=2_000_000, resident_order="largest"),
    "partial, anonymous": OffloadOptions(mode="partial", resident_bytes=2_000_000, host_memory="anonymous"),
    "group, leaves": OffloadOptions(mode="group"),
    "group, blocks": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=1),
    "group, pairs of blocks": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=2),
}


class _Base:
    """What a resident pipeline copies in a run (no weight), and what it makes; measured once a pipeline."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._known: dict[str, tuple[Any, torch.Tensor]] = {}

    def __call__(self, name: str) -> tuple[Any, torch.Tensor]:
        if name not in self._known:
            pipeline = make(name)
            apply_offload(pipeline, OffloadOptions(mode="resident"), "emulated:0", SetupRecorder())
            self._device.reset_counters()
            output = call(pipeline)
            self._known[name] = self._device.counters(), output
        return self._known[name]


@pytest.fixture(scope="session")
def resident_run(emulated: Any) -> _Base:
    return _Base(emulated)


def _resident_fqns(pipeline: Any, options: OffloadOptions) -> frozenset[str]:
    if options.mode != "partial":
        return frozenset()
    return frozenset(
        f"{component}.{name}" for component, names in resident_parameters(pipeline, options).items() for name in names
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", _MODES.values(), ids=_MODES.keys())
def test_copies_and_output(
    name: str,
    options: OffloadOptions,
    emulated: Any,
    facts_of: Callable[[str], PipelineFacts],
    resident_run: _Base,
    cpu_output: Callable[[str], torch.Tensor],
    setup_spans: SetupRecorder,
) -> None:
    # A second run shows what differs once everything has been offloaded; one pipeline is enough for that.
    runs = 2 if name == "wan-tiny" else 1
    base, resident_output = resident_run(name)
    pipeline = make(name)
    resident = _resident_fqns(pipeline, options)
    assert bool(resident) == (options.mode == "partial")
    expected = expected_copies(facts_of(name), options, STEPS, runs=runs, resident=resident)

    emulated.reset_counters()
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    at_setup = emulated.counters()
    assert (at_setup.h2d_count, at_setup.h2d_bytes) == (expected.setup.total(), total_bytes(expected.setup))
    assert at_setup.d2h_count == 0
    assert (setup_spans.h2d_count, setup_spans.d2h_count) == (at_setup.h2d_count, 0), "a copy outside every set-up span"

    emulated.reset_counters()
    outputs = [call(pipeline) for _ in range(runs)]
    ran = emulated.counters()
    assert ran.h2d_count - runs * base.h2d_count == expected.h2d.total()
    assert ran.h2d_bytes - runs * base.h2d_bytes == total_bytes(expected.h2d)
    assert ran.d2h_count - runs * base.d2h_count == expected.d2h.total()
    assert ran.d2h_bytes - runs * base.d2h_bytes == total_bytes(expected.d2h)

    for output in outputs:
        assert torch.equal(output, resident_output)
        torch.testing.assert_close(output, cpu_output(name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_resident_moves_each_weight_once(
    name: str, emulated: Any, facts_of: Callable[[str], PipelineFacts], setup_spans: SetupRecorder
) -> None:
    pipeline = make(name)
    expected = expected_copies(facts_of(name), OffloadOptions(mode="resident"), STEPS)
    emulated.reset_counters()
    apply_offload(pipeline, OffloadOptions(mode="resident"), "emulated", setup_spans)
    counted = emulated.counters()
    assert (counted.h2d_count, counted.h2d_bytes) == (expected.setup.total(), total_bytes(expected.setup))
    assert setup_spans.h2d_count == counted.h2d_count


def test_nothing_resident_is_sequential(emulated: Any, setup_spans: SetupRecorder) -> None:
    counted = []
    for options in (OffloadOptions(mode="sequential"), OffloadOptions(mode="partial", resident_bytes=0)):
        pipeline = make("wan-tiny")
        emulated.reset_counters()
        apply_offload(pipeline, options, "emulated:0", setup_spans)
        output = call(pipeline)
        counters = emulated.counters()
        counted.append((counters.h2d_count, counters.h2d_bytes, counters.d2h_count, output))
    assert counted[0][:3] == counted[1][:3]
    assert torch.equal(counted[0][3], counted[1][3])


def test_everything_resident_streams_no_denoiser_weight(
    emulated: Any, facts_of: Callable[[str], PipelineFacts], setup_spans: SetupRecorder
) -> None:
    pipeline = make("wan-tiny")
    options = OffloadOptions(mode="partial", resident_parameters=frozenset({"transformer"}))
    resident = _resident_fqns(pipeline, options)
    expected = expected_copies(facts_of("wan-tiny"), options, STEPS, resident=resident)
    assert {weight.component for weight in expected.h2d} == {"text_encoder", "vae"}
    emulated.reset_counters()
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    assert emulated.counters().h2d_bytes == total_bytes(expected.setup)


def test_a_single_parameter_can_be_resident(
    emulated: Any, facts_of: Callable[[str], PipelineFacts], setup_spans: SetupRecorder, resident_run: _Base
) -> None:
    # Wan's blocks own a parameter beside their submodules; here also one half of a Linear.
    resident = frozenset({"transformer.blocks.0.scale_shift_table", "transformer.blocks.0.attn1.to_q.weight"})
    options = OffloadOptions(mode="partial", resident_parameters=resident)
    base, resident_output = resident_run("wan-tiny")
    expected = expected_copies(facts_of("wan-tiny"), options, STEPS, resident=resident)
    pipeline = make("wan-tiny")
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    emulated.reset_counters()
    output = call(pipeline)
    counted = emulated.counters()
    assert counted.h2d_count - base.h2d_count == expected.h2d.total()
    assert counted.h2d_bytes - base.h2d_bytes == total_bytes(expected.h2d)
    assert torch.equal(output, resident_output)


def test_group_to_disk(
    tmp_path: Any,
    emulated: Any,
    facts_of: Callable[[str], PipelineFacts],
    setup_spans: SetupRecorder,
    resident_run: _Base,
) -> None:
    options = OffloadOptions(
        mode="group", group_level="block_level", blocks_per_group=1, disk_path=str(tmp_path / "groups")
    )
    base, resident_output = resident_run("wan-tiny")
    expected = expected_copies(facts_of("wan-tiny"), options, STEPS)
    pipeline = make("wan-tiny")
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    assert {folder.name for folder in (tmp_path / "groups").iterdir()} == {"text_encoder", "transformer", "vae"}
    emulated.reset_counters()
    output = call(pipeline)
    counted = emulated.counters()
    assert counted.h2d_count - base.h2d_count == expected.h2d.total()
    assert counted.h2d_bytes - base.h2d_bytes == total_bytes(expected.h2d)
    assert counted.d2h_count == base.d2h_count
    assert torch.equal(output, resident_output)


def test_shared_weights_stay_out_of_disk_groups(tmp_path: Any, setup_spans: SetupRecorder, resident_run: _Base) -> None:
    # T5's embedding belongs to two modules: diffusers would save it as it is after the first group took it.
    options = OffloadOptions(mode="group", group_level="leaf_level", disk_path=str(tmp_path / "groups"))
    pipeline = make("flux-tiny")
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    assert {folder.name for folder in (tmp_path / "groups").iterdir()} == {"text_encoder", "transformer", "vae"}
    assert torch.equal(call(pipeline), resident_run("flux-tiny")[1])

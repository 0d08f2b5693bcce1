"""What is foretold not to fit does not fit, and what would fit is said."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
import torch
from tiny_runs import SetupRecorder, call, make

from tracekit.errors import UsageError
from tracekit.offload.apply import apply_offload
from tracekit.offload.fits import check_fits, needed_bytes
from tracekit.offload.options import OffloadOptions

_MODES = {
    "resident": OffloadOptions(mode="resident"),
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "partial": OffloadOptions(mode="partial", resident_bytes=2_000_000),
    "group, leaves": OffloadOptions(mode="group"),
    "group, blocks": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=2),
}


@pytest.mark.parametrize("options", _MODES.values(), ids=_MODES.keys())
def test_the_device_really_holds_that_much_at_once(options: OffloadOptions, emulated: Any) -> None:
    pipeline = make("wan-tiny")
    need = needed_bytes(pipeline, options)
    gc.collect()  # what earlier tests left behind, and what might go meanwhile
    held = emulated.memory().allocated_bytes
    emulated.reset_peak()
    apply_offload(pipeline, options, "emulated:0", SetupRecorder())
    call(pipeline)
    assert 0 < need <= emulated.memory().peak_allocated_bytes - held


@pytest.mark.parametrize("mode", ["resident", "model"])
def test_a_refused_mode_would_have_run_out_of_memory(mode: str, emulated: Any) -> None:
    pipeline = make("wan-tiny")
    options = OffloadOptions(mode=mode)
    cap = needed_bytes(pipeline, options) - 1
    with pytest.raises(UsageError, match=f"mode {mode} needs"):
        check_fits(pipeline, options, cap)
    # What earlier tests left behind must not make room later.
    gc.collect()
    torch.emulated.empty_cache()
    emulated.set_cap(emulated.memory().allocated_bytes + cap)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            _apply_and_call(pipeline, options)
    finally:
        emulated.set_cap(None)


def _apply_and_call(pipeline: Any, options: OffloadOptions) -> None:
    apply_offload(pipeline, options, "emulated:0", SetupRecorder())
    call(pipeline)


def test_exactly_enough_is_enough() -> None:
    pipeline = make("wan-tiny")
    for options in _MODES.values():
        need = needed_bytes(pipeline, options)
        check_fits(pipeline, options, need)
        check_fits(pipeline, options, None)
        with pytest.raises(UsageError, match="on the device for weights alone"):
            check_fits(pipeline, options, need - 1)


def test_tied_weights_count_once() -> None:
    pipeline = make("wan-tiny")
    encoder = pipeline.text_encoder
    assert encoder.shared.weight is encoder.encoder.embed_tokens.weight
    parts = (encoder, pipeline.transformer, pipeline.vae)
    once = sum(tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers()))
    assert needed_bytes(pipeline, OffloadOptions(mode="resident")) == once


def test_it_says_by_how_much_and_what_would_fit() -> None:
    pipeline = make("wan-tiny")
    model = needed_bytes(pipeline, OffloadOptions(mode="model"))
    with pytest.raises(UsageError) as refused:
        check_fits(pipeline, OffloadOptions(mode="resident"), model)
    message = str(refused.value)
    assert re.search(r"mode resident needs [\d.]+ MiB .*, [\d.]+ KiB above the cap of [\d.]+ MiB", message)
    for fitting in ("mode model", "mode sequential", "group offload at leaf_level", "group offload at block_level"):
        assert f"{fitting} (" in message
    assert "\n" not in message


def test_it_says_which_resident_budget_would_fit() -> None:
    pipeline = make("wan-tiny")
    floor = needed_bytes(pipeline, OffloadOptions(mode="sequential"))
    options = OffloadOptions(mode="partial", resident_bytes=3_000_000)
    with pytest.raises(UsageError, match=r"a resident budget of at most 1\.00 MiB would fit"):
        check_fits(pipeline, options, floor + 2**20)
    check_fits(pipeline, OffloadOptions(mode="partial", resident_bytes=2**20), floor + 2**20)


def test_nothing_fits() -> None:
    with pytest.raises(UsageError, match="no mode fits: even sequential offload needs"):
        check_fits(make("wan-tiny"), OffloadOptions(mode="model"), 1000)

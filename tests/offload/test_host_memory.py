"""The host copy of the weights is held as asked: in the file, or in memory of the process's own, tied weights tied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import SetupRecorder, call, make

from tracekit.offload.apply import apply_offload
from tracekit.offload.host_memory import hold_host_copy
from tracekit.offload.options import OffloadOptions
from tracekit.offload.weights import components, tensors


def _mapped_files() -> list[tuple[range, str]]:
    """The address ranges in which safetensors files are mapped into this process."""
    rows = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    return [
        (range(*(int(end, 16) for end in row[0].split("-"))), row[5])
        for row in rows
        if row[-1].endswith(".safetensors")
    ]


def _in_a_file(tensor: torch.Tensor) -> bool:
    return any(tensor.data_ptr() in addresses for addresses, _ in _mapped_files())


def _touched_file_bytes() -> int:
    """Bytes of mapped safetensors files that this process has in its page tables."""
    total, counting = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counting = line.endswith(".safetensors")
        elif counting and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def _weights(pipeline: Any) -> list[torch.Tensor]:
    return [tensor for part in components(pipeline).values() for tensor in part.parameters()]


def test_weights_as_loaded_stay_in_their_files_and_no_page_of_them_is_touched(setup_spans: SetupRecorder) -> None:
    pipeline = make("flux-tiny")
    weights = _weights(pipeline)
    assert all(_in_a_file(weight) for weight in weights)
    before = _touched_file_bytes()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), "emulated:0", setup_spans)
    assert _touched_file_bytes() == before
    del weights
    pipeline.remove_all_hooks()
    assert all(_in_a_file(weight) for weight in _weights(pipeline))


def test_anonymous_weights_leave_their_files(setup_spans: SetupRecorder) -> None:
    pipeline = make("flux-tiny")
    before = {name: part.state_dict() for name, part in components(pipeline).items()}
    owned = {name: [id(tensor) for tensor in tensors(part)] for name, part in components(pipeline).items()}
    hold_host_copy(components(pipeline), "anonymous", setup_spans)
    assert not any(_in_a_file(weight) for weight in _weights(pipeline))
    assert setup_spans.names == [f"clone host copy: {name}" for name in components(pipeline)]
    for name, part in components(pipeline).items():
        assert [id(tensor) for tensor in tensors(part)] == owned[name], "a weight was replaced, not its memory"
        for key, tensor in part.state_dict().items():
            assert torch.equal(tensor, before[name][key])


def test_as_loaded_does_nothing(setup_spans: SetupRecorder) -> None:
    pipeline = make("wan-tiny")
    before = [weight.data_ptr() for weight in _weights(pipeline)]
    hold_host_copy(components(pipeline), "as-loaded", setup_spans)
    assert [weight.data_ptr() for weight in _weights(pipeline)] == before
    assert setup_spans.names == []


def test_ties_survive_by_identity_by_memory_and_across_components(setup_spans: SetupRecorder) -> None:
    first, second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
    second.weight = torch.nn.Parameter(first.weight.data)
    second.bias = first.bias
    hold_host_copy({"first": first, "second": second}, "anonymous", setup_spans)
    assert second.bias is first.bias
    assert second.weight.data_ptr() == first.weight.data_ptr()
    assert second.bias.data_ptr() == first.bias.data_ptr()


def test_strides_survive(setup_spans: SetupRecorder) -> None:
    conv = torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    stride = conv.weight.stride()
    hold_host_copy({"vae": conv}, "anonymous", setup_spans)
    assert conv.weight.stride() == stride


def test_what_is_resident_has_no_host_copy_made(emulated: Any, setup_spans: SetupRecorder) -> None:
    pipeline = make("wan-tiny")
    options = OffloadOptions(mode="partial", resident_parameters=frozenset({"transformer"}), host_memory="anonymous")
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    assert {weight.device.type for weight in pipeline.transformer.parameters()} == {"emulated"}
    assert setup_spans.d2h_count == 0
    call(pipeline)
    assert {weight.device.type for weight in pipeline.transformer.parameters()} == {"emulated"}


@pytest.mark.cuda
def test_pinned_weights_are_page_locked_and_fit_tightly() -> None:
    parts = {"transformer": torch.nn.Sequential(*(torch.nn.Linear(1100, 1100) for _ in range(20)))}
    parts["transformer"][0].weight.data = parts["transformer"][0].weight.data.t()
    before = {name: tensor.clone() for name, tensor in parts["transformer"].state_dict().items()}
    strides = [weight.stride() for weight in parts["transformer"].parameters()]
    hold_host_copy(parts, "pinned", SetupRecorder())
    assert all(weight.is_pinned() for weight in parts["transformer"].parameters())
    assert [weight.stride() for weight in parts["transformer"].parameters()] == strides
    for name, tensor in parts["transformer"].state_dict().items():
        assert torch.equal(tensor, before[name])
    blocks = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in parts["transformer"].parameters()}
    weights = sum(weight.nbytes for weight in parts["transformer"].parameters())
    # One allocation each would be rounded up to powers of two: 1.73 times as much. The last blocks are small ones.
    assert sum(blocks.values()) < 1.1 * weights

"""The private names of other libraries that capture relies on: a version that moves one fails here, by name."""

from __future__ import annotations

import inspect

import accelerate.hooks
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DiffusionPipeline
from diffusers.hooks.group_offloading import ModuleGroup
from torch import nn

NAMES = [
    (nn.Module, "_apply", ["self", "fn", "recurse"]),
    (accelerate.hooks, "set_module_tensor_to_device", ["module", "tensor_name", "device"]),
    (accelerate.hooks.AlignDevicesHook, "pre_forward", ["self", "module"]),
    (accelerate.hooks.AlignDevicesHook, "post_forward", ["self", "module", "output"]),
    (accelerate.hooks.CpuOffload, "pre_forward", ["self", "module"]),
    (accelerate.hooks.UserCpuOffloadHook, "offload", ["self"]),
    (ModuleGroup, "onload_", ["self"]),
    (ModuleGroup, "offload_", ["self"]),
    (ModuleGroup, "_transfer_tensor_to_device", ["self", "tensor", "source_tensor"]),
    (DiffusionPipeline, "register_modules", ["self"]),
    (DiffusionPipeline, "maybe_free_model_hooks", ["self"]),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), NAMES, ids=[name for _, name, _ in NAMES])
def test_a_patched_function_is_there_with_its_parameters(owner, name: str, parameters: list[str]) -> None:
    found = list(inspect.signature(getattr(owner, name)).parameters)
    assert found[: len(parameters)] == parameters


def test_accelerate_keeps_offloaded_weights_where_the_registry_looks() -> None:
    from tracekit.capture.registry import module_weights

    linear = nn.Linear(3, 4)
    weight = linear.weight.detach().clone()
    cpu_offload(linear, "meta")
    held = {found.name: found.tensor for found in module_weights(linear)}
    assert linear.weight.is_meta
    assert held["weight"] is not None
    assert torch.equal(held["weight"], weight)


def test_a_compiled_module_is_known_by_its_private_attribute() -> None:
    linear = nn.Linear(3, 4)
    assert linear._compiled_call_impl is None
    linear.compile(backend="eager")
    assert linear._compiled_call_impl is not None


def test_diffusers_group_has_what_its_labels_are_read_from() -> None:
    parameters = inspect.signature(ModuleGroup.__init__).parameters
    assert {"modules", "parameters", "buffers"} <= set(parameters)


@pytest.mark.cuda
def test_the_current_streams_id_is_what_torch_says() -> None:
    side = torch.cuda.Stream()
    for stream in (torch.cuda.current_stream(), side):
        with torch.cuda.stream(stream):
            assert torch._C._cuda_getCurrentStream(0)[0] == torch.cuda.current_stream().stream_id


def test_torch_tells_whether_a_profiler_is_on() -> None:
    assert not torch.autograd._profiler_enabled()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        assert torch.autograd._profiler_enabled()


@pytest.mark.cuda
def test_the_allocator_tells_whether_its_history_is_on() -> None:
    assert torch._C._cuda_isHistoryEnabled() is False


def test_the_allocators_history_can_be_asked_for() -> None:
    assert {"enabled", "context", "stacks", "max_entries", "device"} <= set(
        inspect.signature(torch.cuda.memory._record_memory_history).parameters
    )

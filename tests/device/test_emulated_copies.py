"""Copies: any dtype, shape and stride arrives as on the CPU, and each is exactly one counted memcpy."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracekit.device.emulated import DeviceCounters, EmulatedDevice

# The fixture only brings the device into its first state, which each example needs no more than once.
property_test = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip
dtypes = st.sampled_from(DTYPES)
shapes = st.lists(st.integers(0, 5), max_size=4)


def values(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(torch.Size(shape).numel()) % 97).to(dtype).reshape(shape)


@st.composite
def views(draw: st.DrawFn, dtypes: st.SearchStrategy[torch.dtype] = dtypes) -> torch.Tensor:
    """A tensor that may be permuted, cut, broadcast, or all of these."""
    tensor = values(draw(shapes), draw(dtypes))
    if tensor.dim():
        tensor = tensor.permute(draw(st.permutations(range(tensor.dim()))))
        dim = draw(st.integers(0, tensor.dim() - 1))
        tensor = tensor[(slice(None),) * dim + (slice(draw(st.integers(0, 3)), None, draw(st.integers(1, 3))),)]
    return tensor.expand(3, *tensor.shape) if draw(st.booleans()) else tensor


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.dtype is torch.float8_e4m3fn:  # torch.equal does not know it
        return right.dtype is left.dtype and torch.equal(left.float(), right.float())
    return left.dtype is right.dtype and torch.equal(left, right)


def link_traffic(counters: DeviceCounters) -> tuple[tuple[int, int], tuple[int, int]]:
    """(count, bytes) of each direction."""
    return (counters.h2d_count, counters.h2d_bytes), (counters.d2h_count, counters.d2h_bytes)


def one_copy(tensor: torch.Tensor) -> tuple[int, int]:
    return (1, tensor.numel() * tensor.itemsize) if tensor.numel() else (0, 0)


@property_test
@given(tensor=views())
def test_round_trip_is_the_same_tensor_and_one_copy_each_way(device: EmulatedDevice, tensor: torch.Tensor) -> None:
    device.reset_counters()
    on_device = tensor.to("emulated")
    assert link_traffic(device.counters()) == (one_copy(tensor), (0, 0))
    assert same_bits(on_device.cpu(), tensor)
    assert link_traffic(device.counters()) == (one_copy(tensor), one_copy(tensor))


@property_test
@given(
    source=views(st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])),
    dtype=dtypes,
    non_blocking=st.booleans(),
)
def test_converting_copies_give_the_cpus_values_and_move_what_cuda_moves(
    device: EmulatedDevice, source: torch.Tensor, dtype: torch.dtype, non_blocking: bool
) -> None:
    """CUDA converts on the host in a blocking copy, on the device in a non-blocking one."""
    expected = source.to(dtype)
    on_device = source.to("emulated")
    host_dtype_up, host_dtype_down = one_copy(source), one_copy(expected)
    device_dtype_up, device_dtype_down = one_copy(expected), one_copy(source)
    device.reset_counters()
    up = source.to("emulated", dtype, non_blocking=non_blocking)
    assert link_traffic(device.counters()) == (host_dtype_up if non_blocking else device_dtype_up, (0, 0))
    device.reset_counters()
    down = on_device.to("cpu", dtype, non_blocking=non_blocking)
    assert link_traffic(device.counters()) == ((0, 0), host_dtype_down if non_blocking else device_dtype_down)
    assert same_bits(up.cpu(), expected)
    assert same_bits(down, expected)
    assert not down.is_pinned()


@property_test
@given(source=views(), to_device=st.booleans(), data=st.data())
def test_copies_into_a_view_touch_only_the_view(
    device: EmulatedDevice, source: torch.Tensor, to_device: bool, data: st.DataObject
) -> None:
    frame = torch.zeros([2 * size + 1 for size in source.shape], dtype=source.dtype)
    window = tuple(slice(data.draw(st.integers(0, 1)), 2 * size, 2) for size in source.shape)
    expected = frame.clone()
    expected[window].copy_(source)
    where, other = ("emulated", "cpu") if to_device else ("cpu", "emulated")
    target, source = frame.to(where), source.to(other)
    device.reset_counters()
    target[window].copy_(source)
    up, down = link_traffic(device.counters())
    assert (up, down) == ((one_copy(source), (0, 0)) if to_device else ((0, 0), one_copy(source)))
    assert same_bits(target.cpu(), expected)


@property_test
@given(tensor=views())
def test_copies_on_the_device_do_not_cross_the_link(device: EmulatedDevice, tensor: torch.Tensor) -> None:
    on_device = tensor.to("emulated")
    device.reset_counters()
    copies = [on_device.clone(), on_device.contiguous(), on_device.double() if not tensor.is_complex() else on_device]
    assert link_traffic(device.counters()) == ((0, 0), (0, 0))
    for copy, expected in zip(
        copies, [tensor, tensor, tensor if tensor.is_complex() else tensor.double()], strict=True
    ):
        assert same_bits(copy.cpu(), expected)


def test_dense_copy_on_the_device_is_a_memcpy_and_a_strided_one_a_kernel(device: EmulatedDevice) -> None:
    matrix = torch.ones(8, 4).to("emulated")
    device.reset_counters()
    matrix.clone()
    assert (device.counters().d2d_count, device.counters().d2d_bytes, device.counters().kernel_count) == (1, 128, 0)
    matrix.t().contiguous()
    assert (device.counters().d2d_count, device.counters().kernel_count) == (1, 1)


def test_copy_reads_straight_from_the_mapped_file(device: EmulatedDevice, tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.arange(4096.0)}, tmp_path / "w.safetensors")
    weight = safetensors.torch.load_file(tmp_path / "w.safetensors")["weight"]
    device.start_log()
    weight.to("emulated")
    (copy,) = [op for op in device.take_log() if op.op == "memcpy"]
    assert copy.host_address == weight.data_ptr()
    assert str(tmp_path / "w.safetensors") in mapping_of(copy.host_address)


def mapping_of(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line
    raise AssertionError(f"{address:#x} is not mapped")


def test_load_file_to_the_device_is_one_copy_a_tensor_from_the_file(device: EmulatedDevice, tmp_path: Path) -> None:
    stored = {"a": torch.arange(512.0), "b": torch.arange(256.0)}
    safetensors.torch.save_file(stored, tmp_path / "w.safetensors")
    device.start_log()
    loaded = safetensors.torch.load_file(tmp_path / "w.safetensors", device="emulated")
    copies = [op for op in device.take_log() if op.op == "memcpy"]
    assert sorted(copy.size_bytes for copy in copies) == [1024, 2048]
    assert all(torch.equal(loaded[name].cpu(), stored[name]) for name in stored)


def test_conjugated_and_negated_tensors_arrive_resolved(device: EmulatedDevice) -> None:
    tensor = torch.view_as_complex(torch.arange(8.0).reshape(4, 2))
    assert torch.equal(tensor.conj().to("emulated").cpu(), tensor.conj())
    assert torch.equal(tensor.to("emulated").conj().cpu(), tensor.conj())
    assert torch.equal(tensor.to("emulated").conj().imag.cpu(), tensor.conj().imag)


def test_item_and_truth_value_are_one_small_copy(device: EmulatedDevice) -> None:
    number = torch.tensor([2.5], device="emulated")
    device.reset_counters()
    assert number.item() == 2.5
    assert bool(number)
    assert link_traffic(device.counters()) == ((0, 0), (2, 8))


def test_indices_on_the_host_are_copied_once(device: EmulatedDevice) -> None:
    tensor = torch.arange(5.0, device="emulated")
    device.reset_counters()
    picked = tensor[torch.tensor([1, 3])]
    assert link_traffic(device.counters()) == ((1, 16), (0, 0))
    assert picked.tolist() == [1, 3]


@pytest.mark.parametrize("device_name", ["emulated", "emulated:0"])
def test_to_where_it_is_copies_nothing(device: EmulatedDevice, device_name: str) -> None:
    tensor = torch.ones(3, device="emulated")
    device.reset_counters()
    assert tensor.to(device_name) is tensor
    assert link_traffic(device.counters()) == ((0, 0), (0, 0))

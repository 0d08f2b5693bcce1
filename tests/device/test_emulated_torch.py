"""What torch code may expect of a device: works as on CUDA, or is refused in one clear sentence."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from tracekit.device.emulated import EmulatedDevice, load

pytestmark = pytest.mark.usefixtures("device")


def test_loading_again_gives_the_same_device_to_every_thread() -> None:
    found: list[EmulatedDevice] = []
    threads = [threading.Thread(target=lambda: found.append(load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(device) for device in found} == {id(load())}
    assert torch.accelerator.current_accelerator() == torch.device("emulated")


# --- moving modules and their data -------------------------------------------------------------------------------


def test_module_to_keeps_parameter_objects_as_on_cuda() -> None:
    layer = torch.nn.Linear(3, 2)
    weight = layer.weight
    layer.to("emulated")
    assert layer.weight is weight
    assert weight.device == torch.device("emulated", 0)
    assert layer.cpu().weight is weight


def test_parameter_data_may_be_set_to_a_tensor_of_another_device() -> None:
    """Group offload does this; torch allows it to its own backends through an operator that tensors.cpp defines."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    host = torch.ones(3)
    parameter.data = host.to("emulated")
    assert parameter.device.type == "emulated"
    parameter.data = host
    assert parameter.device.type == "cpu"
    assert parameter.data_ptr() == host.data_ptr()


def test_deep_copy_and_serialisation() -> None:
    tensor = torch.arange(3.0, device="emulated")
    assert copy.deepcopy(torch.nn.Linear(2, 2).to("emulated")).weight.device.type == "emulated"
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    for location, device_type in ((None, "emulated"), ("cpu", "cpu")):
        buffer.seek(0)
        loaded = torch.load(buffer, map_location=location)
        assert (loaded.device.type, loaded.tolist()) == (device_type, [0, 1, 2])


# --- kernels -----------------------------------------------------------------------------------------------------


def on_both(function: object, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return function(*tensors), function(*(tensor.to("emulated") for tensor in tensors))  # type: ignore[operator]


KERNELS = {
    "matmul": lambda x: x @ x.mT,
    "softmax": lambda x: x.softmax(-1),
    "layer norm": lambda x: F.layer_norm(x, (8,)),
    "group norm": lambda x: F.group_norm(x, 2),
    "rms norm": lambda x: F.rms_norm(x, (8,)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "masked attention": lambda x: F.scaled_dot_product_attention(x, x, x, x[..., :1, :].mT > 0),
    "conv2d": lambda x: F.conv2d(x, x[:, :, :3, :3].contiguous(), padding=1),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, x[:1].mT.reshape(4, 1, 8, 8).contiguous(), stride=2),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "reflection pad": lambda x: F.pad(x, (1, 1, 2, 2), mode="reflect"),
    "sort": lambda x: x.sort(-1).values,
    "split and cat": lambda x: torch.cat(x.split(3, dim=-1)[::-1], -1),
    "complex rotation": lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(-1, 2)) * 1j),
    "advanced indexing": lambda x: x[:, [1, 0], x[0, 0, 0] > 0],
    "in place": lambda x: x.clone().t_().mul_(2) if x.dim() == 2 else x.clone().transpose_(1, 2).mul_(2).relu_(),
    "bool reduction": lambda x: (x > 0).all(-1),
    "unfold": lambda x: x.unfold(-1, 3, 2) + 1,
    "cumsum to int": lambda x: x.cumsum(-1).to(torch.int64),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_kernels_give_the_cpus_bits_and_strides(name: str, dtype: torch.dtype) -> None:
    if name == "complex rotation" and dtype is torch.bfloat16:
        pytest.skip("torch has no complex bfloat16")
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected, result = on_both(KERNELS[name], sample)
    assert result.device.type == "emulated"
    assert torch.equal(result.cpu(), expected)
    assert result.stride() == expected.stride()


def test_views_share_memory_and_in_place_operations_return_their_tensor() -> None:
    tensor = torch.zeros(4, 4, device="emulated")
    tensor.unfold(0, 2, 2)[0].fill_(1)
    torch.view_as_complex(tensor.view(4, 2, 2))[3] = 2j
    assert tensor.tolist() == [[1.0] * 4, [1.0] * 4, [0.0] * 4, [0.0, 2.0] * 2]
    assert tensor.add_(1) is tensor


def test_out_tensors_are_resized_for_every_view_of_their_storage() -> None:
    out = torch.empty(0, device="emulated")
    assert torch.cumsum(torch.ones(3, device="emulated"), 0, out=out) is out
    assert out.tolist() == [1, 2, 3]
    assert out.untyped_storage().nbytes() == 12


def test_gradients_flow() -> None:
    layer = torch.nn.Linear(3, 3).to("emulated")
    F.gelu(layer(torch.ones(2, 3, device="emulated"))).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.device.type == "emulated"


@pytest.mark.parametrize(
    "operation",
    [
        lambda host, device: device + host,
        lambda host, device: F.linear(device, host),
        lambda host, device: F.conv1d(device, host[:, :, None]),
    ],
)
def test_a_weight_left_on_the_host_is_an_error_as_on_cuda(operation: object) -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        operation(torch.ones(2, 2), torch.ones(2, 2, device="emulated"))  # type: ignore[operator]


def test_single_numbers_on_the_host_may_be_mixed_in_as_on_cuda() -> None:
    assert (torch.ones(2, device="emulated") * torch.tensor(3.0)).tolist() == [3, 3]


# --- random numbers, autocast ------------------------------------------------------------------------------------


def test_generator_gives_the_cpus_numbers() -> None:
    generator = torch.Generator("emulated").manual_seed(7)
    state = generator.get_state()
    numbers = torch.randn(5, generator=generator, device="emulated")
    assert torch.equal(numbers.cpu(), torch.randn(5, generator=torch.Generator().manual_seed(7)))
    generator.set_state(state)
    assert torch.equal(torch.randn(5, generator=generator, device="emulated"), numbers)


def test_generator_of_another_device_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Expected a 'emulated' device type for generator but found 'cpu'"):
        torch.randn(5, generator=torch.Generator(), device="emulated")


def test_manual_seed_seeds_the_device() -> None:
    torch.manual_seed(3)
    state = torch.emulated.get_rng_state()
    numbers = torch.rand(4, device="emulated")
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4, device="emulated"), numbers)
    torch.emulated.set_rng_state(state)
    assert torch.equal(torch.rand(4, device="emulated"), numbers)


def test_autocast_switched_off_changes_nothing() -> None:
    with torch.autocast("emulated", enabled=False):
        assert torch.ones(2, 2, device="emulated").mm(torch.ones(2, 2, device="emulated")).dtype is torch.float32


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (lambda: torch.ones(2).pin_memory(), "no page-locked memory"),
        (lambda: torch.empty(2, pin_memory=True), "no page-locked memory"),
        (lambda: torch.empty(2, device="emulated", pin_memory=True), "Only dense CPU tensors can be pinned"),
        (lambda: torch.Stream(device="emulated"), "no streams"),
        (lambda: torch.emulated.Stream(), "no streams"),
        (lambda: torch.emulated.Event(), "no events"),
        (lambda: torch.Event(device="emulated").record(), "doesn't support events"),
        (lambda: torch.ones(2, device="emulated:1"), "there is one emulated device"),
        (lambda: torch.emulated.set_device(1), "there is one emulated device"),
        (lambda: torch.emulated.memory_allocated("emulated:3"), "there is one emulated device"),
        (lambda: torch.eye(2, device="emulated").to_sparse(), "dense tensors only"),
    ],
)
def test_refusals_say_why(attempt: object, reason: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=reason):
        attempt()  # type: ignore[operator]


def test_synchronising_returns_at_once() -> None:
    torch.emulated.synchronize()
    torch.accelerator.synchronize()
    assert not torch.ones(2).is_pinned()

"""Which device a name means, what it takes to get it ready, and how it is described."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tracekit.device.choice import DeviceChoice, prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.device.emulated import EmulatedDevice
from tracekit.device.machine import describe_machine
from tracekit.errors import MissingError, UsageError

EMULATED = DeviceChoice("emulated", "emulated:0")
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")


@pytest.mark.parametrize("name", ["emulated", "emulated:0"])
def test_emulated_by_name(name: str) -> None:
    assert resolve_device(name) == EMULATED


@needs_no_gpu
def test_auto_without_a_gpu_is_the_emulated_device() -> None:
    assert resolve_device() == EMULATED


@needs_no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_missing(name: str) -> None:
    with pytest.raises(MissingError, match="no CUDA GPU here; use --device emulated"):
        resolve_device(name)


def test_second_emulated_device_is_missing() -> None:
    with pytest.raises(MissingError, match="there is one emulated device"):
        resolve_device("emulated:1")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "emulated:-1", "auto:0", "mps"])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="give auto, cuda, cuda:N or emulated"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_cpu_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match="nothing is offloaded from cpu to cpu"):
        resolve_device(name)


def test_preparing_sets_cap_and_throttle_and_none_lifts_them(device: EmulatedDevice) -> None:
    prepare_device(EMULATED, cap_bytes=2**30, link_gbps=3.5)
    assert device.memory().cap_bytes == 2**30
    assert describe_device(EMULATED, 2**30).link == "emulated: memcpy, at most 3.5 GB/s"
    prepare_device(EMULATED, cap_bytes=None, link_gbps=None)
    assert device.memory().cap_bytes is None
    assert describe_device(EMULATED, None).link == "emulated: memcpy"


def test_a_cap_above_the_memory_is_refused(device: EmulatedDevice) -> None:
    with pytest.raises(UsageError, match=r"a cap of .* is above the .* GiB of the emulated device"):
        prepare_device(EMULATED, device.total_bytes() + 1, None)
    assert device.memory().cap_bytes is None


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_throttle_must_be_positive(device: EmulatedDevice, rate: float) -> None:
    with pytest.raises(UsageError, match="give a rate above zero"):
        prepare_device(EMULATED, None, rate)


def test_a_real_link_cannot_be_throttled() -> None:
    with pytest.raises(UsageError, match="a real link cannot be slowed down"):
        prepare_device(DeviceChoice("cuda", "cuda:0"), None, 4.0)


def test_description_says_emulated_everywhere(device: EmulatedDevice) -> None:
    info = describe_device(EMULATED, 5)
    assert (info.kind, info.torch_device, info.cap_bytes) == ("emulated", "emulated:0", 5)
    assert "mulated" in info.name
    assert info.total_bytes == device.total_bytes()


def test_machine_is_described_without_torch() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.ram_bytes > 2**28
    assert (machine.kernel, machine.python) == (os.uname().release, sys.version.split()[0])
    code = "import sys, tracekit.device.machine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=_with_package()).returncode == 0


def _with_package() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.cuda
def test_cuda_is_capped_and_described() -> None:
    choice = resolve_device("cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(UsageError, match="is above the"):
        prepare_device(choice, total + 1, None)
    with pytest.raises(MissingError, match=r"there is no cuda:99"):
        resolve_device("cuda:99")
    prepare_device(choice, 2**30, None)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2**30 + 2**21, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    info = describe_device(choice, 2**30)
    assert (info.kind, info.torch_device, info.total_bytes, info.cap_bytes) == ("cuda", "cuda:0", total, 2**30)
    assert info.link.startswith("PCIe ")
    assert info.driver

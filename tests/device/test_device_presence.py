"""Which device this process uses, told by what torch has loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tracekit.device.choice import DeviceChoice
from tracekit.device.presence import device_in_use, has_nvidia_driver, is_cuda_lost

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")


@needs_no_gpu
@pytest.mark.usefixtures("device")
def test_the_emulated_device_is_in_use_once_loaded() -> None:
    assert not has_nvidia_driver()
    assert device_in_use() == DeviceChoice("emulated", "emulated:0")


@needs_no_gpu
def test_no_device_is_in_use_before() -> None:
    code = "from tracekit.device.presence import device_in_use; print(device_in_use())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        == "None\n"
    )


def test_a_process_that_was_not_forked_has_lost_nothing() -> None:
    assert not is_cuda_lost()

"""Sample NVML's counters in a thread of its own: memory, utilisation, power, clocks, PCIe throughput and link."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pynvml

from tracekit.capture.collector import Collector
from tracekit.capture.recorder import Recorder

INTERVAL_S = 0.1
"""NVML refreshes most of its counters every 20 to 100 ms; asking for PCIe throughput itself takes 20 ms a direction."""


class NvmlSampler(Collector):
    """Writes nvml_* counters until it is closed. What the driver does not offer is left blank, with one warning."""

    def __init__(self, recorder: Recorder, device_uuid: str, device_index: int, warn: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._device_index = device_index
        self._warn = warn
        self._stop = threading.Event()
        self._handle = _handle(device_uuid)
        self._probes: list[Callable[[Any], dict[str, float]]] = [
            _memory,
            _utilisation,
            _power,
            _clocks,
            _link,
            _throughput,
        ]
        self._thread = threading.Thread(target=self._run, name="tracekit-nvml", daemon=True)

    def prime(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def close(self) -> None:
        """Stop sampling and let NVML go."""
        self._stop.set()
        self._thread.join(timeout=5)
        pynvml.nvmlShutdown()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for probe in list(self._probes):
                try:
                    values = probe(self._handle)
                except pynvml.NVMLError as error:
                    self._probes.remove(probe)
                    self._warn(f"NVML does not give {probe.__name__.strip('_')} here: {error}")
                    continue
                for series, value in values.items():
                    self._recorder.counter(series, self._device_index, value)


def _handle(device_uuid: str) -> Any:
    """NVML's handle of a device by its UUID, since NVML ignores CUDA_VISIBLE_DEVICES.

    Raises:
        pynvml.NVMLError: there is no NVML, or no such device.
    """
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(device_uuid)


def _memory(handle: Any) -> dict[str, float]:
    return {"nvml_memory_used_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).used}


def _utilisation(handle: Any) -> dict[str, float]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {"nvml_gpu_utilisation_percent": rates.gpu, "nvml_memory_utilisation_percent": rates.memory}


def _power(handle: Any) -> dict[str, float]:
    return {"nvml_power_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _clocks(handle: Any) -> dict[str, float]:
    return {
        "nvml_sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "nvml_memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
    }


def _link(handle: Any) -> dict[str, float]:
    return {
        "nvml_pcie_link_generation": pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
        "nvml_pcie_link_width": pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
    }


def _throughput(handle: Any) -> dict[str, float]:
    """PCIe traffic over the driver's last 20 ms; NVML counts KB as 1024 bytes."""
    return {
        "nvml_pcie_rx_bytes_per_s": 1024 * pynvml.nvmlDeviceGetPcieThroughput(handle, pynvml.NVML_PCIE_UTIL_RX_BYTES),
        "nvml_pcie_tx_bytes_per_s": 1024 * pynvml.nvmlDeviceGetPcieThroughput(handle, pynvml.NVML_PCIE_UTIL_TX_BYTES),
    }

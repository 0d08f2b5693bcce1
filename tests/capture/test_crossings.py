"""What the Tensor patches record is what the device counted, call by call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracekit.device.emulated import EmulatedDevice

DEVICE = "emulated:0"

_CALLS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "to a device": lambda host, _: host.to(DEVICE),
    "to a device by keyword": lambda host, _: host.to(device=torch.device(DEVICE)),
    "to a device and another dtype": lambda host, _: host.to(DEVICE, torch.float16),
    "to an index": lambda host, _: host.to(0),
    "to another tensor's device": lambda host, remote: host.to(remote),
    "to the host": lambda _, remote: remote.to("cpu"),
    "to the host in another dtype": lambda _, remote: remote.to("cpu", torch.float64),
    "to a device and another dtype, not blocking": lambda host, _: host.to(DEVICE, torch.float16, non_blocking=True),
    "copy_ out to another dtype, not blocking": lambda host, remote: host.double().copy_(remote, non_blocking=True),
    "copy_ in from another dtype, not blocking, by position": lambda host, remote: remote.copy_(host.half(), True),
    "copy_ in from another dtype": lambda host, remote: remote.copy_(host.to(torch.float16)),
    "to the device it is on": lambda _, remote: remote.to(DEVICE),
    "to the host it is on": lambda host, _: host.to("cpu"),
    "to a dtype alone": lambda host, remote: (host.to(torch.float64), remote.to(torch.float64)),
    "to meta": lambda host, _: host.to("meta"),
    "cpu": lambda host, remote: (host.cpu(), remote.cpu()),
    "copy_ in": lambda host, remote: remote.copy_(host),
    "copy_ out": lambda host, remote: host.copy_(remote),
    "copy_ within": lambda host, remote: (host.copy_(host.clone()), remote.copy_(remote.clone())),
    "item": lambda host, remote: (host.reshape(-1)[0].item(), remote.reshape(-1)[0].item()),
    "tolist": lambda _, remote: remote.tolist(),
    "bool": lambda _, remote: bool(remote.reshape(-1)[0] > 0),
    "int": lambda _, remote: int(remote.reshape(-1)[0]),
    "float": lambda _, remote: float(remote.reshape(-1)[0]),
    "assignment in": lambda host, remote: remote.__setitem__(slice(None), host),
    "assignment out": lambda host, remote: host.__setitem__(slice(None), remote),
    "compute": lambda host, remote: (host + host, remote + remote),
}


@pytest.mark.parametrize("name", list(_CALLS))
def test_each_call_is_recorded_as_the_device_counts_it(name: str, recording, emulated: EmulatedDevice) -> None:
    host, remote = torch.rand(3, 5), torch.rand(3, 5).to(DEVICE)
    with recording() as recorded:
        emulated.reset_counters()
        _CALLS[name](host, remote)
        counted = emulated.counters()
    copies = recorded.data.copies
    to_device = copies[copies.direction == "H2D"]
    to_host = copies[copies.direction == "D2H"]
    assert (len(to_device), to_device.size_bytes.sum()) == (counted.h2d_count, counted.h2d_bytes)
    assert (len(to_host), to_host.size_bytes.sum()) == (counted.d2h_count, counted.d2h_bytes)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.sampled_from(sorted(_CALLS)), max_size=8), shape=st.sampled_from([(1, 1), (2, 3), (64, 64)]))
def test_any_sequence_of_calls_adds_up(
    calls: list[str], shape: tuple[int, int], recording, emulated: EmulatedDevice
) -> None:
    host, remote = torch.rand(shape), torch.rand(shape).to(DEVICE)
    with recording() as recorded:
        emulated.reset_counters()
        for name in calls:
            _CALLS[name](host, remote)
        counted = emulated.counters()
    sums = recorded.data.copies.groupby("direction", observed=True).size_bytes.agg(["count", "sum"])
    zero = {"count": 0, "sum": 0}
    to_device = sums.loc["H2D"] if "H2D" in sums.index else zero
    to_host = sums.loc["D2H"] if "D2H" in sums.index else zero
    assert (to_device["count"], to_device["sum"]) == (counted.h2d_count, counted.h2d_bytes)
    assert (to_host["count"], to_host["sum"]) == (counted.d2h_count, counted.d2h_bytes)


def test_a_copy_says_what_it_was(recording) -> None:
    host = torch.rand(3, 5)
    with recording() as recorded:
        host.to(DEVICE, torch.float16)
    [copy] = recorded.data.copies.itertuples()
    assert copy.operation == "Tensor.to"
    assert copy.size_bytes == 3 * 5 * 2  # the link carries the device's dtype
    assert copy.host_memory == "anonymous"
    assert copy.host_address == host.data_ptr()
    assert copy.device == DEVICE
    assert copy.fqn == ""
    assert not copy.non_blocking
    assert copy.start_ns <= copy.end_ns


def test_a_call_that_fails_is_not_a_copy_and_leaves_recording_on(recording) -> None:
    host, remote = torch.rand(3), torch.rand(4).to(DEVICE)
    with recording() as recorded:
        with pytest.raises(RuntimeError):
            remote.copy_(host)
        host.to(DEVICE)
    assert list(recorded.data.copies.operation) == ["Tensor.to"]

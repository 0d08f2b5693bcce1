"""The emulated device as it is after loading: no cap, no throttle, no log, counters at zero."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tracekit.device.emulated import EmulatedDevice, load


@pytest.fixture
def device() -> Iterator[EmulatedDevice]:
    emulated = load()
    gc.collect()  # what an earlier test left in reference cycles is not this test's memory
    emulated.reset_counters()
    emulated.reset_peak()
    yield emulated
    emulated.set_cap(None)
    emulated.set_link_gbps(None)
    emulated.stop_log()
    emulated.take_log()

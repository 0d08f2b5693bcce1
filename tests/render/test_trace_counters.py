from __future__ import annotations

import numpy as np
import pytest
from builders import build_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.timeline import build_timeline
from tracekit.model import NONE
from tracekit.render.counters import binned_rate, counter_tracks, series_title, weights_over_time
from tracekit.render.devicetracks import device_rows
from tracekit.render.slices import TraceStats

TRANSFERS = st.lists(
    st.tuples(st.integers(0, 10**10), st.integers(1, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30
)


@given(TRANSFERS)
def test_the_bins_add_up_to_the_bytes_moved(transfers: list[tuple[int, int, int]]) -> None:
    start, duration, size = np.array(transfers, np.int64).T
    times, rates = binned_rate(start, start + duration, size)
    moved = float((np.diff(times) * rates[:-1]).sum())
    assert moved == pytest.approx(size.sum(), rel=1e-6, abs=10)
    assert rates[-1] == 0
    assert (rates >= 0).all()


def test_a_lone_transfer_has_its_own_rate_until_it_ends() -> None:
    times, rates = binned_rate(np.array([1_000_000]), np.array([9_000_000]), np.array([80_000_000]))
    assert rates.tolist() == pytest.approx([10.0, 0.0])
    assert times.tolist() == [1_000_000, 9_000_000]


def test_two_transfers_at_a_time_add_up() -> None:
    start, end = np.array([0, 1_000_000]), np.array([2_000_000, 2_000_000])
    _, rates = binned_rate(start, end, np.array([8_000_000, 4_000_000]))
    assert rates.tolist() == pytest.approx([4.0, 8.0, 0.0])


def test_no_transfer_has_no_rate() -> None:
    times, rates = binned_rate(np.array([5]), np.array([5]), np.array([100]))
    assert (len(times), len(rates)) == (0, 0)


def test_a_weight_is_on_the_device_from_its_onload_to_its_next_offload() -> None:
    held = weights_over_time(
        np.array([10, 15, 40, 12]), np.array([100, 100, 100, 7]), np.array([0, 0, 0, 1]), {0: np.array([30, 50, 60])}
    )
    # Onloaded again at 15 while it is there; weight 1 is never offloaded.
    assert held.to_dict() == {10: 100, 12: 107, 30: 7, 40: 107, 50: 7}


@pytest.mark.parametrize(
    ("series", "shown"),
    [
        ("device_allocated_bytes", ("memory allocated", "GiB")),
        ("device_odd_bytes", ("odd", "GiB")),
        ("nvml_power_watts", ("NVML power", "W")),
        ("nvml_sm_clock_mhz", ("NVML SM clock", "MHz")),
        ("nvml_pcie_rx_bytes_per_s", ("NVML PCIe rx", "GB/s")),
        ("nvml_pcie_link_width", ("NVML PCIe link", "width")),
    ],
)
def test_a_series_name_says_its_title_and_unit(series: str, shown: tuple[str, str]) -> None:
    assert series_title(series)[:2] == shown


def test_a_run_has_its_counters_and_weights_leave_the_device() -> None:
    timeline = build_timeline(build_run())
    stats = TraceStats()
    tracks = {track.title: track for track in counter_tracks(timeline, device_rows(timeline), stats)}
    assert set(tracks) == {
        "H2D copies", "D2H copies", "weights on device", "weights in page cache", "memory allocated",
        "memory reserved", "NVML power",
    }  # fmt: skip
    weights = tracks["weights on device"]
    # Sequential offload holds one leaf module at a time; the largest has 8 MB and its bias.
    assert weights.values.max() * 2**30 == pytest.approx(8_000_000 + 7_812)
    assert weights.values[-1] == 0
    assert tracks["weights in page cache"].device_index == NONE
    assert set(tracks["weights in page cache"].values) == {0.25, 1.0}
    copies = timeline.copies
    moved = tracks["H2D copies"]
    assert float((np.diff(moved.t_ns) * moved.values[:-1]).sum()) == pytest.approx(
        copies.loc[copies["direction"] == "H2D", "size_bytes"].sum(), rel=1e-6
    )

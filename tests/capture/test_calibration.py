"""Calibration on the real device and disk: rows for all that can be measured, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

import diffusers.hooks
import pandas as pd
import pytest
import torch
from disks import on_disk

from tracekit.api import CaptureOptions, profile_pipeline
from tracekit.capture.calibration import calibrate, disk, grouphooks, hostwork, link, modules
from tracekit.capture.calibration.disk import MAX_BYTES, disk_samples
from tracekit.capture.calibration.link import SIZES, SIZES_EMULATED
from tracekit.capture.pagecache import cache, evict, mapped_share, mapped_weights, residency
from tracekit.device.choice import DeviceChoice
from tracekit.device.emulated import EmulatedDevice
from tracekit.model import Measure
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions

from .conftest import DEVICE, Recorded
from .mapped_files import Weights

Recording = Callable[..., AbstractContextManager[Recorded]]
EMULATED = DeviceChoice("emulated", DEVICE)
GROUP_HOOKS = {measure for measure in Measure if measure.startswith(("group ", "ungrouped "))}
STAGED = {
    Measure.HOOK_WORK,
    Measure.OWN_CODE,
    Measure.CODE_BETWEEN,
    Measure.OWN_CODE_BEHIND,
    Measure.CODE_BETWEEN_BEHIND,
}
WAITED = {
    Measure.WAITED_HOOK_WORK,
    Measure.WAITED_OWN_CODE,
    Measure.WAITED_CODE_BETWEEN,
    Measure.WAITED_OWN_CODE_BEHIND,
    Measure.WAITED_CODE_BETWEEN_BEHIND,
}
PAGE_LOCKED = {Measure.PINNED_H2D, Measure.PINNED_D2H, Measure.PIN} | GROUP_HOOKS | WAITED
"""What only a device with streams and page-locked memory has."""


def rows(calibration: pd.DataFrame) -> dict[str, list[int]]:
    """The sizes of each measure."""
    return {str(name): sorted(set(of.size_bytes)) for name, of in calibration.groupby("measure", observed=True)}


@pytest.fixture
def calibrated(
    recording: Recording, tmp_path: Path, emulated: EmulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    # On a machine that is slow at the moment the largest copies would be left out.
    monkeypatch.setattr(link, "_SECONDS_EMULATED", 60)
    weights = Weights(on_disk(tmp_path) / "model.safetensors")
    with recording() as recorded:
        calibrate(recorded.recorder, EMULATED, [weights.path], recorded.session.seen.warnings.append)
    return recorded


def test_everything_that_the_emulated_device_has_is_measured(calibrated: Recorded) -> None:
    found = rows(calibrated.data.calibration)
    assert set(found) == set(Measure) - PAGE_LOCKED
    assert found[Measure.PAGEABLE_H2D] == found[Measure.PAGEABLE_D2H] == list(SIZES_EMULATED)
    assert len(found[Measure.DISK_READ]) == 2
    for measure in STAGED:
        assert found[measure] == list(hostwork.SIZES)
    assert (calibrated.data.calibration.duration_ns > 0).all()
    assert calibrated.session.seen.warnings == []


def test_what_the_hypervisor_takes_away_is_no_work(emulated: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that is gone for a while in one of the passes, at each piece another one, changes nothing."""
    work = hostwork._Work(EMULATED, torch.ones(hostwork.FEW, dtype=torch.uint8))
    clock = Stolen()
    monkeypatch.setattr(modules.time, "thread_time_ns", clock)
    for hooks in hostwork._Hooks:
        clock.calls = 0
        found = work.fastest(hooks)
        # Readings of the clock are a tick apart: two weights are brought, between a hook's two calls is the forward.
        offloading = {"own": 1, "hooks": 4, "aside": 2, "after": 1, "around": 4}
        others = {"own": 1, "hooks": 0, "aside": 0, "after": 1, "around": 2}
        ticks = offloading if hooks is hostwork._Hooks.OFFLOADING else others
        assert found == modules.Piece(**{part: count * clock.TICK for part, count in ticks.items()})
    work.close()


def test_a_hook_brings_as_much_as_is_said_and_that_is_set_aside(emulated: EmulatedDevice) -> None:
    few, large = (torch.ones(size, dtype=torch.uint8) for size in (hostwork.FEW, 32 << 20))
    work = hostwork._Work(EMULATED, few)
    torch.get_device_module("emulated").reset_peak_memory_stats()
    found = work.bringing(iter([large] * 16))
    assert len(found) == 16
    assert all(each.aside > 0 for each in found)
    assert emulated.memory().peak_allocated_bytes >= len(large)
    work.close()


def test_memory_that_is_copied_is_taken_in_turn_whatever_the_sizes() -> None:
    memory = torch.arange(100, dtype=torch.uint8)
    turn = hostwork._InTurn(memory)
    taken = [[piece.tolist() for piece in itertools.islice(turn.pieces(size), 3)] for size in (20, 10, 40)]
    begins = [[piece[0] for piece in pieces] for pieces in taken]
    assert begins == [[0, 20, 40], [60, 70, 80], [0, 40, 0]]
    assert [len(piece) for pieces in taken for piece in pieces] == [20] * 3 + [10] * 3 + [40] * 3


def test_what_is_timed_behind_those_brings_nothing(emulated: EmulatedDevice) -> None:
    work = hostwork._Work(EMULATED, torch.ones(hostwork.FEW, dtype=torch.uint8))
    work.bringing(iter([torch.ones(1 << 20, dtype=torch.uint8)] * 16))
    behind = work.behind()
    assert behind.aside == behind.hooks == 0
    assert min(behind.own, behind.between) > 0
    work.close()


class Stolen:
    """A clock that goes on by a tick a call, and by milliseconds at every hundredth."""

    TICK = 1_000
    calls = now = 0

    def __call__(self) -> int:
        self.calls += 1
        self.now += self.TICK if self.calls % 101 else 5_000_000
        return self.now


@pytest.mark.parametrize("further", [0, 4])
def test_a_groups_onload_is_told_apart_from_what_is_around_it(emulated: EmulatedDevice, further: int) -> None:
    memory = torch.ones(1 << 16, dtype=torch.uint8)
    before = emulated.memory().allocated_bytes
    chain = grouphooks.Chain(EMULATED, [memory, *(memory[at : at + 64] for at in range(further))])
    given = torch.ones(64, device=DEVICE)
    bare = chain.each(given)
    assert all(piece.aside == 0 < piece.around for piece in bare)
    chain.group(EMULATED, stream=False)
    with torch.no_grad():
        grouped = chain.each(given)
    assert len(grouped) == len(bare) == len(chain.blocks) - 1
    assert all(piece.aside > 0 for piece in grouped)
    assert median(piece.around for piece in grouped) > median(piece.around for piece in bare)
    assert all(len(list(block.parameters())) == 1 + further for block in chain.blocks)
    assert all(parameter.device.type == "cpu" for parameter in chain.parameters())  # all of it is back
    del given
    chain.close()
    assert emulated.memory().allocated_bytes == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(
    enabled: bool, recording: Recording, emulated: EmulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What calibrating makes, modules with hooks that hold themselves, brings no collection on in the program."""
    monkeypatch.setattr(link, "_SECONDS_EMULATED", 0.01)
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with recording() as recorded:
            gc.collect()
            calibrate(recorded.recorder, EMULATED, [], recorded.session.seen.warnings.append)
            young, old = gc.get_count()[1:]
            assert gc.isenabled() == enabled
            left = any(type(made) is modules.Small for made in gc.get_objects())
    finally:
        (gc.enable if was else gc.disable)()
    assert (young, old) == (int(enabled), 0)  # what it made was looked through once
    assert left != enabled


def test_it_is_tracekits_own_work(calibrated: Recorded) -> None:
    assert calibrated.data.copies.empty
    own = calibrated.data.spans.query("name == 'calibrate'")
    assert list(own.kind) == ["tracekit"]
    assert calibrated.recorder.overhead_ns["calibrate"] >= int((own.end_ns - own.start_ns).iloc[0])


@pytest.mark.parametrize("gbps", [2, 0.05])
def test_the_throttled_link_is_what_is_measured(recording: Recording, emulated: EmulatedDevice, gbps: float) -> None:
    emulated.set_link_gbps(gbps)
    try:
        with recording() as recorded:
            calibrate(recorded.recorder, EMULATED, [], recorded.session.seen.warnings.append)
    finally:
        emulated.set_link_gbps(None)
    samples = recorded.data.calibration.query("measure == 'pageable H2D'")
    assert len(samples)
    assert (samples.size_bytes / samples.duration_ns <= 1.01 * gbps).all()
    if gbps < 1:  # a slow link is measured with what it can carry in the time
        assert samples.size_bytes.max() < SIZES_EMULATED[-1]


def test_device_memory_peaks_and_randomness_are_left_as_they_were(
    recording: Recording, emulated: EmulatedDevice
) -> None:
    module = torch.get_device_module("emulated")
    module.empty_cache()
    kept = torch.ones(1000, device=DEVICE)
    module.reset_peak_memory_stats()
    before, random_before = emulated.memory(), torch.get_rng_state()
    with recording() as recorded:
        calibrate(recorded.recorder, EMULATED, [], recorded.session.seen.warnings.append)
    assert emulated.memory() == before
    assert torch.equal(torch.get_rng_state(), random_before)
    assert kept.sum() == 1000
    # A peak that the program made itself stays.
    larger = torch.ones(1 << 20, device=DEVICE)
    del larger
    peak = emulated.memory().peak_allocated_bytes
    with recording() as recorded:
        calibrate(recorded.recorder, EMULATED, [], recorded.session.seen.warnings.append)
    assert emulated.memory().peak_allocated_bytes >= peak


def test_a_small_cap_gets_small_sizes(recording: Recording, emulated: EmulatedDevice) -> None:
    torch.get_device_module("emulated").empty_cache()
    emulated.set_cap(emulated.memory().reserved_bytes + (20 << 20))
    try:
        with recording() as recorded:
            calibrate(recorded.recorder, EMULATED, [], recorded.session.seen.warnings.append)
    finally:
        emulated.set_cap(None)
    assert rows(recorded.data.calibration)[Measure.PAGEABLE_H2D] == [1 << 16, 1 << 18, 1 << 20, 1 << 22]


@pytest.mark.parametrize("state", [evict, cache], ids=["evicted", "cached"])
def test_direct_reads_leave_the_page_cache_as_it_was(state: Callable[[Any], None], tmp_path: Path) -> None:
    weights = Weights(on_disk(tmp_path) / "model.safetensors")
    ranges = mapped_weights([weights])
    evict(ranges)
    state(ranges)
    before = residency(ranges), mapped_share(ranges)
    read = sum(sample.size_bytes for sample in disk_samples([weights.path]))
    assert 0 < read <= min(MAX_BYTES, weights.path.stat().st_size // 4)
    assert (residency(ranges), mapped_share(ranges)) == before


class InterruptedPool(ThreadPoolExecutor):
    """Ctrl-C comes when two of four threads have begun."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        if len(self._threads) == 2:
            raise KeyboardInterrupt
        return super().submit(*args, **kwargs)


def test_an_interrupt_between_its_threads_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights(on_disk(tmp_path) / "model.safetensors")
    monkeypatch.setattr(disk, "ThreadPoolExecutor", InterruptedPool)
    with pytest.raises(KeyboardInterrupt):
        list(disk_samples([weights.path]))


def test_what_cannot_be_measured_is_a_warning(recording: Recording, tmp_path: Path) -> None:
    gone = tmp_path / "gone.safetensors"
    with recording() as recorded:
        calibrate(recorded.recorder, EMULATED, [gone], recorded.session.seen.warnings.append)
    (warning,) = recorded.session.seen.warnings
    assert "the disk was not measured" in warning
    assert Measure.CLONE in rows(recorded.data.calibration)
    assert not recorded.recorder.local.thread.copying


def test_files_in_memory_are_no_disk() -> None:
    from tracekit.capture import linux

    path = Path("/dev/shm/tracekit-test-calibration")
    if not linux.is_in_memory("/dev/shm"):
        pytest.skip("no tmpfs here")
    try:
        path.write_bytes(bytes(64 << 20))
        assert list(disk_samples([path])) == []
    finally:
        path.unlink()


@pytest.mark.parametrize("calibration", [True, False])
def test_a_profile_has_it_unless_told_otherwise(calibration: bool, tmp_path: Path) -> None:
    run = profile_pipeline(
        "synthetic:flux-tiny",
        offload=OffloadOptions(mode="sequential"),
        call=CallOptions(steps=1, height=32, width=32, seed=0),
        capture=CaptureOptions(output=tmp_path / "run", device="emulated", trace=False, calibration=calibration),
    )
    assert run.data.calibration.empty is not calibration
    assert ("calibrate" in run.manifest.overhead_ns) is calibration
    assert (Measure.DISK_READ in rows(run.data.calibration)) is calibration


@pytest.mark.cuda
def test_on_cuda_every_size_has_its_rows_and_nothing_stays(recording: Recording, tmp_path: Path) -> None:
    torch.cuda.init()
    kept = torch.ones(1000, device="cuda")
    scratch = torch.empty(50 << 20, device="cuda")
    del scratch  # a block that the program's allocator keeps
    reserved = torch.cuda.memory_reserved()
    pinned_before = torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)
    weights = Weights(tmp_path / "model.safetensors")
    with recording(with_device=False) as recorded:
        calibrate(
            recorded.recorder, DeviceChoice("cuda", "cuda:0"), [weights.path], recorded.session.seen.warnings.append
        )
    assert recorded.session.seen.warnings == []
    assert diffusers.hooks.apply_group_offloading  # a program without it has no group hooks to calibrate
    found = rows(recorded.data.calibration)
    assert set(found) == set(Measure)
    for measure in (Measure.PINNED_H2D, Measure.PINNED_D2H, Measure.PAGEABLE_H2D, Measure.PAGEABLE_D2H):
        assert found[measure] == list(SIZES)
    for measure in STAGED | WAITED:
        assert found[measure] == list(hostwork.SIZES)
    for measure in (Measure.GROUP_CALL, Measure.GROUP_OWN_CODE, Measure.GROUP_CODE_BETWEEN):
        assert found[measure] == list(grouphooks._SIZES)
    assert torch.cuda.memory_reserved() == reserved
    assert torch.cuda.host_memory_stats().get("allocated_bytes.current", 0) == pinned_before
    assert kept.sum() == 1000
    assert recorded.data.copies.empty


@pytest.mark.cuda
def test_on_cuda_page_locked_memory_is_faster_and_no_link_is_exceeded(recording: Recording) -> None:
    with recording(with_device=False) as recorded:
        calibrate(recorded.recorder, DeviceChoice("cuda", "cuda:0"), [], recorded.session.seen.warnings.append)
    samples = recorded.data.calibration.assign(rate=lambda rows: rows.size_bytes / rows.duration_ns)
    copies = samples[samples.measure.isin(["pinned H2D", "pinned D2H", "pageable H2D", "pageable D2H"])]
    rate = copies.groupby(["measure", "size_bytes"], observed=True).rate.median().unstack("measure")
    assert rate.loc[64 << 20, "pinned H2D"] > rate.loc[64 << 20, "pageable H2D"]
    assert rate.loc[64 << 20, "pinned D2H"] > rate.loc[64 << 20, "pageable D2H"]
    # PCIe 6.0 x16 carries 126 GB/s in one direction.
    assert (copies[copies.size_bytes >= 1 << 20].rate < 126).all()

"""Host-memory evidence of each weight's copy: what pages in shows, and what does not page shows nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import cpu_offload
from disks import on_disk

from tracekit.capture import hostprobe, linux
from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.hostprobe import WARM_INTERVAL, HostProbe
from tracekit.capture.pagecache import cache, evict, mapped_weights, populate
from tracekit.model import NONE, HostMemory
from tracekit.runfolder import read_run

from .conftest import DEVICE, Recorded
from .mapped_files import MB, Weights

Recording = Callable[..., AbstractContextManager[Recorded]]
LAYERS = 3
SIZE = 48 * MB
"""More than what read-ahead runs ahead (8 to 32 MB with windows of 8 MB): smaller weights are there beforehand."""

pytestmark = pytest.mark.usefixtures("emulated")


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(on_disk(tmp_path) / "model.safetensors", LAYERS, SIZE)


def steps(recording: Recording, weights: Weights, *before: Callable[[], object] | None) -> list[pd.DataFrame]:
    """Offload the weights, then call them once for each of `before`, which is called first; each call's samples."""
    cpu_offload(weights, DEVICE)
    x = torch.ones(1, 1024, device=DEVICE)
    with recording() as recorded, recorded.session.bare_run(weights, "net"), torch.no_grad():
        for act in before:
            if act is not None:
                act()
            weights(x)
    data = read_run(recorded.path)
    copies = data.copies.query(f"direction == 'H2D' and size_bytes == {SIZE}")
    samples = copies.merge(data.host_samples, on="copy_id", validate="one_to_one")
    assert len(samples) == LAYERS * len(before)  # every copy has its evidence
    return [samples.iloc[LAYERS * n : LAYERS * (n + 1)] for n in range(len(before))]


def assert_read_ahead(samples: pd.DataFrame) -> None:
    """What is in memory before a copy was read during the copies before it, ahead of its own; and not all of it is."""
    read = samples.read_bytes.cumsum().shift(fill_value=0)
    there = SIZE * (np.arange(LAYERS) + samples.resident_before.fillna(0))
    assert (there <= read + 0.1 * SIZE).all()
    assert samples.resident_before.min() < 1


def test_evicted_weights_are_read_from_disk_once(recording: Recording, weights: Weights) -> None:
    ranges = mapped_weights([weights])
    first, second, third = steps(recording, weights, lambda: evict(ranges), None, None)
    assert set(first.host_memory) == {"mmap"}
    assert set(first.file_path) == {str(weights.path)}
    assert first.read_bytes.sum() == pytest.approx(LAYERS * SIZE, rel=0.15)
    assert first.resident_before.iloc[0] == pytest.approx(0, abs=0.01)
    assert_read_ahead(first)
    assert (first.minor_faults > 0).any()
    for warm in (second, third):
        assert warm.read_bytes.sum() == 0
    assert (second.resident_before.dropna() == 1).all()


def test_anonymous_weights_show_nothing_whatever_becomes_of_the_file(recording: Recording, weights: Weights) -> None:
    for layer in weights.layers:
        layer.weight.data = layer.weight.data.clone()

    def drop() -> None:  # nothing maps it any more
        with weights.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    for samples in steps(recording, weights, drop, drop):
        assert set(samples.host_memory) == {"anonymous"}
        assert samples.read_bytes.sum() == 0
        assert samples.resident_before.isna().all()
        assert samples.major_faults.max() <= 0


def test_cached_pages_that_nobody_mapped_fault_without_a_read(recording: Recording, weights: Weights) -> None:
    ranges = mapped_weights([weights])

    def unmap() -> None:
        evict(ranges)
        cache(ranges)

    first, _ = steps(recording, weights, unmap, None)
    assert first.read_bytes.sum() == 0
    assert (first.resident_before == 1).all()
    assert first.minor_faults.sum() > LAYERS  # the kernel maps up to 16 pages, or a folio, at each


def test_eviction_between_steps_shows_again_at_once(recording: Recording, weights: Weights) -> None:
    ranges = mapped_weights([weights])
    populate(ranges)
    calls = (None, None, None, lambda: evict(ranges), None)
    _, _, warm, paged, after = steps(recording, weights, *calls)
    assert warm.read_bytes.sum() == 0
    assert warm.resident_before.isna().any()  # watched, not probed in full
    assert paged.read_bytes.sum() == pytest.approx(LAYERS * SIZE, rel=0.15)
    # At most the first copy was only watched; what it read has every other one probed in full.
    assert paged.read_bytes.iloc[0] > 0
    assert paged.resident_before.iloc[1:].notna().all()
    assert_read_ahead(paged)
    assert after.read_bytes.sum() == 0


def test_one_evicted_weight_is_told_from_its_neighbours(recording: Recording, weights: Weights) -> None:
    ranges = mapped_weights([weights])
    one = mapped_weights([weights.layers[1]])
    populate(ranges)
    _, step = steps(recording, weights, None, lambda: evict(one))
    assert set(step[step.read_bytes > 0].fqn) == {"net.layers.1"}
    assert step.read_bytes.sum() == pytest.approx(SIZE, rel=0.15)


def test_a_weight_edited_in_place_cannot_page(recording: Recording, weights: Weights) -> None:
    weights.layers[0].weight.mul_(2)
    ranges = mapped_weights([weights])
    step, _ = steps(recording, weights, lambda: evict(ranges), None)
    edited, rest = step.iloc[0], step.iloc[1:]
    assert edited.host_memory == "mmap"
    assert edited.resident_before == 1
    assert edited.read_bytes == 0
    assert rest.read_bytes.sum() > 0


def test_full_probes_come_back_now_and_then(recording: Recording, weights: Weights) -> None:
    populate(mapped_weights([weights]))
    first, *later = steps(recording, weights, *[None] * (2 * WARM_INTERVAL))
    assert first.resident_before.notna().all()
    full = pd.concat(later).resident_before
    assert (full.dropna() == 1).all()
    # Each weight more than once, not all in the same step, and far from always.
    assert full.notna().sum() >= LAYERS
    assert max(step.resident_before.notna().sum() for step in later) < LAYERS
    assert full.notna().mean() < 1 / 4


def test_each_weight_says_whether_it_left_its_file(recording: Recording, weights: Weights) -> None:
    weights.layers[0].double()
    with recording() as recorded, recorded.session.bare_run(weights, "net"):
        pass
    parameters = read_run(recorded.path).parameters.set_index("fqn")
    held = {fqn: str(memory) for fqn, memory in parameters.host_memory.items()}
    assert held.pop("net.layers.0") == HostMemory.ANONYMOUS
    assert set(held.values()) == {HostMemory.MMAP}
    data = weights.path.read_bytes()
    at = int(parameters.file_offset["net.layers.2"])
    assert data[at : at + SIZE] == weights.layers[2].weight.numpy().tobytes()


def test_another_users_file_is_unknown_and_said_once(
    recording: Recording, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "is_told", lambda _: False)
    cpu_offload(weights, DEVICE)
    with recording() as recorded, recorded.session.bare_run(weights, "net"), torch.no_grad():
        for _ in range(2):
            weights(torch.ones(1, 1024, device=DEVICE))
    samples = read_run(recorded.path).host_samples
    assert len(samples) == 2 * LAYERS
    assert samples.resident_before.isna().all()
    (warning,) = recorded.session.seen.warnings
    assert str(weights.path) in warning


def test_what_the_system_does_not_tell_is_said(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as recorded:
        assert recorded.session.seen.warnings == []
    monkeypatch.setattr(hostprobe, "_open", lambda *_: None)
    probe = HostProbe(recorded.recorder, HostMemoryMap(), lambda _: None)
    assert [line.rpartition("(")[2] for line in probe.missing()] == ["/proc/self/io)", "/proc/pressure/io)"]
    monkeypatch.setattr(hostprobe.sys, "platform", "darwin")
    (line,) = probe.missing()
    assert "darwin" in line


def test_a_file_without_its_number_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "io"
    file.write_text("rchar: 1\nread_bytes: 42\nwrite_bytes: 0\n")
    descriptor = hostprobe._open(str(file), hostprobe._READ)
    assert descriptor is not None
    os.close(descriptor)
    for text in ("", "rchar: 1\n", "rchar: 1\nread_bytes: ?\n"):
        file.write_text(text)
        assert hostprobe._open(str(file), hostprobe._READ) is None
    assert hostprobe._open(str(tmp_path / "absent"), hostprobe._READ) is None


def test_a_kernel_that_leaves_the_count_of_blocks_at_0_is_not_believed(
    recording: Recording, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    evict(mapped_weights([weights]))
    weights(torch.ones(1, 1024))  # now this process has read from disk
    with recording() as recorded:
        assert recorded.session.seen.warnings == []
    monkeypatch.setattr(hostprobe, "_BLOCK", 0)
    (line,) = HostProbe(recorded.recorder, HostMemoryMap(), lambda _: None).missing()
    assert "bytes read from disk" in line


def test_what_children_read_is_not_the_process_own(recording: Recording, weights: Weights) -> None:
    ranges = mapped_weights([weights])

    def read_by_a_child() -> None:
        evict(ranges)
        subprocess.run(["cat", weights.path], stdout=subprocess.DEVNULL, check=True)

    cached, _ = steps(recording, weights, read_by_a_child, None)
    assert cached.read_bytes.sum() == 0
    with recording() as recorded:
        assert recorded.session.seen.warnings == []


def test_without_io_counters_every_copy_is_probed_in_full(
    recording: Recording, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(mapped_weights([weights]))
    monkeypatch.setattr(hostprobe, "_open", lambda *_: None)
    for samples in steps(recording, weights, None, None):
        assert (samples.read_bytes == NONE).all()
        assert (samples.io_stall_ns == NONE).all()
        assert (samples.resident_before == 1).all()

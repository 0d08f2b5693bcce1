"""What the host side of a copy is, also of memory that was mapped since the process's memory map was read."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from disks import on_disk

from tracekit.capture import linux
from tracekit.capture.calibration.sample import fresh_bytes, touched_bytes
from tracekit.capture.hostmemory import ANONYMOUS, HostMemoryMap, HostSource
from tracekit.device.emulated import EmulatedDevice
from tracekit.model import HostMemory

from .conftest import DEVICE, Recorded


class OwnWork:
    """Counts how often the whole map was read."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.names.append(name)
        yield


@pytest.fixture
def questions() -> None:
    """The kernel takes questions about one address; before Linux 6.11 none does."""
    try:
        linux.mapping_at(0)
    except OSError as error:
        pytest.skip(f"the kernel takes no questions: {error}")


def refuse(address: int) -> None:
    raise OSError(25, "Inappropriate ioctl for device")


@pytest.fixture(params=["asked", "read again"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[HostMemoryMap, OwnWork, int]:
    """A map, its work, and how often it is read for each piece of new memory that nobody wrote to."""
    if request.param == "read again":
        monkeypatch.setattr(linux, "mapping_at", refuse)
    else:
        request.getfixturevalue("questions")
    work = OwnWork()
    return HostMemoryMap(work), work, int(request.param == "read again")


def test_memory_mapped_since_is_found(memory: tuple[HostMemoryMap, OwnWork, int]) -> None:
    found, work, reads = memory
    written = touched_bytes(64 << 20)
    assert found.describe(written) == ANONYMOUS
    assert work.names == ["read memory map"]  # once, to begin with
    first, second = fresh_bytes(64 << 20), fresh_bytes(64 << 20)
    assert found.describe(first) == found.describe(second) == ANONYMOUS
    # The kernel may put one below the other, into the same mapping.
    assert 1 + reads <= len(work.names) <= 1 + 2 * reads
    assert set(work.names) == {"read memory map"}
    before = len(work.names)
    assert found.describe(first) == ANONYMOUS
    assert len(work.names) == before


def test_a_file_mapped_since_is_told_with_its_place(memory: tuple[HostMemoryMap, OwnWork, int], tmp_path: Path) -> None:
    found, _, _ = memory
    path = on_disk(tmp_path) / "späte gewichte.safetensors"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, offset=mmap.PAGESIZE)
    tensor = torch.frombuffer(mapped, dtype=torch.uint8)[100:]
    assert found.describe(tensor) == HostSource(HostMemory.MMAP, str(path), mmap.PAGESIZE + 100)


@pytest.mark.usefixtures("questions")
def test_the_kernel_answers_what_its_map_says() -> None:
    mapped = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
    address = torch.frombuffer(mapped, dtype=torch.uint8).data_ptr()
    gc.collect()  # another test's pipeline, whose files would be unmapped between the map and the questions
    lines = [line.split() for line in linux.MAPS.read_text().splitlines()]
    files = [(int(line[0].split("-")[0], 16), int(line[2], 16), line[5]) for line in lines if len(line) == 6]
    libraries = [line for line in files if line[2].startswith("/")]
    assert len(libraries) > 10
    assert [linux.mapping_at(start) for start, _, _ in libraries] == libraries
    found = linux.mapping_at(address)
    assert found is not None
    assert found[2] == ""
    assert linux.mapping_at(0) is None


@pytest.mark.usefixtures("questions")
def test_a_forked_process_asks_of_itself() -> None:
    child = os.fork()
    if child == 0:
        here = fresh_bytes(1 << 20)
        os._exit(0 if linux.mapping_at(here.data_ptr()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("asks", [True, False])
def test_copies_back_into_new_memory_do_not_have_the_whole_map_read(
    asks: bool,
    recording: Callable[..., AbstractContextManager[Recorded]],
    emulated: EmulatedDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not asks:
        monkeypatch.setattr(linux, "mapping_at", refuse)
    weights = torch.ones(8 << 20, device=DEVICE)
    with recording() as recorded:
        kept = [weights.cpu() for _ in range(5)]
    copies = recorded.data.copies.query("direction == 'D2H'")
    assert list(copies.host_memory) == [HostMemory.ANONYMOUS] * len(kept)
    read = recorded.data.spans.query("name == 'read memory map'")
    assert (read.end_ns < copies.start_ns.min()).all()

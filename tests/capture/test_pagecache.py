"""States of mmapped weights' pages: brought about on exactly these pages, read back, and never at the weights' cost."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch
from disks import on_disk
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tracekit.capture import linux
from tracekit.capture.linux import PAGE
from tracekit.capture.pagecache import (
    EVICTED_BELOW,
    cache,
    establish,
    evict,
    mapped_share,
    mapped_weights,
    populate,
    residency,
)
from tracekit.capture.pageranges import MappedRange, whole_pages
from tracekit.capture.residency import Residency
from tracekit.model import PageCache

from .mapped_files import MB, Weights


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(on_disk(tmp_path) / "model.safetensors", count=4)


def test_mapped_weights_are_found_with_their_places(weights: Weights) -> None:
    ranges = mapped_weights([weights])
    assert {part.path for part in ranges} == {str(weights.path)}
    assert {part.address for part in ranges} == {tensor.data_ptr() for tensor in weights.tensors()}
    data = weights.path.read_bytes()
    by_address = {part.address: part for part in ranges}
    for tensor in weights.tensors():
        part = by_address[tensor.data_ptr()]
        assert data[part.offset : part.offset + part.size_bytes] == tensor.numpy().tobytes()
    weights.layers[0].weight.data = weights.layers[0].weight.data.clone()
    assert len(mapped_weights([weights])) == 3


def test_weights_that_accelerate_holds_are_found(weights: Weights) -> None:
    from accelerate import cpu_offload

    before = mapped_weights([weights])
    cpu_offload(weights, "meta")
    assert weights.layers[0].weight.is_meta
    assert mapped_weights([weights]) == before


def test_each_state_is_what_it_says(weights: Weights) -> None:
    ranges = mapped_weights([weights])
    before = [tensor.clone() for tensor in weights.tensors()]
    for state, resident, mapped in (
        (PageCache.EVICTED, 0, 0),
        (PageCache.CACHED, 1, 0),
        (PageCache.MAPPED, 1, 1),
        (PageCache.EVICTED, 0, 0),
        (PageCache.MAPPED, 1, 1),
        (PageCache.CACHED, 1, 0),
    ):
        found = establish([weights], state)
        assert found.established, found.reason
        assert found.page_cache == state
        assert found.resident_share == pytest.approx(resident, abs=EVICTED_BELOW)
        assert found.mapped_share == pytest.approx(mapped, abs=EVICTED_BELOW)
        assert residency(ranges) == found.resident_share
    assert all(map(torch.equal, weights.tensors(), before))


def test_reading_the_state_touches_no_page(weights: Weights) -> None:
    ranges = mapped_weights([weights])
    evict(ranges)
    for _ in range(3):
        assert residency(ranges) == 0
        assert mapped_share(ranges) == 0
    cache(ranges)
    assert mapped_share(ranges) == 0


def test_edits_in_place_survive_eviction(weights: Weights) -> None:
    first, second = weights.tensors()[:2]
    first.mul_(2)
    second[5, 5] = 42.0
    before = [tensor.clone() for tensor in weights.tensors()]
    on_disk_before = weights.path.read_bytes()
    ranges = mapped_weights([weights])
    for _ in range(2):
        evict(ranges)
        # The edited quarter no longer comes from the file, and says so.
        assert residency(ranges) == pytest.approx(0.25, abs=0.01)
        assert all(map(torch.equal, weights.tensors(), before))
    assert weights.path.read_bytes() == on_disk_before
    found = establish([weights], PageCache.EVICTED)
    assert not found.established
    assert "edited in place" in found.reason


def test_nothing_else_is_evicted(weights: Weights, tmp_path: Path) -> None:
    other = Weights(tmp_path / "other.safetensors", count=2)
    mine = weights.layers[1]
    rest = [layer for layer in weights.layers if layer is not mine] + [other]
    populate(mapped_weights([weights, other]))
    assert residency(mapped_weights([weights, other])) == 1
    evict(mapped_weights([mine]))
    assert residency(mapped_weights([mine])) == 0
    assert residency(mapped_weights(rest)) == 1
    assert mapped_share(mapped_weights(rest)) == 1


def test_weights_just_written_are_evicted_all_the_same(tmp_path: Path) -> None:
    """What is not on disk yet cannot be reclaimed before it is."""
    fresh = Weights(on_disk(tmp_path) / "fresh.safetensors", count=2)
    assert establish([fresh], PageCache.EVICTED).established


def test_a_state_that_cannot_be_is_said(tmp_path: Path) -> None:
    anonymous = nn.Linear(64, 64)
    for state in (PageCache.EVICTED, PageCache.CACHED, PageCache.MAPPED):
        found = establish([anonymous], state)
        assert not found.established
        assert "no weight lies in a mapped file" in found.reason
    as_is = establish([anonymous], PageCache.AS_IS)
    assert as_is.established
    assert as_is.resident_share is None


def test_memory_without_a_disk_is_not_evicted() -> None:
    shm = Path("/dev/shm")
    if not linux.is_in_memory(str(shm)):
        pytest.skip("no tmpfs here")
    path = shm / "tracekit-test.safetensors"
    try:
        found = establish([Weights(path, count=1)], PageCache.EVICTED)
    finally:
        path.unlink()
    assert not found.established
    assert found.reason


def test_a_kernel_without_the_call_is_a_reason(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "MADV_POPULATE_READ", 9999)  # as unknown to this kernel as 22 is to an old one
    found = establish([weights], PageCache.MAPPED)
    assert not found.established
    assert "refused" in found.reason


def test_another_users_file_is_unknown(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = mapped_weights([weights])
    # The kernel would say "all resident" of such a file.
    monkeypatch.setattr(linux, "is_told", lambda _: False)
    assert residency(ranges) is None
    found = establish([weights], PageCache.EVICTED)
    assert not found.established
    assert "another user" in found.reason


def test_the_quick_answer_is_given_only_where_it_is_true(weights: Weights) -> None:
    ranges = mapped_weights([weights])
    populate(ranges)
    weights.tensors()[2].mul_(2)  # edited: in memory, whatever becomes of the file's pages
    evict(mapped_weights([weights.layers[0], weights.layers[2]]))
    ask = Residency()
    for settled in (False, True):
        shares = [
            ask.share(part.address, part.size_bytes, part.path, part.offset, settled=settled)
            for part in mapped_weights(weights.layers)
        ]
        assert shares == pytest.approx([0, 1, 1, 1], abs=0.01)
    ask.close()
    assert not ask.untold


SPANS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 5 * PAGE),
        st.one_of(st.integers(1, 3 * PAGE), st.sampled_from([PAGE, 2 * PAGE])),
        st.sampled_from([100 * PAGE, 900 * PAGE]),  # where the file is mapped, perhaps twice
    ),
    max_size=6,
)


@given(SPANS)
def test_whole_pages_are_the_pages_that_the_ranges_fill(spans: list[tuple[str, int, int, int]]) -> None:
    ranges = [MappedRange(path, offset, base + offset, size) for path, offset, size, base in spans]
    filled: dict[tuple[str, int], set[int]] = {}
    for path, offset, size, base in spans:
        filled.setdefault((path, base), set()).update(range(offset, offset + size))
    expected = {
        (path, base, page)
        for (path, base), bytes_ in filled.items()
        for page in range(9)
        if bytes_.issuperset(range(page * PAGE, (page + 1) * PAGE))
    }
    found = [
        (part.path, part.address - part.offset, part.offset // PAGE + page)
        for part in whole_pages(ranges)
        for page in range(part.size_bytes // PAGE)
    ]
    assert all(part.offset % PAGE == 0 and part.address % PAGE == 0 for part in whole_pages(ranges))
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_page_of_two_weights_is_nobodys_until_both_are_asked_for(tmp_path: Path) -> None:
    size = 8 * MB + PAGE  # not all weights begin on a page: the header has its own length
    weights = Weights(on_disk(tmp_path) / "odd.safetensors", count=3, size_bytes=size)
    assert mmap.PAGESIZE == PAGE
    one = sum(part.size_bytes for part in whole_pages(mapped_weights([weights.layers[1]])))
    each = sum(sum(part.size_bytes for part in whole_pages(mapped_weights([layer]))) for layer in weights.layers)
    together = whole_pages(mapped_weights([weights]))
    assert len(together) == 1
    assert one <= size
    assert each <= together[0].size_bytes <= 3 * size


def test_pages_that_are_cached_already_are_not_read_again(weights: Weights) -> None:
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])  # rchar: by any read(2), from disk or not

    assert establish([weights], PageCache.CACHED).established
    before = bytes_read()
    assert establish([weights], PageCache.CACHED).established
    assert bytes_read() - before < MB
    evict(mapped_weights([weights]))
    assert establish([weights], PageCache.CACHED).established
    assert bytes_read() - before >= sum(tensor.nbytes for tensor in weights.tensors())

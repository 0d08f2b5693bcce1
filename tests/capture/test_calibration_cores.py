"""A calibration's measurements are spread over cores, and the thread is left as free as it was."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tracekit.capture.calibration import cores as cores_module
from tracekit.capture.calibration.cores import Cores, last_level_cache_bytes

ALLOWED = os.sched_getaffinity(0)


def core() -> int:
    """The core that this thread last ran on (proc(5), field 39 of stat, counted behind the name)."""
    stat = Path(f"/proc/self/task/{threading.get_native_id()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[36])


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core is all there is")
def test_each_move_leads_to_another_core_and_ties_to_none() -> None:
    cores, seen = Cores(), []
    for _ in range(20):
        cores.move()
        seen.append(core())
        assert os.sched_getaffinity(0) == ALLOWED
    assert len(set(seen)) > 1


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core is all there is")
def test_a_thread_tied_to_one_core_stays_there() -> None:
    only = {min(ALLOWED)}
    try:
        os.sched_setaffinity(0, only)
        Cores().move()
        assert os.sched_getaffinity(0) == only
    finally:
        os.sched_setaffinity(0, ALLOWED)


def test_the_largest_cache_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module, "_CACHES", tmp_path)
    assert last_level_cache_bytes() == 0
    for index, size in enumerate(("48K", "307200K", "2048K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    (tmp_path / "index3").mkdir()
    (tmp_path / "index3" / "size").write_text("\n")  # of a kind that the kernel does not know
    assert last_level_cache_bytes() == 300 << 20


def test_this_machines_largest_cache_is_larger_than_a_page() -> None:
    if not cores_module._CACHES.is_dir():
        pytest.skip("the kernel does not tell")
    assert last_level_cache_bytes() > 4096

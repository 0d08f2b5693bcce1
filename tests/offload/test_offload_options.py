"""What cannot be is refused before anything is loaded, in one line that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tracekit.errors import UsageError
from tracekit.offload.modes import GROUP_LEVELS, HOST_MEMORIES, RESIDENT_ORDERS, modes
from tracekit.offload.options import OffloadOptions, check_options
from tracekit.units import GIB


def test_options_need_no_torch() -> None:
    code = "import sys, tracekit.offload.options; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "turbo"}, "unknown offload mode 'turbo'"),
        ({"mode": "model", "host_memory": "swapped"}, "unknown host memory 'swapped'"),
        ({"mode": "partial", "resident_bytes": 1, "resident_order": "best"}, "unknown resident order 'best'"),
        ({"mode": "group", "group_level": "layer"}, "unknown group level 'layer'"),
        ({"mode": "partial"}, "--resident-gib"),
        ({"mode": "sequential", "resident_bytes": 1}, "--offload partial"),
        ({"mode": "model", "resident_parameters": frozenset({"transformer"})}, "--offload partial"),
        ({"mode": "partial", "resident_bytes": -1}, "below zero"),
        ({"mode": "partial", "resident_bytes": 13 * GIB}, "above the device's cap of 12.0 GiB"),
        ({"mode": "sequential", "stream": True}, "belongs to mode group"),
        ({"mode": "model", "disk_path": "/x"}, "belongs to mode group"),
        ({"mode": "resident", "blocks_per_group": 2}, "belongs to mode group"),
        ({"mode": "group", "blocks_per_group": 2}, "block_level"),
        ({"mode": "group", "group_level": "block_level", "blocks_per_group": 0}, "at least 1"),
        ({"mode": "group", "group_level": "block_level", "blocks_per_group": 2, "stream": True}, "only takes 1"),
        ({"mode": "group", "record_stream": True}, "record_stream only means something with a stream"),
        ({"mode": "group", "low_cpu_mem": True}, "low_cpu_mem only means something with a stream"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        check_options(OffloadOptions(**options), "cuda:0", 12 * GIB)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("memory", ["anonymous", "pinned"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "resident"}, "nothing is onloaded later"),
        ({"mode": "model"}, "copies weights back into pageable memory"),
        ({"mode": "group"}, "copies weights back into pageable memory"),
        ({"mode": "group", "stream": True}, "pins its own copy"),
        ({"mode": "group", "disk_path": "/nowhere/yet"}, "files in its disk folder"),
    ],
)
def test_host_memory_that_cannot_hold(options: dict[str, Any], says: str, memory: str) -> None:
    check_options(OffloadOptions(**options), "cuda:0", None)
    with pytest.raises(UsageError, match=says):
        check_options(OffloadOptions(**options, host_memory=memory), "cuda:0", None)


def test_low_cpu_mem_holds_anonymous_but_not_pinned() -> None:
    options = {"mode": "group", "stream": True, "low_cpu_mem": True}
    check_options(OffloadOptions(**options, host_memory="anonymous"), "cuda:0", None)
    with pytest.raises(UsageError, match="undoes low_cpu_mem"):
        check_options(OffloadOptions(**options, host_memory="pinned"), "cuda:0", None)


@pytest.mark.parametrize("mode", ["sequential", "partial"])
def test_sequential_and_partial_hold_every_host_memory(mode: str) -> None:
    budget = 1 if mode == "partial" else None
    for memory in HOST_MEMORIES:
        options = OffloadOptions(mode=mode, resident_bytes=budget, host_memory=memory)
        check_options(options, "cuda", 12 * GIB)
        if memory == "pinned":
            with pytest.raises(UsageError, match="no page-locked memory"):
                check_options(options, "emulated:0", 12 * GIB)
        else:
            check_options(options, "emulated:0", 12 * GIB)


def test_a_stream_is_refused_on_the_emulated_device() -> None:
    with pytest.raises(UsageError, match="no streams"):
        check_options(OffloadOptions(mode="group", stream=True), "emulated", None)


def test_a_disk_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "group_0.safetensors").touch()
    for folder in (tmp_path, tmp_path / "group_0.safetensors"):
        with pytest.raises(UsageError, match="not an empty folder"):
            check_options(OffloadOptions(mode="group", disk_path=str(folder)), "cuda", None)


def test_every_mode_has_its_line_and_its_host_memories() -> None:
    assert list(modes()) == ["resident", "model", "sequential", "group", "partial"]
    for name, mode in modes().items():
        assert mode.name == name
        assert mode.doc
        assert "\n" not in mode.doc
        assert mode.host_memories[0] == "as-loaded"
    assert modes()["sequential"].host_memories == tuple(HOST_MEMORIES)
    assert modes()["model"].host_memories == ("as-loaded",)
    assert set(RESIDENT_ORDERS) == {"smallest", "largest", "first", "strided"}
    assert set(GROUP_LEVELS) == {"leaf_level", "block_level"}


def test_the_manifest_tells_only_what_the_mode_reads() -> None:
    partial = OffloadOptions(mode="partial", resident_bytes=8 * GIB, resident_order="largest", host_memory="anonymous")
    assert partial.manifest().options == {"resident_bytes": 8 * GIB, "resident_order": "largest"}
    assert partial.manifest().host_memory == "anonymous"
    assert OffloadOptions(mode="sequential").manifest().options == {}
    group = OffloadOptions(mode="group", stream=True).manifest()
    assert (group.options["level"], group.options["stream"]) == ("leaf_level", True)
    assert "blocks_per_group" not in group.options
    named = OffloadOptions(mode="partial", resident_parameters=frozenset({"unet.b", "unet.a"})).manifest()
    assert named.options == {"resident_bytes": None, "resident_parameters": "unet.a unet.b"}

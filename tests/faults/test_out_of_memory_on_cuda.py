"""On a GPU: a script that runs out of memory in a forward ends as it does alone, and its folder says who held it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tracekit import api
from tracekit.model import SpanKind
from tracekit.workload.pipeline import find_folder

pytestmark = pytest.mark.cuda

CAP_BYTES = 1_000_000_000
ASKED_BYTES = 4 << 30
SCRIPT = """
import sys
import torch
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(sys.argv[1])
pipe.set_progress_bar_config(disable=True)
pipe.enable_model_cpu_offload()
calls = 0


def take_too_much(module, arguments):
    global calls
    calls += 1
    if calls == 2:
        torch.empty(int(sys.argv[2]), dtype=torch.uint8, device="cuda")


pipe.transformer.transformer_blocks[0].norm1.register_forward_pre_hook(take_too_much)
pipe("a cat", num_inference_steps=3, height=64, width=64)
"""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=600)


def last_error(stderr: str) -> str:
    """The last line of a traceback: what was raised."""
    raised = [line for line in stderr.splitlines() if line.startswith("torch.") and "OutOfMemoryError" in line]
    return raised[-1] if raised else stderr[-2000:]


def test_a_forward_that_runs_out_of_a_gpus_memory(tmp_path: Path) -> None:
    script, folder, checkpoint = tmp_path / "script.py", tmp_path / "run", find_folder("synthetic:flux-tiny")
    script.write_text(SCRIPT)
    options = ["--device", "cuda", "--vram", f"{CAP_BYTES}B", "--output", folder]
    ended = run("-m", "tracekit", "profile", *options, script, checkpoint, ASKED_BYTES)
    # Asked for more than any GPU has: it fails without the cap, too.
    alone = run(script, checkpoint, 1 << 45)
    assert ended.returncode == alone.returncode == 1, ended.stderr[-2000:]
    assert last_error(alone.stderr).startswith("torch.OutOfMemoryError: CUDA out of memory.")
    assert last_error(ended.stderr).startswith("torch.OutOfMemoryError: CUDA out of memory.")

    found = api.load(folder)
    assert not found.manifest.complete
    assert found.manifest.incomplete_reason.startswith("OutOfMemoryError")
    assert found.manifest.device.cap_bytes == CAP_BYTES
    assert (found.spans.kind == SpanKind.FORWARD).any()
    summary = found.summary()
    assert not summary.complete
    memory = summary.out_of_memory
    assert memory is not None
    assert [holder.component for holder in memory.holders] == ["transformer"]
    assert memory.holders[0].weight_bytes == memory.holders[0].component_bytes > 0
    assert memory.fqn.startswith("transformer")
    assert (memory.requested_bytes, memory.cap_bytes) == (ASKED_BYTES, CAP_BYTES)
    assert memory.allocated_bytes is not None
    assert memory.weight_bytes <= memory.allocated_bytes < CAP_BYTES

    for command in ("show", "report", "export"):
        assert run("-m", "tracekit", command, folder).returncode == 0
    shown = run("-m", "tracekit", "show", folder).stdout
    assert "out of device memory in transformer" in shown
    assert "transformer's weights: " in shown

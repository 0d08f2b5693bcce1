"""Python frames, several threads, and scripts that set their offloading up themselves."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext
from pathlib import Path

import tracekit
from tracekit.model import NONE
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.workload.pipeline import find_folder

from .conftest import DEVICE, call, make


def test_python_frames_are_on_the_same_clock(emulated, tmp_path: Path) -> None:
    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())
    with tracekit.profile(pipeline, output=tmp_path / "run", python_frames=True) as run:
        call(pipeline)
    frames, [span] = run.data.frames, list(run.data.spans.query("kind == 'run'").itertuples())
    assert len(frames) > 100
    assert not frames.name.str.contains("tracekit/capture/").any()
    # The pipeline's own __call__ lies in the run's span, and a forward's frame in its forward's span.
    [entry] = list(frames[frames.name.str.contains(r"__call__ .*pipeline_flux\.py")].itertuples())
    assert span.start_ns <= entry.start_ns <= entry.end_ns <= span.end_ns
    steps = run.data.spans.query("kind == 'forward' and fqn == 'transformer'")
    forwards = frames[frames.name.str.contains(r"forward .*transformer_flux\.py")]
    for step in steps.itertuples():
        inside = forwards[(forwards.start_ns >= step.start_ns) & (forwards.end_ns <= step.end_ns)]
        assert len(inside) > 1


def test_pipelines_in_two_threads_are_two_runs(recording) -> None:
    pipelines = [make("sd3-tiny") for _ in range(2)]
    for pipeline in pipelines:
        apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())
    with recording() as recorded:
        recorded.session.watch(pipelines[0])
        threads = [threading.Thread(target=call, args=(pipeline, "sd3-tiny")) for pipeline in pipelines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    data = recorded.data
    runs = data.spans.query("kind == 'run'")
    assert sorted(runs.run_index) == [0, 1]
    assert runs.thread_id.nunique() == 2
    for run in runs.itertuples():
        own = data.copies[data.copies.run_index == run.run_index]
        assert set(own.thread_id) == {run.thread_id}
        assert (data.spans[data.spans.run_index == run.run_index].kind == "scheduler").sum() == 2
    counts = data.copies.run_index.value_counts()
    assert counts[0] == counts[1]
    outside = data.copies[data.copies.run_index == NONE]
    assert set(outside.operation) == {"Tensor.cpu"}  # of the pictures, after the runs


def test_a_script_is_profiled_with_the_offloading_it_sets_up(tmp_path: Path) -> None:
    folder = find_folder("synthetic:sd3-tiny")
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys
            os.environ["MINE"] = "set before torch"
            assert "torch" not in sys.modules and "diffusers" not in sys.modules
            from diffusers import DiffusionPipeline
            pipe = DiffusionPipeline.from_pretrained({str(folder)!r})
            pipe.set_progress_bar_config(disable=True)
            pipe.enable_sequential_cpu_offload(device="emulated")
            for _ in range(2):
                pipe("a cat", num_inference_steps=2, height=32, width=32, max_sequence_length=16)
            print("mine is done", sys.argv[1:])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "tracekit", "profile", "--output", tmp_path / "run", script, "--steps", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mine is done ['--steps', '3']\n"
    run = tracekit.load(tmp_path / "run")
    assert run.manifest.complete
    assert run.manifest.offload.mode == "script"
    assert run.manifest.pipeline_class == "StableDiffusion3Pipeline"
    spans = run.spans
    names = list(spans[spans.kind == "setup"].name)
    assert "DiffusionPipeline.from_pretrained" in names
    assert "StableDiffusion3Pipeline.enable_sequential_cpu_offload" in names
    assert (spans.kind == "run").sum() == 2
    assert list(run.timeline.steps.run_index) == [0, 0, 1, 1]
    weights = run.copies[run.copies.is_weight]
    first, second = (weights[weights.run_index == index] for index in (0, 1))
    assert len(first[first.phase != "setup"]) == len(second) > 100
    assert run.trace_path is not None

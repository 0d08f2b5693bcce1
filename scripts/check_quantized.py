#!/usr/bin/env python3
"""Profile a pipeline whose denoiser torchao has quantized to int8, and set what was predicted from its bytes beside it.

The same pipeline is first profiled as it is, under sequential offload; from that run the quantized one is predicted.
Then its denoiser is loaded with int8 weights, offloaded in the same way, and profiled in this process. Where a warm
step's time goes in either stands below, so that what the prediction lacks has a name.

    scripts/check_quantized.py --output reports/data [--pipeline synthetic:flux-dev-denoiser] [--source RUN]
        [--quantized RUN]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from benchlib import markdown_table, where_it_ran
from diffusers import TorchAoConfig
from torchao.quantization import Int8WeightOnlyConfig

import tracekit
from tracekit.analysis.drift import machine_drift
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.api import Run, load
from tracekit.device.choice import prepare_device, resolve_device
from tracekit.model.causes import Cause
from tracekit.model.plan import Configuration
from tracekit.model.typical import step_causes, typical_step
from tracekit.offload.residency import denoisers
from tracekit.units import format_bytes, format_duration
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.pipeline import find_folder, load_pipeline

INT8_BYTES = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the run folders and the table")
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--source", type=Path, help="a sequential run of the same call, instead of making one")
    parser.add_argument("--quantized", type=Path, help="an earlier quantized run, instead of making one")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    source = load(options.source or profile_source(options))
    run = load(options.quantized) if options.quantized else profile_quantized(options)
    text = report(options, source, run)
    (options.output / "quantized.md").write_text(text)
    print(text)
    return 0


def profile_source(options: argparse.Namespace) -> Path:
    """The pipeline as it is, in a process of its own: torchao changes what diffusers does in this one."""
    folder = options.output / "as-it-is"
    size = str(options.size)
    words = ["profile", options.pipeline, "--offload", "sequential", "--device", options.device, "--output", folder]
    call = ["--steps", str(options.steps), "--height", size, "--width", size, "--force"]
    subprocess.run([sys.executable, "-m", "tracekit", *map(str, words), *call], check=True)
    return folder


def profile_quantized(options: argparse.Namespace) -> Run:
    """A run with int8 weights."""
    device = resolve_device(options.device)
    prepare_device(device, None, None)
    folder = find_folder(options.pipeline)
    pipeline = load_pipeline(options.pipeline, None)
    ((name, denoiser),) = denoisers(pipeline).items()
    dtype = denoiser.dtype
    quantized = type(denoiser).from_pretrained(
        folder, subfolder=name, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()), torch_dtype=dtype
    )
    pipeline.register_modules(**{name: quantized})
    pipeline.enable_sequential_cpu_offload(device=device.torch_device)
    call = CallOptions(steps=options.steps, height=options.size, width=options.size, seed=0)
    with tracekit.profile(pipeline, output=options.output / "int8", force=True, device=options.device) as run:
        pipeline(**build_call(pipeline, folder, call, device.torch_device))
    return run


def item_bytes(run: Run) -> int:
    """Bytes of an element of the weights, by the dtype that most bytes have."""
    parameters = run.timeline.run.parameters
    most = parameters.groupby("dtype", observed=True)["size_bytes"].sum().idxmax()
    return int(getattr(torch, str(most)).itemsize)


def report(options: argparse.Namespace, source: Run, run: Run) -> str:
    """As it is, predicted and measured, side by side."""
    scale = INT8_BYTES / item_bytes(source)
    configuration = Configuration(mode="sequential", host_memory="anonymous", weight_scale=scale)
    predicted = Predictor(source.timeline).predict(configuration)
    before, after = typical_step(source.summary()), typical_step(run.summary())
    if before is None or after is None:
        sys.exit("no step is warm: give --steps 2 or more")
    rows = [
        row(
            "weights copied in a warm step",
            before.h2d_bytes,
            predicted.traffic["warm_step"].h2d_bytes,
            after.h2d_bytes,
            format_bytes,
        ),
        row("warm step", before.wall_ns, predicted.warm_step_ns.value, after.wall_ns, format_duration),
    ]
    causes = [step_causes(each.summary(), step) for each, step in ((source, before), (run, after))]
    spent = [
        [cause.value, *(format_duration(of[cause].duration_ns) if cause in of else "-" for of in causes)]
        for cause in Cause
        if any(cause in of for of in causes)
    ]
    drift = machine_drift(source.summary().ceilings, run.summary().ceilings)
    slower = ", ".join(f"{piece} {ratio:.2f}" for piece, ratio in drift.items())
    return (
        f"# A quantized pipeline, predicted and measured\n\n{where_it_ran(run.manifest)}\n"
        f"{options.pipeline}, {options.size}x{options.size}, {options.steps} steps, sequential offload; the denoiser's "
        "linear layers in int8 (torchao, weights alone). Predicted from the first run's bytes: the kernels that unpack "
        "weights are not in it, nor that a weight is two tensors now, its values and their scales.\n\n"
        f"{markdown_table(['', 'as it is', 'int8, predicted', 'int8, measured', 'error'], rows)}\n\n"
        "Where a warm step's time goes:\n\n"
        f"{markdown_table(['', 'as it is', 'int8'], spent)}\n\n"
        f"What the same work took before the second run, against before the first: {slower}.\n"
    )


def row(what: str, before: float, predicted: float, measured: float, show: Callable[[float], str]) -> list[str]:
    return [what, show(before), show(predicted), show(measured), f"{predicted / measured - 1:+.1%}"]


if __name__ == "__main__":
    sys.exit(main())

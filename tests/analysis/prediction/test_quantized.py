"""A really quantized pipeline (torchao, int8 weights), profiled, against what its bytes were predicted to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.api import load
from tracekit.model.plan import Configuration

pytest.importorskip("torchao", reason="torchao is not installed: pip install tracekit-offload[quantization]")

PROGRAM = """
import torch
from diffusers import FluxTransformer2DModel, TorchAoConfig
from torchao.quantization import Int8WeightOnlyConfig

import tracekit
from tracekit.device.emulated import load
from tracekit.workload.pipeline import CallOptions, build_call, find_folder, load_pipeline

load()
folder = find_folder("synthetic:flux-tiny")
transformer = FluxTransformer2DModel.from_pretrained(
    folder,
    subfolder="transformer",
    quantization_config=TorchAoConfig(Int8WeightOnlyConfig()),
    torch_dtype=torch.float32,
)
pipe = load_pipeline("synthetic:flux-tiny", None)
pipe.register_modules(transformer=transformer)
pipe.enable_sequential_cpu_offload(device="emulated:0")
with tracekit.profile(pipe, output={output!r}, device="emulated", trace=False):
    pipe(**build_call(pipe, folder, CallOptions(steps=2, height=32, width=32, seed=0), "emulated:0"))
"""


def test_int8_weights_cross_in_about_the_bytes_that_were_predicted(predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "quantized"
    # torchao changes what diffusers loads in a process: it gets one of its own.
    subprocess.run([sys.executable, "-c", PROGRAM.format(output=str(folder))], check=True, capture_output=True)
    measured = load(folder).summary().steps[-1].h2d_bytes
    predicted = predictor.predict(Configuration(mode="sequential", weight_scale=0.25)).traffic["warm_step"].h2d_bytes
    # Scales, one a row, and the layers that are not quantized come on top.
    assert predicted <= measured <= 1.05 * predicted

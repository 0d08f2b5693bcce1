"""A pipeline's name is resolved to a folder, loaded in its dtype, or refused in one line."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tracekit
from tracekit.errors import UsageError
from tracekit.workload.pipeline import load_pipeline
from tracekit.workload.quiet import errors_only, import_class, no_loading_bars, no_step_bar
from tracekit.workload.stored import stored_dtypes
from tracekit.workload.synthetic import cached_folder

REPOSITORY = Path(tracekit.__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A pipeline's folder to break."""
    return Path(shutil.copytree(cached_folder("sd3-tiny"), tmp_path / "pipeline"))


def one_line(name: str, dtype: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_pipeline(name, dtype)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bf16", torch.bfloat16), ("float16", torch.float16), ("fp32", torch.float32)]
)
def test_a_dtype_holds_for_every_component(dtype, expected):
    pipeline = load_pipeline("synthetic:sd3-tiny", dtype)
    models = [component for component in pipeline.components.values() if isinstance(component, torch.nn.Module)]
    assert {model.dtype for model in models} == {expected}


def test_auto_keeps_each_components_stored_dtype(folder):
    pipeline = load_pipeline(str(folder), "bf16")
    pipeline.transformer.save_pretrained(folder / "transformer")
    pipeline.text_encoder_3.save_pretrained(folder / "text_encoder_3", max_shard_size="500KB")
    (folder / "text_encoder_3" / "model.safetensors").unlink()
    assert stored_dtypes(folder) == {
        "text_encoder": torch.float32,
        "text_encoder_2": torch.float32,
        "text_encoder_3": torch.bfloat16,
        "transformer": torch.bfloat16,
        "vae": torch.float32,
    }
    again = load_pipeline(str(folder), "auto")
    assert again.transformer.dtype == again.text_encoder_3.dtype == torch.bfloat16
    assert again.vae.dtype == torch.float32


def test_an_unknown_dtype():
    assert one_line("synthetic:sd3-tiny", "int8") == (
        "unknown dtype 'int8': give auto, float32, fp32, float16, fp16, bfloat16, bf16"
    )


def test_an_unknown_synthetic_pipeline():
    assert "did you mean synthetic:sd3-tiny?" in one_line("synthetic:sd3tiny")


def test_a_synthetic_name_without_its_prefix():
    assert "did you mean synthetic:flux-tiny?" in one_line("flux-tiny")


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "nothing"])
def test_no_folder_and_no_hub_id(name):
    assert one_line(name).startswith(f"no folder {name!r}")


def test_a_folder_that_is_no_pipeline(tmp_path):
    assert "it has no model_index.json" in one_line(str(tmp_path))


def test_a_file_is_no_pipeline(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert "is a file" in one_line(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_index(folder, text):
    (folder / "model_index.json").write_text(text)
    assert "model_index.json" in one_line(str(folder))


def test_a_class_that_this_diffusers_lacks(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "NextYearsPipeline"}))
    assert "has no NextYearsPipeline" in one_line(str(folder))


@pytest.mark.parametrize("dtype", [None, "fp32"])
@pytest.mark.parametrize("kept", [0, 4, 1000])
def test_damaged_weights(folder, kept, dtype):
    os.truncate(folder / "transformer" / "diffusion_pytorch_model.safetensors", kept)
    message = one_line(str(folder), dtype)
    assert "transformer" in message or str(folder) in message


def test_a_missing_component(folder):
    shutil.rmtree(folder / "transformer")
    assert one_line(str(folder)).startswith(f"cannot load {folder}")


@pytest.mark.parametrize(
    ("offline", "remedy"), [("1", "HF_HUB_OFFLINE is set: unset it"), ("", "give a local diffusers folder")]
)
def test_a_hub_id_that_cannot_be_had(tmp_path, offline, remedy):
    # A fresh process, since the hub's library reads its settings when it is imported. The endpoint answers nothing.
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": offline,
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    program = """
from tracekit.errors import UsageError
from tracekit.workload.pipeline import load_pipeline
try:
    load_pipeline("organisation/name", None)
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "'organisation/name'" in done.stdout
    assert remedy in done.stdout
    assert done.stderr == ""


def test_the_hub_still_names_its_http_error_there():
    # tracekit.workload.pipeline catches it under this name.
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    assert issubclass(HfHubHTTPError, HTTPError)


def test_loading_and_running_draw_no_bars(capfd):
    from tracekit.workload.pipeline import CallOptions, build_call

    pipeline = load_pipeline("synthetic:sd3-tiny", None)
    with no_step_bar(pipeline):
        pipeline(**build_call(pipeline, None, CallOptions(steps=1)))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_bars_are_as_they_were_afterwards():
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    pipeline = load_pipeline("synthetic:sd3-tiny", None)
    assert diffusers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled()
    before = dict(vars(pipeline))
    with no_step_bar(pipeline):
        assert pipeline.progress_bar(total=1).disable
    assert vars(pipeline) == before
    pipeline.set_progress_bar_config(desc="mine")
    with no_step_bar(pipeline):
        assert pipeline.progress_bar(total=1).disable
    assert vars(pipeline)["_progress_bar_config"] == {"desc": "mine"}


def test_bars_that_were_off_stay_off():
    import diffusers.utils.logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    try:
        with no_loading_bars():
            pass
        assert not diffusers_logging.is_progress_bar_enabled()
    finally:
        diffusers_logging.enable_progress_bar()


def test_what_torchao_logs_is_quiet_for_a_while():
    loggers = [logging.getLogger(name) for name in ("torchao", "torchao.kernel", "torch.utils._pytree")]
    before = [(logger.level, logger.isEnabledFor(logging.WARNING)) for logger in loggers]
    with errors_only():
        assert not any(logger.isEnabledFor(logging.WARNING) for logger in loggers)
        assert all(logger.isEnabledFor(logging.ERROR) for logger in loggers)
    assert [(logger.level, logger.isEnabledFor(logging.WARNING)) for logger in loggers] == before


def test_import_class_knows_what_is_not_there():
    assert import_class("diffusers.FluxPipeline").__name__ == "FluxPipeline"
    assert import_class("diffusers.NextYearsPipeline") is None

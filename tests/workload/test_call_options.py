"""Options become the pipeline's keyword arguments, or one line that says why not."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from tracekit.errors import UsageError
from tracekit.workload.call import DEFAULT_PROMPT
from tracekit.workload.pipeline import CallOptions, build_call, load_pipeline


@pytest.fixture(scope="module")
def sd3():
    return load_pipeline("synthetic:sd3-tiny", None)


@pytest.fixture(scope="module")
def wan():
    return load_pipeline("synthetic:wan-tiny", None)


def refusal(pipeline, options: CallOptions) -> str:
    with pytest.raises(UsageError) as caught:
        build_call(pipeline, None, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folders_defaults_hold_where_nothing_is_asked(sd3):
    call = build_call(sd3, None, CallOptions())
    generator = call.pop("generator")
    assert generator.device.type == "cpu"
    assert generator.initial_seed() == 0
    assert call == {
        "height": 128,
        "width": 128,
        "num_inference_steps": 4,
        "max_sequence_length": 64,
        "prompt": DEFAULT_PROMPT,
    }


def test_what_is_asked_wins(sd3):
    options = CallOptions(
        steps=2, height=64, width=96, prompt="a dog", seed=7, extra={"max_sequence_length": "32", "guidance_scale": "1"}
    )
    call = build_call(sd3, None, options)
    assert call.pop("generator").initial_seed() == 7
    assert call == {
        "height": 64,
        "width": 96,
        "num_inference_steps": 2,
        "max_sequence_length": 32,
        "prompt": "a dog",
        "guidance_scale": 1,
    }


def test_each_call_has_a_fresh_generator(sd3):
    first, second = (build_call(sd3, None, CallOptions(seed=5))["generator"] for _ in range(2))
    assert torch.equal(torch.randn(4, generator=first), torch.randn(4, generator=second))


def test_a_folder_can_be_named(sd3, tmp_path):
    (tmp_path / "tracekit.json").write_text(json.dumps({"call": {"height": 32, "unknown_to_sd3": 1}}))
    call = build_call(sd3, tmp_path, CallOptions())
    assert call["height"] == 32
    assert "unknown_to_sd3" not in call
    assert "num_inference_steps" not in call


def test_a_damaged_defaults_file(sd3, tmp_path):
    (tmp_path / "tracekit.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        build_call(sd3, tmp_path, CallOptions())


def test_every_argument_is_one_that_the_pipeline_takes(wan):
    call = build_call(wan, None, CallOptions(extra={"num_frames": "9", "negative_prompt": "blurred"}))
    inspect.signature(type(wan).__call__).bind(wan, **call)
    assert call["num_frames"] == 9
    assert call["negative_prompt"] == "blurred"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ('"quoted"', "quoted"),
        ("plain words", "plain words"),
        ('["two", "more"]', ["two", "more"]),
    ],
)
def test_values_are_json_where_they_are_json(sd3, text, value):
    assert build_call(sd3, None, CallOptions(extra={"prompt_2": text}))["prompt_2"] == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CallOptions(steps=0), "--steps must be at least 1, not 0"),
        (CallOptions(height=-64), "--height must be at least 1, not -64"),
        (CallOptions(height=100), "divisible by"),
        (CallOptions(extra={"max_sequence_length": "9999"}), "`max_sequence_length` cannot be greater"),
        (CallOptions(extra={"guidance": "1"}), "takes no argument 'guidance': did you mean guidance_scale"),
        (CallOptions(extra={"zzzz": "1"}), "takes no argument 'zzzz': it takes prompt, "),
        (CallOptions(extra={"self": "1"}), "takes no argument 'self'"),
        (CallOptions(extra={"guidance_scale": "much"}), "--call guidance_scale=much: "),
        (CallOptions(extra={"max_sequence_length": "true"}), "wants int"),
        (CallOptions(extra={"return_dict": "1"}), "wants bool"),
        (CallOptions(extra={"generator": "1"}), "--seed"),
        (CallOptions(steps=2, extra={"num_inference_steps": "3"}), "given twice"),
        (CallOptions(seed=2**70), "--seed"),
    ],
)
def test_what_cannot_be(sd3, options, message):
    assert message in refusal(sd3, options)


def test_a_video_pipeline_names_its_own_arguments(wan):
    assert "did you mean num_frames" in refusal(wan, CallOptions(extra={"frames": "5"}))


class Colouring(DiffusionPipeline):
    """A pipeline without prompt, steps, size or generator, which needs an image."""

    def __init__(self, scheduler: DDIMScheduler):
        super().__init__()
        self.register_modules(scheduler=scheduler)

    def __call__(self, image: str, strength: float | None = None) -> Any:
        return [image, strength]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CallOptions(), "Colouring needs image: give --call image=..."),
        (CallOptions(prompt="a cat"), "Colouring takes no prompt: leave out --prompt"),
        (CallOptions(steps=1), "Colouring takes no num_inference_steps: leave out --steps"),
        (CallOptions(seed=1), "Colouring takes no generator: leave out --seed"),
    ],
)
def test_only_what_the_pipeline_takes(options, message):
    assert refusal(Colouring(DDIMScheduler()), options) == message


def test_a_pipeline_without_the_usual_arguments_can_be_called():
    call = build_call(
        Colouring(DDIMScheduler()), Path("/nowhere"), CallOptions(extra={"image": "cat.png", "strength": "null"})
    )
    assert Colouring(DDIMScheduler())(**call) == ["cat.png", None]

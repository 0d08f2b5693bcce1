"""Turn the user's options into the keyword arguments of one pipeline call, checked before anything runs."""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekit.errors import UsageError
from tracekit.workload.defaults import FolderDefaults, read_defaults

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DEFAULT_PROMPT = "a photo of a cat holding a sign"

_OPTIONS = {"steps": "num_inference_steps", "height": "height", "width": "width", "prompt": "prompt"}
# Which JSON values a simple annotation takes.
_ACCEPTS: Mapping[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    list: (list,),
    dict: (dict,),
    type(None): (type(None),),
}


@dataclass(frozen=True)
class CallOptions:
    """What the user asks of a pipeline call; None leaves it to the pipeline's folder, then to the pipeline.

    `extra` holds ``--call key=value`` as typed: a value is read as JSON where it is JSON, else as a string.
    """

    steps: int | None = None
    height: int | None = None
    width: int | None = None
    prompt: str | None = None
    seed: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def build_call(
    pipeline: DiffusionPipeline, folder: Path | None, options: CallOptions, device: str | None = None
) -> dict[str, Any]:
    """The keyword arguments for ``pipeline(**kwargs)``.

    The user's options win over the folder's defaults. The seed makes a fresh generator on the CPU, so that runs and
    devices start from the same noise: build the arguments anew for each run.

    Args:
        pipeline: the pipeline to call.
        folder: where its call defaults are; None: where it was loaded from.
        options: what the user asked for.
        device: where ready prompt embeddings are put; None: the CPU.

    Raises:
        UsageError: an argument that this pipeline does not take, or a value that it cannot.
    """
    accepted = inspect.signature(type(pipeline).__call__).parameters
    origin = folder or Path(pipeline.name_or_path or "")
    defaults = read_defaults(origin) or FolderDefaults()
    asked = _asked(options, accepted, type(pipeline).__name__)
    call: dict[str, Any] = {key: value for key, value in defaults.call.items() if key in accepted}
    if defaults.embeddings_file:
        call.update(_embeddings(origin / defaults.embeddings_file, pipeline, device))
    call.update(asked)
    _fill_prompt(call, accepted, pipeline)
    if "generator" in accepted:
        import torch

        call["generator"] = torch.Generator("cpu").manual_seed(options.seed or 0)
    _check_required(call, accepted, type(pipeline).__name__)
    _check_with_pipeline(pipeline, call, accepted)
    return call


def _asked(options: CallOptions, accepted: Mapping[str, inspect.Parameter], name: str) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for option, argument in _OPTIONS.items():
        value = getattr(options, option)
        if value is None:
            continue
        if argument not in accepted:
            raise UsageError(f"{name} takes no {argument}: leave out --{option}")
        if isinstance(value, int) and value < 1:
            raise UsageError(f"--{option} must be at least 1, not {value}")
        asked[argument] = value
    if options.seed is not None:
        if "generator" not in accepted:
            raise UsageError(f"{name} takes no generator: leave out --seed")
        if not 0 <= options.seed < 2**63:
            raise UsageError(f"--seed must be from 0 to 2**63 - 1, not {options.seed}")
    for key, text in options.extra.items():
        asked[key] = _extra_value(key, text, accepted, asked, name)
    return asked


def _extra_value(
    key: str, text: str, accepted: Mapping[str, inspect.Parameter], asked: Mapping[str, Any], name: str
) -> Any:
    if key not in accepted or key == "self":
        near = difflib.get_close_matches(key, accepted, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(list(accepted)[1:])}"
        raise UsageError(f"{name} takes no argument {key!r}: {hint}")
    if key == "generator":
        raise UsageError("the generator is made from --seed: use that in place of --call generator=...")
    if key in asked:
        raise UsageError(f"{key} is given twice: once as an option, once as --call {key}=...")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    expected = _simple_types(accepted[key].annotation)
    # bool is an int in Python, but no number of steps.
    if expected and not any(isinstance(value, kind) and (kind is bool) == (type(value) is bool) for kind in expected):
        wanted = " or ".join(sorted({kind.__name__ for kind in expected}))
        raise UsageError(f"--call {key}={text}: {name} wants {wanted}")
    return value


def _simple_types(annotation: Any) -> tuple[type, ...]:
    """The Python types of JSON values that an annotation allows; empty if it allows anything else as well."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        members = typing.get_args(annotation)
    else:
        members = (annotation,)
    plain = [typing.get_origin(member) or member for member in members]
    if not all(member in _ACCEPTS for member in plain):
        return ()
    return tuple(kind for member in plain for kind in _ACCEPTS[member])


def _embeddings(path: Path, pipeline: DiffusionPipeline, device: str | None) -> dict[str, Any]:
    """Ready prompt embeddings in the denoiser's dtype: pipelines neither cast nor move what they are given."""
    from safetensors.torch import load_file

    denoiser = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    dtype = denoiser.dtype if denoiser is not None else None
    return {name: tensor.to(device=device, dtype=dtype) for name, tensor in load_file(path).items()}


def _fill_prompt(call: dict[str, Any], accepted: Mapping[str, inspect.Parameter], pipeline: DiffusionPipeline) -> None:
    encoders = [name for name in pipeline.components if name.startswith("text_encoder")]
    if call.get("prompt") is not None and encoders and all(getattr(pipeline, name) is None for name in encoders):
        raise UsageError("this pipeline has no text encoder: leave out --prompt, its prompt embeddings are ready")
    if "prompt" in accepted and "prompt" not in call and "prompt_embeds" not in call:
        call["prompt"] = DEFAULT_PROMPT


def _check_required(call: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter], name: str) -> None:
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for key, parameter in accepted.items():
        if key != "self" and parameter.default is parameter.empty and parameter.kind in plain and key not in call:
            raise UsageError(f"{name} needs {key}: give --call {key}=...")


def _check_with_pipeline(
    pipeline: DiffusionPipeline, call: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter]
) -> None:
    """Let the pipeline's own ``check_inputs`` judge, where all that it asks for is known beforehand."""
    check = getattr(pipeline, "check_inputs", None)
    if check is None:
        return
    arguments = {}
    for key, parameter in inspect.signature(check).parameters.items():
        if key in call:
            arguments[key] = call[key]
        elif key in accepted and accepted[key].default is not inspect.Parameter.empty:
            arguments[key] = accepted[key].default
        elif parameter.default is inspect.Parameter.empty:
            return
    # The pipeline computes these itself when they are not given, but only in its call.
    if any(key in arguments and arguments[key] is None for key in ("height", "width")):
        return
    try:
        check(**arguments)
    except ValueError as error:
        raise UsageError(f"{type(pipeline).__name__}: {error}") from error

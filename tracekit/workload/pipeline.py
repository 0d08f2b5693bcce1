"""Load the pipeline that a workload's name means: a hub id, a folder, or a built-in synthetic one."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekit.errors import MissingError, UsageError
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.synthetic import PREFIX, SYNTHETIC, WriteProgress, cached_folder

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

__all__ = ["DTYPES", "CallOptions", "build_call", "find_folder", "load_pipeline"]

DTYPES = {
    "float32": "float32", "fp32": "float32",
    "float16": "float16", "fp16": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16",
}  # fmt: skip
"""torch's name of a dtype by what users may call it; ``auto`` is each component's stored dtype."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_pipeline(name: str, dtype: str | None, progress: WriteProgress | None = None) -> DiffusionPipeline:
    """The pipeline on the CPU, quietly; no code from a hub repository is ever run.

    Args:
        name: ``synthetic:NAME``, a diffusers folder, or a hub id.
        dtype: a key of `DTYPES`; None or ``auto`` loads every component in the dtype that its files have, so that
            weights stay in the mmapped files. (diffusers' own default would cast to float32 and materialise them.)
        progress: told of the bytes written when a synthetic pipeline is made first.

    Raises:
        UsageError: no such pipeline or dtype, or it cannot be loaded.
        MissingError: it needs a package that is not installed.
    """
    if dtype not in (None, "auto", *DTYPES):
        raise UsageError(f"unknown dtype {dtype!r}: give auto, {', '.join(DTYPES)}")
    folder = find_folder(name, progress)

    # These import torch; names are checked without it.
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    from tracekit.workload.quiet import no_loading_bars
    from tracekit.workload.stored import absent_components, read_index

    index = read_index(folder)
    _check_class(index["_class_name"], name)
    try:
        with no_loading_bars():
            return DiffusionPipeline.from_pretrained(
                folder,
                dtype=_component_dtypes(folder, dtype),
                trust_remote_code=False,
                # A component saved as absent has to be passed as absent, unless the class calls it optional.
                **dict.fromkeys(absent_components(index)),
            )
    except ImportError as error:
        raise MissingError(f"cannot load {name}: {_first_line(error)}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"cannot load {name}: {_first_line(error)}") from error


def find_folder(name: str, progress: WriteProgress | None = None) -> Path:
    """The local folder that a pipeline's name means; made or downloaded now if need be.

    Raises:
        UsageError: there is none.
    """
    if name.startswith(PREFIX):
        return cached_folder(name, progress)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"{name} is a file: give a diffusers folder, a hub id or {PREFIX}NAME")
    if not _HUB_ID.fullmatch(name):
        near = difflib.get_close_matches(name, SYNTHETIC, n=1, cutoff=0.8)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        raise UsageError(f"no folder {name!r}, and no hub id (organisation/name){hint}")
    return _download(name)


def _download(name: str) -> Path:
    import httpx
    from diffusers import DiffusionPipeline

    from tracekit.workload.quiet import no_loading_bars

    try:
        with no_loading_bars():
            return Path(DiffusionPipeline.download(name, trust_remote_code=False))
    except (OSError, ValueError, httpx.HTTPError) as error:
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "set HF_HUB_OFFLINE=1 if cached"
        raise UsageError(
            f"cannot get {name!r} from the hub or its cache ({offline}), and there is no such folder; "
            f"give a local diffusers folder or {PREFIX}flux-tiny: {_first_line(error)}"
        ) from error


def _check_class(class_name: str, name: str) -> None:
    """Refuse a pipeline class that this diffusers does not have."""
    import diffusers
    import transformers.utils.logging as transformers_logging

    # Importing a pipeline makes transformers warn of torchvision's absence, which no pipeline here needs.
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        known = hasattr(diffusers, class_name)
    finally:
        transformers_logging.set_verbosity(verbosity)
    if not known:
        raise UsageError(f"cannot load {name}: diffusers {diffusers.__version__} has no {class_name}")


def _component_dtypes(folder: Path, dtype: str | None) -> dict[str, torch.dtype] | torch.dtype:
    import torch

    from tracekit.workload.stored import stored_dtypes

    if dtype in (None, "auto"):
        return {**stored_dtypes(folder), "default": torch.float32}
    chosen: torch.dtype = getattr(torch, DTYPES[dtype])
    return chosen


def _first_line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__

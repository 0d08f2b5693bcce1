"""Load the pipeline that a workload's name means: a hub id, a folder, or a built-in synthetic one."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.errors import MissingError, UsageError
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.defaults import WriteProgress
from tracekit.workload.synthetic import PREFIX, SYNTHETIC, cached_folder

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

    from tracekit.workload.quiet import import_class, no_loading_bars
    from tracekit.workload.stored import absent_components, read_index

    index = read_index(folder)
    if import_class(f"diffusers.{index['_class_name']}") is None:
        raise UsageError(f"cannot load {name}: this release of diffusers has no {index['_class_name']}")
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
    """The hub repository's folder in the hub's cache, without any code that it may hold."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    # The base class of what the hub's HTTP library raises; which library that is depends on the hub's release.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    from tracekit.workload.quiet import errors_only, import_class, no_loading_bars

    base = import_class("diffusers.DiffusionPipeline")
    try:
        with no_loading_bars(), errors_only():
            return Path(base.download(name, trust_remote_code=False))
    except (OSError, ValueError, HTTPError) as error:
        if HF_HUB_OFFLINE:
            raise UsageError(
                f"{name!r} is not in the hub's cache and HF_HUB_OFFLINE is set: unset it, or give a local folder"
            ) from error
        raise UsageError(
            f"cannot get {name!r} from the hub ({_first_line(_origin(error))}): "
            "give a local diffusers folder, or one in the hub's cache with HF_HUB_OFFLINE=1"
        ) from error


def _origin(error: BaseException) -> BaseException:
    """The first error of a chain: what happened, rather than what each layer made of it."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _component_dtypes(folder: Path, dtype: str | None) -> dict[str, torch.dtype] | torch.dtype:
    import torch

    from tracekit.workload.stored import stored_dtypes

    if dtype in (None, "auto"):
        return {**stored_dtypes(folder), "default": torch.float32}
    chosen: torch.dtype = getattr(torch, DTYPES[dtype])
    return chosen


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""The built-in synthetic pipelines: real classes and configs, random weights, saved as ordinary diffusers folders."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tracekit.errors import UsageError
from tracekit.workload import flux, stable_diffusion, wan
from tracekit.workload.defaults import WriteProgress, read_defaults
from tracekit.workload.recipes import Recipe

PREFIX = "synthetic:"
"""What a workload's name begins with when it is one of these."""

SYNTHETIC: Mapping[str, Recipe] = MappingProxyType(
    {
        "flux-tiny": flux.TINY,
        "flux-small": flux.SMALL,
        "flux-dev": flux.DEV,
        "flux-dev-denoiser": flux.DEV_DENOISER,
        "sdxl-tiny": stable_diffusion.XL_TINY,
        "sdxl": stable_diffusion.XL,
        "sdxl-denoiser": stable_diffusion.XL_DENOISER,
        "sd3-tiny": stable_diffusion.SD3_TINY,
        "wan-tiny": wan.WAN_TINY,
        "wan22-tiny": wan.WAN22_TINY,
    }
)
"""Recipe by name, without the prefix."""


def find_recipe(name: str) -> Recipe:
    """The recipe of a synthetic pipeline, named with or without ``synthetic:``.

    Raises:
        UsageError: there is none of that name; the message lists those that there are.
    """
    short = name.removeprefix(PREFIX)
    if short in SYNTHETIC:
        return SYNTHETIC[short]
    near = difflib.get_close_matches(short, SYNTHETIC, n=1)
    hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
    raise UsageError(f"no synthetic pipeline {short!r}: {hint}there are {', '.join(SYNTHETIC)}")


def cached_folder(name: str, progress: WriteProgress | None = None) -> Path:
    """The folder of a synthetic pipeline in the user's cache, made now if it is not there as a whole.

    Raises:
        UsageError: unknown name, or no room for it.
    """
    # Slow to import, and the command line only wants the names.
    import filelock
    import platformdirs

    recipe = find_recipe(name)
    cache = platformdirs.user_cache_path("tracekit") / "synthetic"
    folder = cache / name.removeprefix(PREFIX)
    if is_whole(folder, recipe):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {cache}: {error.strerror}; set XDG_CACHE_HOME to another place") from error
    if not os.access(cache, os.W_OK):
        raise UsageError(f"cannot write to {cache}; set XDG_CACHE_HOME to another place")
    with filelock.FileLock(cache / f"{folder.name}.lock"):
        # Another process may have made it while this one waited.
        if not is_whole(folder, recipe):
            from tracekit.workload.build import build_folder

            shutil.rmtree(folder, ignore_errors=True)
            build_folder(recipe, folder, progress)
    return folder


def is_whole(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds this recipe with every file in its full size."""
    try:
        defaults = read_defaults(folder)
    except UsageError:
        return False
    if defaults is None or defaults.recipe != recipe.fingerprint():
        return False
    for relative, size_bytes in defaults.files.items():
        path = folder / relative
        if not path.is_file() or path.stat().st_size != size_bytes:
            return False
    return True

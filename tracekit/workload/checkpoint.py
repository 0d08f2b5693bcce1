"""Make a synthetic pipeline's folder where the user wants it."""

from __future__ import annotations

from pathlib import Path

from tracekit.errors import UsageError
from tracekit.workload.defaults import WriteProgress
from tracekit.workload.synthetic import find_recipe


def make_checkpoint(name: str, directory: Path, progress: WriteProgress | None = None) -> Path:
    """Write the synthetic pipeline `name` as a diffusers folder and return the folder.

    It appears under its name when it is whole; `progress` is told the bytes written and their total.

    Raises:
        UsageError: unknown name, the directory exists, or there is no room for it.
    """
    recipe = find_recipe(name)
    directory = Path(directory)
    if directory.exists() or directory.is_symlink():
        raise UsageError(f"{directory} exists already: give a new folder")

    from tracekit.workload.build import build_folder

    build_folder(recipe, directory, progress)
    return directory

"""Build the emulated device's C++ extension once into the user's cache, through torch's extension loader."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import ninja
import torch

from tracekit.device.extension import Extension
from tracekit.errors import TracekitError

EXTENSION = Extension(
    name="tracekit_emulated_device",
    title="the emulated device",
    folder="emulated_device",
    sources=Path(__file__).parent / "csrc",
    flags=("-O2", "-Wall", "-Wextra"),
    compiler=("CXX", "c++"),
    depends_on=f"torch{torch.__version__}-",
)


def load_extension() -> ModuleType:
    """The compiled extension, from the cache where it is there (milliseconds), else built first (about a minute).

    Raises:
        MissingError: it is not built yet and there is no C++ compiler, or Python's headers are not installed.
        UsageError: the user's cache cannot be written.
        TracekitError: the build failed; the message names its log.
    """
    return EXTENSION.load(_build)


def check_available() -> None:
    """Raise MissingError where `load_extension` would, without building anything."""
    if not library_path().exists():
        EXTENSION.check_toolchain()


@functools.cache
def library_path() -> Path:
    """Where the compiled extension is, or will be."""
    return EXTENSION.library


def _build(folder: Path) -> ModuleType:
    # Imported here: it brings setuptools along, which a cached build does not need.
    from torch.utils import cpp_extension

    with _ninja_on_path():
        try:
            module: ModuleType = cpp_extension.load(
                EXTENSION.name,
                list(EXTENSION.source_files(".cpp")),
                extra_cflags=list(EXTENSION.flags),
                build_directory=str(folder),
            )
        except (RuntimeError, ImportError, subprocess.SubprocessError) as error:
            raise TracekitError(str(error)) from error
    return module


@contextmanager
def _ninja_on_path() -> Iterator[None]:
    # torch calls ninja by name; a virtual environment that is used without being activated is not on the path.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, path))
    try:
        yield
    finally:
        os.environ["PATH"] = path

"""Build the emulated device's C++ extension once into the user's cache, and import it.

The cache is keyed by what the binary depends on (torch, Python, sources, flags), and the library appears in it with
one rename under a lock, so any number of processes may start at the same moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

import ninja
import torch
from filelock import FileLock
from platformdirs import user_cache_path

from tracekit.errors import MissingError, TracekitError

EXTENSION = "tracekit_emulated_device"
_SOURCES = Path(__file__).parent / "csrc"
_FLAGS = ("-O2", "-Wall", "-Wextra")
_INSTALL_HINT = "install it with: apt-get install g++ python3-dev"


def load_extension() -> ModuleType:
    """The compiled extension, from the cache where it is there (milliseconds), else built first (about a minute).

    Raises:
        MissingError: it is not built yet and there is no C++ compiler, or Python's headers are not installed.
        TracekitError: the build failed; the message names the log.
    """
    folder = user_cache_path("tracekit") / "emulated_device" / _cache_key()
    library = folder / f"{EXTENSION}.so"
    if library.exists():
        return _import_library(library)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        # Another process may have built it while this one waited.
        return _import_library(library) if library.exists() else _build(folder, library)


def source_files() -> list[Path]:
    """The C++ sources, headers excluded."""
    return sorted(_SOURCES.glob("*.cpp"))


def _cache_key() -> str:
    digest = hashlib.sha256()
    for part in (*_FLAGS, *(path.name + path.read_text() for path in sorted(_SOURCES.iterdir()))):
        digest.update(part.encode())
    python = sysconfig.get_config_var("SOABI") or f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"torch{torch.__version__}-{python}-{digest.hexdigest()[:16]}"


def _build(folder: Path, library: Path) -> ModuleType:
    _check_toolchain()
    # Imported here: it brings setuptools along, which a cached build does not need.
    from torch.utils import cpp_extension

    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as build_folder, _ninja_on_path():
        try:
            module: ModuleType = cpp_extension.load(
                EXTENSION,
                [str(path) for path in source_files()],
                extra_cflags=list(_FLAGS),
                build_directory=build_folder,
                verbose=False,
            )
        except RuntimeError as error:
            log = folder / "build.log"
            log.write_text(str(error))
            raise TracekitError(f"building the emulated device failed: the compiler's messages are in {log}") from error
        (Path(build_folder) / f"{EXTENSION}.so").replace(library)
    return module


def _check_toolchain() -> None:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise MissingError(f"the emulated device needs a C++ compiler ({compiler} is not there); {_INSTALL_HINT}")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise MissingError(f"the emulated device needs Python's headers ({header} is not there); {_INSTALL_HINT}")


@contextlib.contextmanager
def _ninja_on_path() -> Iterator[None]:
    # torch calls ninja by name; a virtual environment that is used without being activated is not on the path.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, path))
    try:
        yield
    finally:
        os.environ["PATH"] = path


def _import_library(library: Path) -> ModuleType:
    loader = ExtensionFileLoader(EXTENSION, str(library))
    spec = importlib.util.spec_from_file_location(EXTENSION, library, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module

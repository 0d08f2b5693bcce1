"""Build the emulated device's C++ extension once into the user's cache, and import it.

The cache is keyed by what the binary depends on (torch, Python, sources, flags), and the library appears in it with
one rename under a lock, so any number of processes may start at the same moment.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

import ninja
import torch
from filelock import FileLock
from platformdirs import user_cache_path

from tracekit.errors import MissingError, TracekitError, UsageError

EXTENSION = "tracekit_emulated_device"
SOURCE_FOLDER = Path(__file__).parent / "csrc"
FLAGS = ("-O2", "-Wall", "-Wextra")
_INSTALL_HINT = "install it with: apt-get install g++ python3-dev"


def load_extension() -> ModuleType:
    """The compiled extension, from the cache where it is there (milliseconds), else built first (about a minute).

    Raises:
        MissingError: it is not built yet and there is no C++ compiler, or Python's headers are not installed.
        UsageError: the user's cache cannot be written.
        TracekitError: the build failed; the message names its log.
    """
    library = library_path()
    if library.exists():
        return _import_library(library)
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot build the emulated device in {library.parent}: {error.strerror}") from error
    with FileLock(library.with_suffix(".lock")):
        # Another process may have built it while this one waited.
        return _import_library(library) if library.exists() else _build(library)


def check_available() -> None:
    """Raise MissingError where `load_extension` would, without building anything."""
    if not library_path().exists():
        _check_toolchain()


@functools.cache
def library_path() -> Path:
    """Where the compiled extension is, or will be."""
    digest = hashlib.sha256()
    for part in (*FLAGS, *(path.name + path.read_text() for path in sorted(SOURCE_FOLDER.iterdir()))):
        digest.update(part.encode())
    key = f"torch{torch.__version__}-{sysconfig.get_config_var('SOABI')}-{digest.hexdigest()[:16]}"
    return user_cache_path("tracekit") / "emulated_device" / key / f"{EXTENSION}.so"


def _build(library: Path) -> ModuleType:
    _check_toolchain()
    # Imported here: it brings setuptools along, which a cached build does not need.
    from torch.utils import cpp_extension

    with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as folder, _ninja_on_path():
        try:
            module: ModuleType = cpp_extension.load(
                EXTENSION,
                [str(path) for path in sorted(SOURCE_FOLDER.glob("*.cpp"))],
                extra_cflags=list(FLAGS),
                build_directory=folder,
            )
        except (RuntimeError, ImportError, subprocess.SubprocessError) as error:
            log = library.with_name("build.log")
            log.write_text(str(error))
            raise TracekitError(f"building the emulated device failed; the compiler's messages are in {log}") from error
        (Path(folder) / library.name).replace(library)
    return module


def _check_toolchain() -> None:
    compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
    if shutil.which(compiler) is None:
        raise MissingError(f"the emulated device needs a C++ compiler ({compiler} is not there); {_INSTALL_HINT}")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise MissingError(f"the emulated device needs Python's headers ({header} is not there); {_INSTALL_HINT}")


@contextmanager
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

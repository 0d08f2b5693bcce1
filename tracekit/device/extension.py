"""Keep compiled extensions in the user's cache: each is built once and imported from there ever after.

The cache is keyed by what the binary depends on, and a library appears in it with one rename under a lock, so any
number of processes may start at the same moment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

from filelock import FileLock
from platformdirs import user_cache_path

from tracekit.errors import MissingError, TracekitError, UsageError

INSTALL_HINT = "install it with: apt-get install g++ python3-dev"

Build = Callable[[Path], ModuleType | None]
"""Builds a library with the extension's name in the folder it is given; raises TracekitError with what went wrong.

Returns the module if building it has imported it, too.
"""


@dataclass(frozen=True)
class Extension:
    """A compiled module: its import name, what people call it, its sources, and what else its binary depends on.

    `compiler` is the environment variable that names the compiler, and its default.
    """

    name: str
    title: str
    folder: str
    sources: Path
    flags: tuple[str, ...]
    compiler: tuple[str, str]
    depends_on: str = ""

    @property
    def library(self) -> Path:
        """Where the binary is, or will be."""
        digest = hashlib.sha256()
        for part in (*self.flags, *(path.name + path.read_text() for path in sorted(self.sources.iterdir()))):
            digest.update(part.encode())
        key = f"{self.depends_on}{sysconfig.get_config_var('SOABI')}-{digest.hexdigest()[:16]}"
        return user_cache_path("tracekit") / self.folder / key / f"{self.name}.so"

    def command(self) -> list[str]:
        """The compiler, as its variable has it."""
        variable, default = self.compiler
        return shlex.split(os.environ.get(variable, default))

    def check_toolchain(self) -> None:
        """Raise MissingError where there is no compiler, or Python's headers are not installed."""
        compiler = self.command()[0]
        if shutil.which(compiler) is None:
            raise MissingError(f"{self.title} needs a compiler ({compiler} is not there); {INSTALL_HINT}")
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if not header.exists():
            raise MissingError(f"{self.title} needs Python's headers ({header} is not there); {INSTALL_HINT}")

    def load(self, build: Build) -> ModuleType:
        """The module, from the cache where it is there, else built first.

        Raises:
            MissingError: it is not built yet and the toolchain is not there.
            UsageError: the user's cache cannot be written.
            TracekitError: the build failed; the message names its log.
        """
        library = self.library
        if library.exists():
            return _import(self.name, library)
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot build {self.title} in {library.parent}: {error.strerror}") from error
        with FileLock(library.with_suffix(".lock")):
            # Another process may have built it while this one waited.
            module = None if library.exists() else self._build(library, build)
        return module or _import(self.name, library)

    def _build(self, library: Path, build: Build) -> ModuleType | None:
        self.check_toolchain()
        with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as folder:
            try:
                module = build(Path(folder))
            except TracekitError as error:
                log = library.with_name("build.log")
                log.write_text(str(error))
                raise TracekitError(
                    f"building {self.title} failed; the compiler's messages are in {log}"
                ) from error.__cause__
            (Path(folder) / library.name).replace(library)
        return module

    def source_files(self, suffix: str) -> Sequence[str]:
        """The files to compile, in a fixed order."""
        return [str(path) for path in sorted(self.sources.glob(f"*{suffix}"))]


def _import(name: str, library: Path) -> ModuleType:
    loader = ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_file_location(name, library, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module

"""Build the compiled hooks once into the user's cache, and load them.

They are plain C against Python's own interface, so that a build takes two seconds and holds for every release of torch.
"""

from __future__ import annotations

import functools
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

from tracekit.device.extension import Extension
from tracekit.errors import TracekitError

EXTENSION = Extension(
    name="tracekit_hotpath",
    title="tracekit's compiled hooks",
    folder="hotpath",
    sources=Path(__file__).parent / "csrc",
    flags=(
        *("-O2", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
        # Python's own way of declaring slots and the ends of tables trips over these.
        *("-Wno-missing-field-initializers", "-Wno-cast-function-type"),
    ),
    compiler=("CC", "cc"),
)


@functools.cache
def load() -> ModuleType:
    """The compiled hooks; once a process, since their types are static.

    Raises:
        MissingError: they are not built yet and there is no C compiler, or Python's headers are not installed.
        UsageError: the user's cache cannot be written.
        TracekitError: the build failed; the message names its log.
    """
    return EXTENSION.load(_build)


def compile_command(output: Path) -> list[str]:
    """How the library is made."""
    include = f"-I{sysconfig.get_path('include')}"
    return [*EXTENSION.command(), *EXTENSION.flags, include, *EXTENSION.source_files(".c"), "-o", str(output)]


def _build(folder: Path) -> None:
    command = compile_command(folder / f"{EXTENSION.name}.so")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TracekitError(done.stderr)

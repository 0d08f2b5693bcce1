"""Import the classes of a stored pipeline ahead of loading it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tracekit.workload.quiet import import_class
from tracekit.workload.stored import read_index


def import_classes(folder: Path) -> None:
    """Import what loading the pipeline in `folder` will import; no weight is read and no device is touched.

    diffusers and transformers import a class when it is first asked for, which takes seconds: they are no part of a
    set-up. A class that cannot be imported is left to the loading, which says so.

    Raises:
        UsageError: the folder is no pipeline.
    """
    index = read_index(folder)
    named = [value for value in index.values() if isinstance(value, list) and len(value) == 2]
    for library, name in [["diffusers", index["_class_name"]], *named]:
        if library in ("diffusers", "transformers") and isinstance(name, str):
            with contextlib.suppress(ImportError, RuntimeError):
                import_class(f"{library}.{name}")

"""What tracekit keeps beside a pipeline's own files: defaults of its call, and whether the folder is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tracekit.errors import UsageError

DEFAULTS_FILE = "tracekit.json"
"""The file beside ``model_index.json`` that holds a `FolderDefaults`."""

WriteProgress = Callable[[int, int], None]
"""Told how many bytes are written, and of how many."""


class FolderDefaults(msgspec.Struct, kw_only=True):
    """What tracekit keeps in a pipeline's folder.

    `call` holds defaults of the pipeline's call, `embeddings_file` names a safetensors file with ready prompt
    embeddings. `recipe` and `files` (size in bytes by relative path) tell whether a cached folder is whole.
    """

    call: dict[str, str | int | float | bool | None] = {}
    embeddings_file: str = ""
    recipe: str = ""
    files: dict[str, int] = {}


def read_defaults(folder: Path) -> FolderDefaults | None:
    """What tracekit keeps in this folder; None if it keeps nothing there.

    Raises:
        UsageError: the file is there and cannot be understood.
    """
    path = folder / DEFAULTS_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=FolderDefaults)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is damaged: {error}; delete it, or the folder if tracekit made it") from error

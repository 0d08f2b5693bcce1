"""The command that profiles a run again with a change: its own, some options replaced."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from tracekit.model import Manifest

MODE_OPTIONS = (
    "--offload", "--host-memory", "--resident-gib", "--resident-order", "--resident-list", "--group-level",
    "--blocks-per-group", "--offload-to-disk", "--stream", "--record-stream", "--low-cpu-mem",
)  # fmt: skip
"""Options of `tracekit profile` that belong to one mode: another mode starts without them."""
_FLAGS = ("--stream", "--record-stream", "--low-cpu-mem", "--force", "--no-trace", "--no-report", "--json")
_OUTPUT_OPTIONS = ("--output", "--force", "--no-trace", "--no-report", "--json")
"""A new run gets a new folder, and is there to be read."""
_STATE_OPTIONS = ("--page-cache", "--allocator", "--kernels")
"""A state set for an experiment's sake is no part of what is advised; some cannot be had with other host memory."""


def again(manifest: Manifest, replaced: Sequence[str], options: str) -> str:
    """The command that was profiled with `options` in place of the `replaced` ones; empty for the user's own code."""
    arguments = _profile_arguments(manifest.command)
    if manifest.offload.mode == "script" or not arguments:
        return ""
    kept, is_value = [], False
    for word in arguments:
        if is_value:
            is_value = False
        elif word.partition("=")[0] in (*replaced, *_OUTPUT_OPTIONS, *_STATE_OPTIONS):
            is_value = word not in _FLAGS and "=" not in word
        else:
            kept.append(word)
    return shlex.join(["tracekit", "profile", *kept, *options.split()])


def _profile_arguments(command: list[str]) -> list[str]:
    """What follows `tracekit profile` in a command line, however tracekit was started; empty where it is another's."""
    for index, (before, word) in enumerate(itertools.pairwise(command)):
        if word == "profile" and PurePath(before).name in ("tracekit", "__main__.py"):
            return command[index + 2 :]
    return []

"""Keep the allocator's cache: ``empty_cache`` does nothing for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tracekit.capture.patches import Patches


@contextmanager
def no_clearing(device: str) -> Iterator[None]:
    """``empty_cache`` of torch's module for the device (``torch.cuda`` for ``cuda:0``) does nothing inside the block.

    accelerate (`utils.memory.clear_device_cache`, after every onload) and diffusers (`utils.torch_utils`) look the
    function up in that module when they call it, so that replacing it there reaches both.
    """
    patches = Patches()
    patches.wrap(torch.get_device_module(torch.device(device)), "empty_cache", _nothing)
    try:
        yield
    finally:
        patches.remove()


def _nothing(_original: Callable[..., Any]) -> Callable[..., Any]:
    def empty_cache() -> None:
        pass

    return empty_cache

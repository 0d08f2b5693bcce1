"""Silence progress bars and notices of diffusers and transformers for a while; after it they are as they were."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_TOLD_BY_TORCHAO = ("torchao", "torch.utils._pytree")
"""Loggers that speak while torchao 0.18 is imported: of its kernels for other GPUs, and of how it uses torch."""


@contextlib.contextmanager
def no_loading_bars() -> Iterator[None]:
    """No bars while components load; a download's bar stays, on a terminal."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with contextlib.ExitStack() as restore:
        for library in (diffusers_logging, transformers_logging):
            if library.is_progress_bar_enabled():
                library.disable_progress_bar()
                restore.callback(library.enable_progress_bar)
        if not sys.stderr.isatty() and not are_progress_bars_disabled():
            disable_progress_bars()
            restore.callback(enable_progress_bars)
        yield


@contextlib.contextmanager
def no_step_bar(pipeline: DiffusionPipeline) -> Iterator[None]:
    """No bar of denoising steps while the pipeline is called."""
    # What set_progress_config stores: diffusers has no way to read it back, and calls after this one must find it as
    # it was, absent included.
    had = vars(pipeline).get("_progress_bar_config")
    pipeline.set_progress_bar_config(**{**(had or {}), "disable": True})
    try:
        yield
    finally:
        if had is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = had


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Nothing below an error is logged by diffusers and transformers, nor by the torchao that they import."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    with contextlib.ExitStack() as restore:
        for library in (diffusers_logging, transformers_logging):
            restore.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity_error()
        for name in _TOLD_BY_TORCHAO:
            logger = logging.getLogger(name)
            restore.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield


def import_libraries() -> None:
    """Import what offloading and loading a pipeline need, quietly; a script of the user's imports them itself."""
    with errors_only():
        importlib.import_module("diffusers.hooks")


def import_class(name: str) -> Any:
    """The class ``library.Class`` of diffusers or transformers, or None if this release has no such class.

    Quietly: importing a pipeline makes transformers warn that torchvision is not there, which no pipeline here needs,
    and torchao, where it is installed, of kernels that this machine does not have.
    """
    library, _, class_name = name.partition(".")
    with errors_only():
        return getattr(importlib.import_module(library), class_name, None)

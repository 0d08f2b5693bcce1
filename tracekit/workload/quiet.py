"""Silence the progress bars of diffusers and transformers for a while, and bring them back as they were."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


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

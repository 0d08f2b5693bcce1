"""Makes the folder's own modules importable in every test, and skips what needs a GPU where there is none.

Pytest puts a conftest's folder on the path.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

# Before torch is imported, here and in subprocesses: the pipelines are tiny, and threads that wait for each other at
# every operation make them up to a hundred times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is no property of the code.
hypothesis.settings.register_profile("tracekit", deadline=None)
hypothesis.settings.load_profile("tracekit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("cuda")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))

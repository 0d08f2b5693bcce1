"""A checkpoint of one's own: nothing else on the machine has its files mapped, so that they can be evicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracekit.workload.checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("flux-tiny", tmp_path_factory.mktemp("checkpoint") / "flux-tiny", lambda done, total: None)

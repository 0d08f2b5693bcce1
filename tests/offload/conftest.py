"""Fixtures: the emulated device, the oracle's facts and the CPU's output of each tiny pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from expectations import PipelineFacts, observe
from tiny_runs import SetupRecorder, call, make

from tracekit.device.emulated import load


@pytest.fixture(scope="session")
def emulated() -> Any:
    return load()


@pytest.fixture
def setup_spans(emulated: Any) -> SetupRecorder:
    return SetupRecorder(emulated)


@pytest.fixture(scope="session")
def facts_of() -> Callable[[str], PipelineFacts]:
    """The oracle's facts of a tiny pipeline, observed once."""
    known: dict[str, PipelineFacts] = {}

    def observed(name: str) -> PipelineFacts:
        if name not in known:
            pipeline = make(name)
            known[name] = observe(pipeline, lambda steps: call(pipeline, steps))
        return known[name]

    return observed


@pytest.fixture(scope="session")
def cpu_output() -> Callable[[str], torch.Tensor]:
    """What a tiny pipeline makes on the CPU, computed once."""
    known: dict[str, torch.Tensor] = {}

    def output(name: str) -> torch.Tensor:
        if name not in known:
            known[name] = call(make(name))
        return known[name]

    return output

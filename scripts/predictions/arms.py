"""The configurations to predict and to measure, and where their run folders lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.weights import Weights
from tracekit.api import load
from tracekit.model.plan import Configuration
from tracekit.units import GIB


@dataclass(frozen=True)
class Arm:
    """One configuration to predict and measure: of a partial one, how much stays and in which order it is taken.

    `once`: in the first block alone, since it takes about a minute or is one of many alike.
    """

    name: str
    configuration: Configuration
    steps: int
    resident_gib: float = 0.0
    order: str = ""
    capped: bool = True
    aside: bool = False
    once: bool = False


def partial(gib: float, order: str, memory: str = "as-loaded") -> dict[str, object]:
    return {
        "configuration": Configuration(mode="partial", host_memory=memory),
        "resident_gib": gib,
        "order": order,
    }


SOURCE = Configuration(mode="sequential")
STREAM = Configuration(mode="group", stream=True)
RECORDED = Configuration(mode="group", group_level="block_level", stream=True, record_stream=True)
ARMS = (
    # Of every kind some early, those kept aside among them: a campaign may end before its last arm.
    Arm("sequential, anonymous", Configuration(mode="sequential", host_memory="anonymous"), 4),
    Arm("sequential, pinned", Configuration(mode="sequential", host_memory="pinned"), 4),
    Arm("8 GiB resident, smallest first", steps=4, **partial(8, "smallest")),  # type: ignore[arg-type]
    Arm("3 GiB resident, largest, anonymous", steps=6, aside=True, **partial(3, "largest", "anonymous")),  # type: ignore[arg-type]
    Arm("sequential, again", SOURCE, 4),
    Arm("group, leaf, stream", STREAM, 10),
    Arm("group, block, stream, record_stream", RECORDED, 10, aside=True),
    Arm("model, no cap", Configuration(mode="model"), 4, capped=False),
    Arm("resident, no cap, 28 steps", Configuration(mode="resident"), 28, capped=False),
    Arm("sequential, a third time", SOURCE, 4, once=True),
    Arm("2 GiB resident, smallest first", steps=4, **partial(2, "smallest")),  # type: ignore[arg-type]
    Arm("4 GiB resident, largest first", steps=4, **partial(4, "largest")),  # type: ignore[arg-type]
    Arm("4 GiB resident, smallest, pinned, 10", steps=10, **partial(4, "smallest", "pinned")),  # type: ignore[arg-type]
    Arm("group, block, stream", Configuration(mode="group", group_level="block_level", stream=True), 10),
    Arm("sequential, a fourth time", SOURCE, 4, once=True),
    Arm("8 GiB resident, largest first, 10 steps", steps=10, **partial(8, "largest")),  # type: ignore[arg-type]
    Arm("6 GiB resident, largest, pinned", steps=4, **partial(6, "largest", "pinned")),  # type: ignore[arg-type]
    Arm("group, leaf, stream, low_cpu_mem", Configuration(mode="group", stream=True, low_cpu_mem=True), 4),
    Arm("group, leaf, stream, 28 steps", STREAM, 28, once=True),
    Arm("sequential, at the end", SOURCE, 4),
    Arm("group, leaf, no stream", Configuration(mode="group"), 2, once=True),
)


def configured(arm: Arm, predictor: Predictor) -> Configuration:
    """The arm's configuration, with what it keeps resident."""
    if not arm.order:
        return arm.configuration
    resident = taken(predictor.weights, predictor.denoisers, round(arm.resident_gib * GIB), arm.order)
    return msgspec.structs.replace(arm.configuration, resident=resident)


def taken(weights: Weights, denoisers: Sequence[str], budget: int, order: str) -> tuple[str, ...]:
    """The parameters that partial offload keeps in a budget when it takes modules in this order of size."""
    owners, seen = [], set()
    for fqn in weights.owners:
        own = [w for w in weights.owned(fqn) if not w.is_buffer and w.component in denoisers and w.key not in seen]
        seen.update(weight.key for weight in own)
        if own:
            owners.append((sum(weight.size_bytes for weight in own), own))
    owners.sort(key=lambda owner: owner[0], reverse=order == "largest")
    names: list[str] = []
    for size, own in owners:
        if size <= budget:
            budget -= size
            names += [f"{weight.fqn}.{weight.name}" for weight in own]
    return tuple(sorted(names))


def arm_folder(folder: Path, arm: Arm, block: int) -> Path:
    again = f"--block-{block + 1}" if block else ""
    return folder / ("".join(letter if letter.isalnum() else "-" for letter in arm.name) + again)


def failure_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-failed.txt")


def is_complete(folder: Path) -> bool:
    """Whether a run folder is there, of a run that ended."""
    return (folder / "manifest.json").exists() and load(folder).manifest.complete

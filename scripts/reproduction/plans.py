"""What the reproduction runs: the post's own arms, the paging experiment, less memory than weights, what is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracekit.experiment import paging_plan
from tracekit.model.experiment import Arm, Plan, Turn

PARTS = ("post", "experiment", "instead", "limits")
"""The parts in the order in which they run; each is an experiment's folder of its own."""

STEP_COUNTS = (4, 10)
LIMITED_BYTES = 16 * 10**9
"""The host memory of part limits: Flux's transformer has 23.8 GB of weights."""


@dataclass(frozen=True)
class Setup:
    """What is run on what. The defaults are the post's: a 12 GB card, 512x512, 8 GB resident."""

    pipeline: str = "synthetic:flux-dev-denoiser"
    device: str = "cuda"
    vram: str = "12GB"
    pixels: int = 512
    resident_gib: float = 7.45  # 8 GB
    repeats: int = 3

    def options(self) -> list[str]:
        """The options of ``tracekit profile`` that every arm has."""
        pixels = str(self.pixels)
        return ["--device", self.device, "--vram", self.vram, "--height", pixels, "--width", pixels]


def plans(setup: Setup, *, emulated: bool) -> Mapping[str, Plan]:
    """Every part's plan."""
    paging = paging_plan(
        setup.pipeline,
        ["--offload", "sequential", "--steps", "4", *setup.options()],
        emulated=emulated,
        repeats=setup.repeats,
    )
    return {
        "post": _in_order("post", setup, post_arms(setup)),
        "experiment": paging,
        "instead": _in_order("instead", setup, instead_arms(setup)),
        "limits": _in_order("limits", setup, limits_arms()),
    }


def post_arms(setup: Setup) -> list[Arm]:
    """The post's runs: "I ran each test twice, to ensure that the OS would have the page files warmed up equally"."""
    resident = ["--offload", "partial", "--resident-gib", f"{setup.resident_gib:g}"]
    ways = {
        "streamed": ("everything streamed", ["--offload", "sequential"]),
        "smallest": ("8 GB resident, smallest first", [*resident, "--resident-order", "smallest"]),
        "largest": ("8 GB resident, largest first", [*resident, "--resident-order", "largest"]),
    }
    times = {"first": ("page cache evicted", ["--page-cache", "evicted"]), "second": ("page cache as it is", [])}
    return [
        Arm(
            name=f"{way}-{steps}-{time}",
            doc=f"{what}, {steps} steps, {state}",
            options=[*words, "--steps", str(steps), *state_words],
        )
        for steps in STEP_COUNTS
        for way, (what, words) in ways.items()
        for time, (state, state_words) in times.items()
    ]


def instead_arms(setup: Setup) -> list[Arm]:
    """What makes later steps faster on the same card."""
    pinned = ["--host-memory", "pinned", "--steps", "4"]
    return [
        Arm(
            name="pinned",
            doc="everything streamed from page-locked memory",
            options=["--offload", "sequential", *pinned],
        ),
        Arm(
            name="pinned-resident",
            doc="8 GB resident, the rest streamed from page-locked memory",
            options=["--offload", "partial", "--resident-gib", f"{setup.resident_gib:g}", *pinned],
        ),
        Arm(
            name="group-stream",
            doc="group offload at leaf level on a stream, which copies ahead from page-locked memory",
            options=["--offload", "group", "--stream", "--steps", "4"],
        ),
    ]


def limits_arms() -> list[Arm]:
    """Less host memory than weights."""
    options = ["--offload", "sequential", "--steps", "4", "--page-cache", "evicted"]
    return [Arm(name="limited", doc="everything streamed, host memory below the weights' size", options=options)]


def _in_order(name: str, setup: Setup, arms: list[Arm]) -> Plan:
    """A plan that runs each arm once, in the order in which they are declared."""
    turns = [Turn(block=0, arm=arm.name) for arm in arms]
    return Plan(name=name, workload=setup.pipeline, options=setup.options(), arms=arms, turns=turns)

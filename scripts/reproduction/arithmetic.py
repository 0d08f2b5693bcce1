"""What the post's own numbers imply, by arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """What the post tells of one way to run: seconds, and the gigabytes that are streamed in a step."""

    name: str
    streamed_gb: float
    total_4_s: float
    total_10_s: float
    later_step_s: float


WEIGHTS_GB = 22.0
RESIDENT_GB = 8.0
STREAMED = Told("everything streamed", WEIGHTS_GB, 122, 180, 4.0)
RESIDENT = Told("8 GB resident", WEIGHTS_GB - RESIDENT_GB, 124, 160, 2.5)
FIRST_SHARE = 0.95
"""'the first iteration constituted nearly 95% of the total time'."""


def first_step_s(told: Told) -> float:
    """What is left for step 1 of four, and for all around the steps."""
    return told.total_4_s - 3 * told.later_step_s


def first_share(told: Told) -> float:
    """Step 1's share of the four-step total."""
    return first_step_s(told) / told.total_4_s


def cold_rate(told: Told) -> float:
    """GB/s at which step 1 got every weight, resident ones included: all come from the same files."""
    return WEIGHTS_GB / first_step_s(told)


def warm_rate(told: Told) -> float:
    """GB/s at which a later step got what is streamed."""
    return told.streamed_gb / told.later_step_s


def expected_total_10_s(told: Told) -> float:
    """The ten-step total that follows from the four-step total and six more later steps."""
    return told.total_4_s + 6 * told.later_step_s


def implied_later_step_s(told: Told) -> float:
    """What each of the six further steps took, if both totals are right."""
    return (told.total_10_s - told.total_4_s) / 6


def implied_warm_rate(told: Told) -> float:
    """GB/s of a later step, if both totals are right."""
    return told.streamed_gb / implied_later_step_s(told)

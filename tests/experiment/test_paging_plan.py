"""The paging experiment's plan: one factor a contrast, every arm once a block, a seeded order, what cannot run."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.cli.profile import command as profile
from tracekit.errors import UsageError
from tracekit.experiment.paging import ARMS, BASELINE, CONTRASTS, MODES, cannot_run, paging_plan, shuffled
from tracekit.model.experiment import Arm, Contrast, Factors
from tracekit.offload.modes import modes

BY_NAME = {arm.name: arm for arm in ARMS}


def differing(slow: Arm, fast: Arm) -> list[str]:
    return [name for name in Factors.__struct_fields__ if getattr(slow.factors, name) != getattr(fast.factors, name)]


@pytest.mark.parametrize("pair", CONTRASTS, ids=lambda pair: pair.hypothesis)
def test_the_arms_of_a_contrast_differ_in_exactly_one_factor(pair: Contrast) -> None:
    slow, fast = BY_NAME[pair.slow], BY_NAME[pair.fast]
    assert len(differing(slow, fast)) == 1
    # The options say what the factors say: as many differ, and each option is of one factor.
    assert slow.options != fast.options


def test_options_and_factors_tell_the_same_arms_apart() -> None:
    assert len({str(arm.factors) for arm in ARMS}) == len({tuple(arm.options) for arm in ARMS}) == len(ARMS)
    assert BASELINE in BY_NAME
    # Every arm is in some contrast, else it would run for nothing.
    assert {name for pair in CONTRASTS for name in (pair.slow, pair.fast)} == set(BY_NAME)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arms_options_are_those_of_profile(arm: Arm) -> None:
    profile.make_context("profile", ["synthetic:flux-tiny", *arm.options])


@given(st.permutations([arm.name for arm in ARMS]), st.integers(1, 6), st.integers())
def test_each_block_has_every_arm_once_in_an_order_that_the_seed_decides(
    arms: list[str], repeats: int, seed: int
) -> None:
    turns = shuffled(arms, repeats, seed)
    assert turns == shuffled(arms, repeats, seed)
    assert [turn.block for turn in turns] == sorted(block for block in range(repeats) for _ in arms)
    assert set(Counter((turn.block, turn.arm) for turn in turns).values()) == {1}
    # More blocks leave the first ones as they were: an experiment can be compared with a longer one.
    assert shuffled(arms, repeats + 1, seed)[: len(turns)] == turns


def test_orders_differ_between_blocks_and_between_seeds() -> None:
    arms = list(BY_NAME)
    by_block = [[turn.arm for turn in shuffled(arms, 8, 0) if turn.block == block] for block in range(8)]
    assert any(one != other for one, other in pairwise(by_block))
    assert shuffled(arms, 1, 0) != shuffled(arms, 1, 1)


def test_what_the_emulated_device_cannot_tell_is_left_out_with_its_reason() -> None:
    plan = paging_plan("w", [], emulated=True, repeats=2)
    assert set(plan.left_out) == {"pinned", "no-clearing", "kernels-used"}
    assert all(plan.left_out.values())
    assert {turn.arm for turn in plan.turns} == set(BY_NAME) - set(plan.left_out)


@pytest.mark.parametrize("mode", MODES)
def test_a_memory_that_the_mode_cannot_hold_is_left_out(mode: str) -> None:
    assert cannot_run(mode, emulated=False).keys() == modes()[mode].refusals.keys()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"arms": ["evicted", "warm"]}, "'warm'"),
        ({"arms": ["evicted"]}, "compare nothing"),
        ({"arms": ["anonymous", "pinned"], "emulated": True}, "compare nothing"),
        ({"mode": "resident"}, "resident"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        paging_plan("w", [], **arguments)  # type: ignore[arg-type]

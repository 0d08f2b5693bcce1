"""Which weights block-level group offload moves together, by their modules' names alone."""

from __future__ import annotations

import pytest

from tracekit.analysis.prediction.group_mode import Group, block_groups
from tracekit.analysis.prediction.weights import Weight, Weights


def groups_of(*names: str, blocks: int = 1) -> list[Group]:
    weights = [
        Weight(
            fqn=name, name="weight", component="transformer", size_bytes=1, is_buffer=False, key=name, mapped=False,
            streams=True,
        )
        for name in names
    ]  # fmt: skip
    return block_groups(Weights(weights), blocks, frozenset())


def bounds(groups: list[Group]) -> list[tuple[str, str, int]]:
    return [(group.leader, group.last, len(group.weights)) for group in groups]


def test_neighbours_in_a_list_are_a_group_and_the_last_may_be_smaller() -> None:
    names = [f"transformer.blocks.{index}.{part}" for index in range(3) for part in ("norm", "proj")]
    assert bounds(groups_of("transformer.embed", *names, blocks=2)) == [
        ("transformer.blocks.0", "transformer.blocks.1", 4),
        ("transformer.blocks.2", "transformer.blocks.2", 2),
        ("transformer", "transformer", 1),
    ]


def test_a_group_reaches_over_members_without_weights() -> None:
    groups = groups_of("transformer.blocks.0.proj", "transformer.blocks.3.proj", blocks=2)
    assert bounds(groups) == [
        ("transformer.blocks.0", "transformer.blocks.1", 1),
        ("transformer.blocks.2", "transformer.blocks.3", 1),
    ]


@pytest.mark.parametrize("number", ["999999999", "9" * 5000, "\u00b2"])
def test_a_name_with_any_number_costs_what_one_name_costs(number: str) -> None:
    groups = groups_of("transformer.blocks.0.proj", f"transformer.blocks.{number}.proj")
    assert len(groups) <= 2
    assert sum(len(group.weights) for group in groups) == 2

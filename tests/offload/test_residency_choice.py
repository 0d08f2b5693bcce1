"""What partial offload keeps never exceeds the budget, and is what its order says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import make
from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.modes import RESIDENT_ORDERS
from tracekit.offload.options import OffloadOptions
from tracekit.offload.residency import choose_resident, denoisers, resident_parameters

_ORDERS = st.sampled_from(list(RESIDENT_ORDERS))
_WIDTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def _stack(widths: list[int]) -> nn.Module:
    """Modules of 4 to 160 bytes, the first and the last tied when there are several."""
    stack = nn.Sequential(*(nn.Linear(width, 1, bias=False, device="cpu") for width in widths))
    if len(widths) > 1:
        stack[-1].weight = stack[0].weight
    return stack


def _bytes(module: nn.Module, names: frozenset[str]) -> int:
    return sum(tensor.nbytes for tensor in {id(p): p for p in map(module.get_parameter, names)}.values())


@given(_WIDTHS, st.integers(0, 2000), st.integers(0, 400), _ORDERS)
def test_never_above_the_budget_and_never_less_for_more(widths: list[int], budget: int, more: int, order: str) -> None:
    module = _stack(widths)
    chosen = choose_resident(module, budget, order)
    assert _bytes(module, chosen) <= budget
    assert _bytes(module, chosen) <= _bytes(module, choose_resident(module, budget + more, order))
    assert chosen == choose_resident(_stack(widths), budget, order)


@given(_WIDTHS, _ORDERS)
def test_a_budget_of_the_whole_takes_the_whole(widths: list[int], order: str) -> None:
    module = _stack(widths)
    everything = frozenset(name for name, _ in module.named_parameters())
    assert choose_resident(module, _bytes(module, everything), order) == everything
    assert choose_resident(module, 0, order) == frozenset()


def test_the_orders() -> None:
    module = nn.Sequential(*(nn.Linear(width, 1, bias=False) for width in (30, 10, 40, 20, 10, 10, 10, 10)))
    assert choose_resident(module, 4 * 40, "first") == {"0.weight", "1.weight"}
    assert choose_resident(module, 4 * 60, "largest") == {"2.weight", "3.weight"}
    assert choose_resident(module, 4 * 20, "smallest") == {"1.weight", "4.weight"}
    assert choose_resident(module, 4 * 40, "strided") == {"0.weight", "4.weight"}


def test_a_module_is_taken_whole() -> None:
    module = nn.Sequential(nn.Linear(10, 10), nn.Linear(2, 2))
    assert choose_resident(module, 440, "largest") == {"0.weight", "0.bias"}
    assert choose_resident(module, 439, "largest") == {"1.weight", "1.bias"}


def test_a_parameter_of_a_module_that_is_no_leaf_can_be_chosen() -> None:
    transformer = make("wan-tiny").transformer
    table = transformer.blocks[0].scale_shift_table.nbytes
    assert choose_resident(transformer, table, "largest") >= {"blocks.0.scale_shift_table"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("vae", "transformer", "text_encoder"), ["transformer"]),
        (("transformer", "transformer_2", "vae"), ["transformer", "transformer_2"]),
        (("text_encoder", "unet"), ["unet"]),
        (("prior", "text_encoder"), ["prior"]),
        (("prior_text_encoder", "decoder", "vqgan"), ["decoder"]),
    ],
)
def test_which_component_is_the_denoiser(names: tuple[str, ...], expected: list[str]) -> None:
    size = {"decoder": 9}
    parts = {name: nn.Linear(size.get(name, 3), 3) for name in names}
    assert list(denoisers(SimpleNamespace(components={**parts, "scheduler": object()}))) == expected


def test_two_denoisers_share_the_budget_by_size() -> None:
    parts = {"transformer": _layers(4), "transformer_2": _layers(12)}
    pipeline = SimpleNamespace(components=parts)
    chosen = resident_parameters(
        pipeline, OffloadOptions(mode="partial", resident_bytes=8 * 40, resident_order="first")
    )
    assert {name: len(names) for name, names in chosen.items()} == {"transformer": 2, "transformer_2": 6}


def _layers(count: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(10, 1, bias=False) for _ in range(count)))


def _named(*names: str, budget: int | None = None) -> Any:
    pipeline = SimpleNamespace(
        components={"unet": nn.Sequential(nn.Linear(10, 10), nn.Linear(2, 2)), "vae": _layers(1)}
    )
    options = OffloadOptions(mode="partial", resident_parameters=frozenset(names), resident_bytes=budget)
    return resident_parameters(pipeline, options)


def test_residents_by_name_of_a_parameter_or_a_module() -> None:
    assert _named("unet.0.weight", "unet.1") == {"unet": {"0.weight", "1.weight", "1.bias"}}
    assert _named("unet") == {"unet": {"0.weight", "0.bias", "1.weight", "1.bias"}}


@pytest.mark.parametrize("name", ["unet.2", "unet.0.weigh", "vae.0.weight", "0.weight"])
def test_a_name_of_nothing_in_the_denoiser(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' names no parameter"):
        _named("unet.0.bias", name)


def test_names_above_the_budget() -> None:
    assert _named("unet.0.bias", budget=40) == {"unet": {"0.bias"}}
    with pytest.raises(UsageError, match="1 B above the budget of 39 B"):
        _named("unet.0.bias", budget=39)


def test_choosing_reads_no_weight() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(10, 10), nn.Linear(2, 2))
    assert choose_resident(module, 440, "largest") == {"0.weight", "0.bias"}

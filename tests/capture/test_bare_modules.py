"""Any nn.Module tree with accelerate's hooks: each outermost call is a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import tracekit
from tracekit.errors import UsageError
from tracekit.model import NONE

DEVICE = "emulated:0"

pytestmark = pytest.mark.usefixtures("hooks")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)
        self.scale = nn.Parameter(torch.ones(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def tree() -> Tree:
    torch.manual_seed(0)
    return Tree().eval()


@torch.no_grad()
def test_cpu_offload_is_recorded_step_by_step(tree: Tree, emulated, tmp_path: Path) -> None:
    cpu_offload(tree, DEVICE)
    x = torch.rand(2, 64)
    plain = tree(x)
    emulated.reset_counters()
    with tracekit.profile(tree, output=tmp_path / "run", name="net", calibration=False) as run:
        outputs = [tree(x) for _ in range(3)]
    counted = emulated.counters()
    assert all(torch.equal(output, plain) for output in outputs)

    copies = run.copies
    assert ((copies.direction == "H2D").sum(), (copies.direction == "D2H").sum()) == (
        counted.h2d_count,
        counted.d2h_count,
    )
    weights = copies[copies.fqn != ""]
    names = {f"{row.fqn}.{row.parameter}" for row in weights.itertuples()}
    assert names == {f"net.blocks.{i}.{name}" for i in range(3) for name in ("linear.weight", "linear.bias", "scale")}
    assert len(weights) == 3 * len(names)
    assert list(run.timeline.steps.step_index) == [0, 1, 2]
    assert set(weights.step_index) == {0, 1, 2}
    assert (copies.phase == "denoise").all()
    assert run.summary().pipeline_class == "Tree"


@torch.no_grad()
def test_dispatch_with_cpu_and_disk_is_recorded(tree: Tree, emulated, tmp_path: Path) -> None:
    plain = tree(torch.ones(2, 64))
    dispatch_model(
        tree,
        {"blocks.0": DEVICE, "blocks.1": "cpu", "blocks.2": "disk"},
        main_device=DEVICE,
        offload_dir=str(tmp_path / "weights"),
    )
    emulated.reset_counters()
    with tracekit.profile(tree, output=tmp_path / "run", name="net", calibration=False) as run:
        output = tree(torch.ones(2, 64))
    counted = emulated.counters()
    assert torch.allclose(output.cpu(), plain, atol=1e-5)
    copies = run.copies
    assert (copies.direction == "H2D").sum() == counted.h2d_count
    weights = copies[(copies.fqn != "") & (copies.direction == "H2D")]
    assert {fqn.removeprefix("net.").partition(".linear")[0] for fqn in weights.fqn} == {"blocks.1", "blocks.2"}


def test_own_durations_leave_onload_and_offload_out(tree: Tree, emulated, tmp_path: Path) -> None:
    cpu_offload(tree, DEVICE)
    with torch.no_grad(), tracekit.profile(tree, output=tmp_path / "run", name="net") as run:
        tree(torch.rand(2, 64))
    spans = run.data.spans
    linear = spans[spans.fqn == "net.blocks.1.linear"].set_index("kind")
    onload, forward, offload = (linear.loc[kind] for kind in ("onload", "forward", "offload"))
    assert onload.end_ns <= forward.start_ns
    assert forward.end_ns <= offload.start_ns
    # Beside the forward, under the block that called it.
    assert onload.parent_id == forward.parent_id == offload.parent_id != NONE


def test_a_failure_passes_through_and_the_run_is_kept_incomplete(tree: Tree, emulated, tmp_path: Path) -> None:
    class BoomError(Exception):
        pass

    with pytest.raises(BoomError), tracekit.profile(tree, output=tmp_path / "run") as run:  # noqa: PT012
        tree(torch.rand(2, 64))
        raise BoomError("the user's own")
    assert not run.manifest.complete
    assert run.manifest.incomplete_reason == "BoomError: the user's own"
    assert (run.data.spans.kind == "forward").any()


def test_what_is_no_pipeline_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot profile a dict"), tracekit.profile({}, output=tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_compiled_module_is_one_span_that_says_so(tree: Tree, emulated, tmp_path: Path) -> None:
    compiled = torch.compile(tree, backend="eager")
    x = torch.rand(2, 64)
    with torch.no_grad(), tracekit.profile(compiled, output=tmp_path / "run", name="net") as run:
        first, second = compiled(x), compiled(x)
    assert torch.equal(first, second)
    assert torch.allclose(first, tree(x), atol=1e-6)
    spans = run.data.spans
    forwards = spans[spans.kind == "forward"]
    assert list(forwards.fqn) == ["net", "net"]
    assert set(forwards.note) == {"compiled region"}


def test_a_compiled_part_is_one_span_and_the_rest_is_traced(tree: Tree, emulated, tmp_path: Path) -> None:
    tree.blocks[1].compile(backend="eager")
    with torch.no_grad(), tracekit.profile(tree, output=tmp_path / "run", name="net") as run:
        tree(torch.rand(2, 64))
    notes = run.data.spans.query("kind == 'forward'").set_index("fqn").note
    assert notes["net.blocks.1"] == "compiled region"
    assert "net.blocks.1.linear" not in notes.index
    assert notes["net.blocks.0.linear"] == ""


def test_memory_used_again_does_not_lend_its_weights_name(emulated, tmp_path: Path) -> None:
    memory = bytearray(64 * 4)
    holder = nn.Module()
    holder.register_buffer("table", torch.frombuffer(memory, dtype=torch.float32))
    with torch.no_grad(), tracekit.profile(holder, output=tmp_path / "run", name="net") as run:
        holder.to(DEVICE)
        # The weight is gone from the host; another tensor lies in its place now.
        torch.frombuffer(memory, dtype=torch.float32).to(DEVICE)
    first, second = run.copies.itertuples()
    assert first.host_address == second.host_address
    assert (first.fqn, first.parameter) == ("net", "table")
    assert (second.fqn, second.parameter) == ("", "")


def test_weights_may_be_swapped_in_place_and_keep_their_names(emulated, tmp_path: Path) -> None:
    holder = nn.Linear(64, 64)
    holder.register_buffer("table", torch.ones(64))
    path = tmp_path / "run"
    with torch.no_grad(), tracekit.profile(holder, output=path, name="net", activity="none") as run:
        # As torchao's wrappers do, and Module.to under torch's future flag: both refuse tensors that are referred to.
        torch.utils.swap_tensors(holder.weight, nn.Parameter(torch.zeros(64, 64)))
        torch.utils.swap_tensors(holder.table, torch.zeros(64))
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            holder.to(DEVICE)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
    assert {(copy.fqn, copy.parameter) for copy in run.copies.itertuples()} == {
        ("net", "weight"),
        ("net", "bias"),
        ("net", "table"),
    }


def test_a_copy_that_no_hook_announced_has_the_name_of_the_weight_that_lies_there(emulated, tmp_path: Path) -> None:
    plain, offloaded = nn.Linear(64, 64), nn.Linear(64, 64)
    cpu_offload(offloaded, DEVICE)
    tree = nn.ModuleDict({"plain": plain, "offloaded": offloaded})
    with torch.no_grad(), tracekit.profile(tree, output=tmp_path / "run", name="net") as run:
        plain.weight.data.to(DEVICE)
        offloaded._hf_hook.hooks[1].weights_map["bias"].to(DEVICE)
        plain.weight = nn.Parameter(torch.zeros(64, 64))
        plain.weight.data.to(DEVICE)
    named = [(copy.fqn, copy.parameter) for copy in run.copies.itertuples()]
    assert named == [("net.plain", "weight"), ("net.offloaded", "bias"), ("", "")]


def test_wrappers_of_other_tensors_are_not_tied_to_each_other(emulated, tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    for layer in layers:
        layer.weight = nn.Parameter(TwoTensor(torch.ones(64, 64), torch.ones(64, 64)))
    with tracekit.profile(layers, output=tmp_path / "run", name="net") as run:
        pass
    assert run.data.parameters["tied_to"].tolist() == ["", ""]

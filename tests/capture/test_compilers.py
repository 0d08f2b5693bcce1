"""torch's own compilers and tracers, and subclasses of Tensor, work as they do without tracekit while it records."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo import callback
from torch._subclasses.fake_tensor import FakeTensorMode

REPOSITORY = Path(__file__).parents[2]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.to(torch.float32)).to(x.device) + 1


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    torch._dynamo.reset()
    return Net().eval()


def patched() -> bool:
    """Whether tracekit's patches are on."""
    return hasattr(nn.Module.__call__, "__wrapped__")


@pytest.mark.parametrize("when", ["before", "while recording"])
@torch.no_grad()
def test_a_whole_graph_compiles_and_runs(when: str, net: Net, recording) -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    x = torch.rand(2, 4)
    plain = net(x)
    if when == "before":
        compiled = torch.compile(net, backend=backend, fullgraph=True)
    with recording() as recorded, recorded.session.bare_run(net, "net"):
        if when != "before":
            compiled = torch.compile(net, backend=backend, fullgraph=True)
        assert torch.equal(compiled(x), plain)
        assert patched()
        assert torch.equal(compiled(x), plain)
    assert len(graphs) == 1
    assert "tracekit" not in graphs[0].code
    assert not patched()
    assert torch.equal(compiled(x), plain)
    assert len(graphs) == 1, "leaving tracekit compiles nothing anew"


@torch.no_grad()
def test_a_compiled_part_lies_in_its_callers_span(net: Net, recording) -> None:
    net.inner.compile(backend="eager")
    with recording() as recorded, recorded.session.bare_run(net, "net"):
        net(torch.rand(2, 4))
    forwards = recorded.data.spans.query("kind == 'forward'").set_index("fqn")
    assert forwards.parent_id["net.inner"] == forwards.span_id["net"]
    assert forwards.note["net.inner"] == "compiled region"


def test_patches_stay_on_when_a_compilation_fails_or_dynamo_is_reset(net: Net, recording) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        assert not patched()
        raise ZeroDivisionError

    with recording():
        with pytest.raises(torch._dynamo.exc.BackendCompilerFailed):
            torch.compile(net, backend=backend)(torch.rand(2, 4))
        assert patched()
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.BackendCompilerFailed):
            torch.compile(net, backend=backend)(torch.rand(2, 4))
        assert patched()
    assert not patched()


def test_torch_has_the_private_names_by_which_a_compilation_is_told() -> None:
    handler = type(torch._dynamo.callback_handler)
    assert handler is callback.CompilationCallbackHandler
    assert {"run_start_callbacks", "run_end_callbacks"} <= set(vars(handler))
    assert torch._dynamo.utils.unpatched_nn_module_call is nn.Module.__call__
    assert torch._dynamo.variables.nn_module.unpatched_nn_module_call is nn.Module.__call__


def test_dynamo_that_is_imported_while_recording_knows_the_original() -> None:
    code = textwrap.dedent(
        """
        import sys, torch, tempfile, tracekit
        from torch import nn
        original = nn.Module.__call__
        with tracekit.profile(nn.Linear(2, 2), output=tempfile.mkdtemp() + "/run"):
            assert nn.Module.__call__ is not original
            early = "torch._dynamo" in sys.modules
            import torch._dynamo
        assert nn.Module.__call__ is original
        print(early, torch._dynamo.variables.nn_module.unpatched_nn_module_call is original)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1] == "True", done.stderr


def test_symbolic_tracing_and_export_work_while_recording(net: Net, recording) -> None:
    x = torch.rand(2, 4)
    plain = torch.fx.symbolic_trace(net).code
    exported = torch.export.export(net, (x,)).graph_module.code
    with recording() as recorded, recorded.session.bare_run(net, "net"):
        ours = nn.Module.__call__
        assert torch.fx.symbolic_trace(net).code == plain
        assert nn.Module.__call__ is ours
        assert torch.export.export(net, (x,)).graph_module.code == exported
        torch.export.export(net, (x,), strict=True)
        assert nn.Module.__call__ is ours
        torch.jit.trace(net, x)
    assert not patched()


class Logged(torch.Tensor):
    """A subclass that wants to see every function called on it."""

    seen: tuple[str, ...] = ()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Logged.seen += (getattr(func, "__name__", str(func)),)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_subclass_keeps_its_own_treatment(recording, emulated) -> None:
    tensor = torch.rand(3).as_subclass(Logged)
    with recording() as recorded:
        Logged.seen = ()
        moved = tensor.to("emulated:0")
        assert isinstance(moved, Logged)
        assert Logged.seen.count("to") == 1
        back = moved.cpu()
        assert isinstance(back, Logged)
        assert torch.equal(back.as_subclass(torch.Tensor), tensor.as_subclass(torch.Tensor))
    assert list(recorded.data.copies.direction) == ["H2D", "D2H"]


def test_tensors_without_bytes_are_left_alone(recording, emulated) -> None:
    with recording() as recorded, FakeTensorMode():
        fake = torch.empty(3)
        assert fake.to("meta").is_meta
        assert fake.double().cpu().dtype is torch.float64
    assert len(recorded.data.copies) == 0


def test_methods_taken_from_the_class_work(recording, emulated) -> None:
    host = torch.rand(3)
    with recording() as recorded:
        move = torch.Tensor.to
        remote = move(host, "emulated:0")
        assert next(map(torch.Tensor.cpu, [remote])).equal(host)
        assert torch.overrides.resolve_name(torch.Tensor.add) == "torch.Tensor.add"
        with pytest.raises(TypeError):
            move()
    assert len(recorded.data.copies) == 2

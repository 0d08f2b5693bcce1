"""Small modules that stand for a model's: unlike in code, with weights for offload hooks to move."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn import functional

from tracekit.capture.calibration.devicememory import device_bytes
from tracekit.capture.calibration.sample import fastest
from tracekit.device.choice import DeviceChoice

Code = Callable[[], object]
_Result = TypeVar("_Result")
_LAUNCH_BYTES = 4096


class Piece(NamedTuple):
    """CPU time of a module's call and of as much other code behind it, ns."""

    own: int
    """The module's own forward."""
    hooks: int
    """What its hooks do before and after that, where they are told apart."""
    aside: int
    """What a hook does that is not to count as its work."""
    after: int
    """The code behind the call."""
    around: int
    """What is left of the call: how module and hooks are called."""

    @property
    def between(self) -> int:
        """All that is neither the module's own nor its hooks'."""
        return self.after + self.around


class Small(nn.Module):
    """One that keeps the CPU time that its own forward and its hooks took in its last call, ns."""

    own_ns = hooks_ns = aside_ns = 0

    def __init__(self, weights: Sequence[torch.Tensor], code: Code) -> None:
        super().__init__()
        for number, weight in enumerate(weights):
            self.register_parameter(f"weight_{number}", nn.Parameter(weight, requires_grad=False))
        self.code = code

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Run the code, which has nothing to do with what is given."""
        begin = time.thread_time_ns()
        self.code()
        self.own_ns = time.thread_time_ns() - begin
        return given

    def hooked(self, call: Callable[..., _Result], *given: Any) -> _Result:
        """Do what a hook does, as its work."""
        begin, aside_ns = time.thread_time_ns(), self.aside_ns
        result = call(*given)
        self.hooks_ns += time.thread_time_ns() - begin - (self.aside_ns - aside_ns)
        return result

    def forget(self) -> None:
        """Let go of the device memory that its code holds: a module with a hook holds itself, and so its code."""
        self.code = _nothing

    def set_aside(self, call: Code) -> None:
        """Do what a hook does, which is not to count as its work."""
        begin = time.thread_time_ns()
        call()
        self.aside_ns += time.thread_time_ns() - begin


def codes(device: DeviceChoice) -> list[Code]:
    """Pieces of host code that share little of torch's, each as long as a module's: some tens of us.

    As a module's forward does, each launches something: a copy within the device, since no kernel is to be loaded that
    a run would be the first to load. They are many: of few, one is soon back in the caches when others have been driven
    out.
    """
    on_device = device_bytes(device, _LAUNCH_BYTES)
    x, y, matrix, scale = torch.ones(1, 64), torch.ones(4, 16), torch.ones(64, 64), torch.ones(16)
    image, table, places = torch.ones(1, 4, 4, 4), torch.ones(10, 64), torch.arange(3)
    works: Sequence[Code] = (
        lambda: functional.gelu(functional.linear(x, matrix)) + x,
        lambda: functional.layer_norm(y, (16,)) * (1 + scale) + scale,
        lambda: functional.softmax(y @ y.t(), dim=-1).max(dim=-1).values,
        lambda: torch.cat([x.cos(), x.sin()], -1).roll(3, -1).flip(-1),
        lambda: functional.silu(x) * x.clamp(-1, 1) - x.abs().sqrt(),
        lambda: functional.pad(functional.group_norm(image, 2).sigmoid(), (1, 1)),
        lambda: y * y.pow(2).mean(-1, keepdim=True).rsqrt().expand(4, 16),
        lambda: functional.embedding(places, table).mean(0).exp(),
        lambda: torch.einsum("ij,kj->ik", x, matrix),
        lambda: functional.interpolate(image, scale_factor=2.0).permute(0, 2, 3, 1).reshape(8, -1),
        lambda: torch.stack([x, x * 2]).transpose(0, 1).contiguous().sum(1),
        lambda: torch.where(y > 0, y, -y).cumsum(-1).masked_fill(y > 2, 0.0),
        lambda: torch.addmm(x, x, matrix).tanh().chunk(2, dim=-1),
        lambda: functional.avg_pool2d(image, 2).flatten(1).std(-1),
        lambda: table.index_select(0, places).amax(0).log1p(),
        lambda: torch.outer(scale, scale).tril().repeat(2, 1).argmax(-1),
    )

    def launching(work: Code) -> None:
        torch.empty_like(on_device).copy_(on_device)
        work()

    return [partial(launching, work) for work in works]


def _nothing() -> None: ...


def piece(module: Small, other: Small, given: torch.Tensor) -> Piece:
    """Call a module, and run another one's code behind it."""
    module.hooks_ns = module.aside_ns = 0
    begin = time.thread_time_ns()
    module(given)
    called = time.thread_time_ns()
    other.code()
    after = time.thread_time_ns() - called
    within = module.own_ns, module.hooks_ns, module.aside_ns
    return Piece(*within, after, called - begin - sum(within))


def pieces(chain: Sequence[Small], given: torch.Tensor) -> list[Piece]:
    """Call modules in turn, and run the next one's code behind each."""
    return [piece(*pair, given) for pair in pairwise([*chain, chain[0]])]


def fastest_piece(one_pass: Callable[[], Sequence[Piece]]) -> Piece:
    """The mean of a pass's pieces, each part of each at its fastest."""
    return Piece(*fastest(one_pass))


def mean_piece(these: Sequence[Piece]) -> Piece:
    """The mean of pieces."""
    return Piece(*(round(fmean(times)) for times in zip(*these, strict=True)))

"""Know every module and weight of the profiled components by its dotted name."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.model import PARAMETERS, Sink

COMPILED = "compiled region"

Label = tuple[int, int]
"""Interned FQN and parameter name of a weight."""


class ModuleEntry(NamedTuple):
    """What a module's forward span says, as interned ids, and the component for the live display."""

    name: int
    fqn: int
    note: int
    component: str


class Entries(dict[int, ModuleEntry]):
    """Modules' entries by their ids. `changed` is called when one is set or removed: the hooks keep what they found."""

    changed: Callable[[], None] = staticmethod(lambda: None)

    def __setitem__(self, key: int, entry: ModuleEntry) -> None:
        super().__setitem__(key, entry)
        self.changed()

    def forget(self, key: int) -> None:
        """Remove one, if it is there."""
        self.pop(key, None)
        self.changed()


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer where it is held: `tensor` is its host or device copy, or None when it cannot be told."""

    name: str
    declared: torch.Tensor
    tensor: torch.Tensor | None
    is_buffer: bool


class _Owner(NamedTuple):
    """The module that holds a weight under `name`.

    The tensor itself is not referred to, not even weakly: what replaces a parameter's contents in place
    (``torch.utils.swap_tensors``, as torchao's wrappers and torch's own swapping conversion do) refuses one that is.
    """

    module: weakref.ref[nn.Module]
    name: str
    label: Label
    buffer: tuple[torch.Size, torch.dtype] | None
    """A buffer's shape and type."""

    def declared(self) -> torch.Tensor | None:
        """The Parameter or buffer that the module has by this name now."""
        module = self.module()
        if module is None:
            return None
        parameter = module._parameters.get(self.name)
        return parameter if parameter is not None else module._buffers.get(self.name)

    def names(self, weight: torch.Tensor) -> bool:
        """Whether this is the name of `weight`, whose id it was found by.

        ``Module.to`` puts another tensor in a buffer's place, while a group of diffusers goes on moving the first: that
        one is known by its id alone, if it still looks the same.
        """
        if self.declared() is weight:
            return True
        same = self.buffer == (weight.shape, weight.dtype) and not isinstance(weight, nn.Parameter)
        return same and self.module() is not None

    def address(self) -> int | None:
        """Where the values lie on the host now; None where they lie elsewhere."""
        declared, module = self.declared(), self.module()
        if declared is None or module is None:
            return None
        held = declared if not declared.is_meta else _offloaded(module, self.name)
        return held.data_ptr() if held is not None and held.is_cpu else None


class ModuleRegistry:
    """FQNs of modules and weights, by identity. Modules are held weakly, so that a dead one's id is forgotten."""

    def __init__(self, sink: Sink, memory: HostMemoryMap) -> None:
        self._sink = sink
        self._memory = memory
        self.entries = Entries()
        # By id of a Parameter or buffer, and by a weight's address on the host. Both numbers are used again when the
        # tensor is gone, so that each answer is asked of its module anew.
        self._labels: dict[int, _Owner] = {}
        self._addresses: dict[int, _Owner] = {}
        self._modules: dict[int, weakref.ref[nn.Module]] = {}
        self._first_owner: dict[int, str] = {}
        self._no_name = sink.intern("")

    def add_component(self, component: str, root: nn.Module) -> None:
        """Register `root` under the name `component`, with everything in it; what is known already stays.

        A module shared by two components keeps its first name.
        """
        for path, module in root.named_modules():
            if self._is_known(module):
                self._refresh_note(module)
                continue
            fqn = f"{component}.{path}" if path else component
            self._remember(module, fqn, component)
            for weight in module_weights(module):
                self._remember_weight(fqn, module, component, weight)

    def fqn(self, module: nn.Module) -> int:
        """The interned FQN of a module; that of the empty string for one that is not registered."""
        entry = self.entries.get(id(module))
        return self._no_name if entry is None else entry.fqn

    def group_fqn(self, modules: Iterable[nn.Module], parameters: Iterable[torch.Tensor]) -> int:
        """The interned FQN of a group that is moved as one: its first module's, else its first weight's owner."""
        for module in modules:
            if id(module) in self.entries:
                return self.entries[id(module)].fqn
        for parameter in parameters:
            label = self.label_of(parameter)
            if label is not None:
                return label[0]
        return self._sink.intern("")

    def label_of(self, weight: torch.Tensor) -> Label | None:
        """The name of a registered Parameter or buffer."""
        owner = self._labels.get(id(weight))
        return owner.label if owner is not None and owner.names(weight) else None

    def label_in(self, modules: Iterable[nn.Module], weight: torch.Tensor) -> Label | None:
        """The name of a Parameter or buffer that took the registered one's place in one of these modules, or below."""
        for root in modules:
            for module in root.modules():
                for own in (module._parameters, module._buffers):
                    for name, tensor in own.items():
                        if tensor is weight and id(module) in self.entries:
                            label = (self.entries[id(module)].fqn, self._sink.intern(name))
                            self._labels[id(weight)] = _Owner(self._modules[id(module)], name, label, None)
                            return label
        return None

    def label_at(self, host: torch.Tensor) -> Label | None:
        """The name of the registered weight that still lies where `host` does: names copies that no hook announced."""
        address = host.data_ptr()
        owner = self._addresses.get(address)
        return owner.label if owner is not None and owner.address() == address else None

    def _remember(self, module: nn.Module, fqn: str, component: str) -> None:
        key = id(module)
        self._modules[key] = weakref.ref(module, lambda _: self._forget(key))
        intern = self._sink.intern
        self.entries[key] = ModuleEntry(intern(type(module).__name__), intern(fqn), intern(_note(module)), component)

    def _is_known(self, module: nn.Module) -> bool:
        known = self._modules.get(id(module))
        return known is not None and known() is module

    def _refresh_note(self, module: nn.Module) -> None:
        key = id(module)
        self.entries[key] = self.entries[key]._replace(note=self._sink.intern(_note(module)))

    def _forget(self, key: int) -> None:
        self.entries.forget(key)
        self._modules.pop(key, None)

    def _remember_weight(self, fqn: str, module: nn.Module, component: str, weight: Weight) -> None:
        label = (self._sink.intern(fqn), self._sink.intern(weight.name))
        looks = (weight.declared.shape, weight.declared.dtype) if weight.is_buffer else None
        owner = _Owner(self._modules[id(module)], weight.name, label, looks)
        self._labels[id(weight.declared)] = owner
        source = self._memory.describe(weight.tensor)
        tied_to = ""
        held = weight.tensor
        # A wrapper of other tensors, such as a quantized weight, lies nowhere itself: its address is 0.
        address = held.data_ptr() if held is not None and not held.is_meta and held.numel() else 0
        if held is not None and address:
            tied_to = self._first_owner.setdefault(address, f"{fqn}.{weight.name}")
            if tied_to == f"{fqn}.{weight.name}":
                tied_to = ""
            if held.is_cpu and self.label_at(held) is None:  # a tied one keeps its first name
                self._addresses[address] = owner
        self._sink.append(
            PARAMETERS,
            fqn,
            weight.name,
            type(module).__name__,
            component,
            weight.declared.numel() * weight.declared.element_size(),
            str(weight.declared.dtype).removeprefix("torch."),
            weight.is_buffer,
            tied_to,
            source.kind.value,
            source.path,
            source.offset,
        )


def module_weights(module: nn.Module) -> Iterator[Weight]:
    """A module's own parameters and buffers, each with the tensor that holds its values now.

    Under accelerate's offloading a parameter is on the meta device and its values lie in the hook's weights map.
    """
    for is_buffer, named in (
        (False, module.named_parameters(recurse=False)),
        (True, module.named_buffers(recurse=False)),
    ):
        for name, tensor in named:
            held = tensor if tensor.device.type != "meta" else _offloaded(module, name)
            yield Weight(name, tensor, held, is_buffer)


def _offloaded(module: nn.Module, name: str) -> torch.Tensor | None:
    """The host tensor that accelerate's hook holds for a weight; None where it would be loaded from disk.

    ``_hf_hook`` is where accelerate keeps a module's hook. Its weights map is a dictionary, or a view of one that
    prefixes the names.
    """
    hook = getattr(module, "_hf_hook", None)
    for candidate in getattr(hook, "hooks", (hook,)):
        weights_map = getattr(candidate, "weights_map", None)
        held = getattr(weights_map, "dataset", weights_map)
        if isinstance(held, dict):
            tensor = held.get(getattr(weights_map, "prefix", "") + name)
            if isinstance(tensor, torch.Tensor):
                return tensor
    return None


def _note(module: nn.Module) -> str:
    # torch keeps what Module.compile() made in _compiled_call_impl; torch.compile(module) returns an OptimizedModule.
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return COMPILED if compiled or type(module).__name__ == "OptimizedModule" else ""

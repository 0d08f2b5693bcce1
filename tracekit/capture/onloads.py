"""Record onloads and offloads: where accelerate and diffusers bring a module's weights to the device and drop them.

The classes are patched, not their instances: accelerate looks its hooks up at each call, model offload makes new ones
at every run, and diffusers keeps bound methods of its own, so that only ``ModuleGroup``'s methods can be wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import SpanKind


class OnloadRecorder:
    """Writes onload and offload spans, and labels the copies inside them with the weight that is moved."""

    def __init__(self, recorder: Recorder, registry: ModuleRegistry) -> None:
        self._recorder = recorder
        self._registry = registry
        # By whether it is an offload: the span's kind, and its name.
        self._span = {
            kind is SpanKind.OFFLOAD: (recorder.kind_id(kind), recorder.intern(kind.value))
            for kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD)
        }

    def install_torch(self, patches: Patches) -> None:
        """Label what ``Module.to`` and its kin move: they go through ``Module._apply``, a private name of torch.

        It is the one place where a module's own tensors and the function that moves them meet.
        """
        patches.wrap(nn.Module, "_apply", self._labelled_apply)

    def install_accelerate(self, patches: Patches, hooks: ModuleType) -> None:
        """Patch ``accelerate.hooks``."""
        ours, entries, intern = self._recorder.hooks, self._registry.entries, self._recorder.intern
        align = hooks.AlignDevicesHook
        patches.wrap(align, "pre_forward", lambda original: ours.move(original, entries, *self._span[False], False))
        patches.wrap(align, "post_forward", lambda original: ours.move(original, entries, *self._span[True], True))
        patches.wrap(hooks.CpuOffload, "pre_forward", self._model_onload)
        patches.wrap(hooks.UserCpuOffloadHook, "offload", self._model_offload)
        # The name that the hooks call, as imported into their module.
        labelled = "set_module_tensor_to_device"
        patches.wrap(hooks, labelled, lambda original: ours.labelled(original, entries, intern))

    def install_diffusers(self, patches: Patches, group_offloading: ModuleType) -> None:
        """Patch ``diffusers.hooks.group_offloading``; ``_transfer_tensor_to_device`` is where a weight has its name."""
        group = group_offloading.ModuleGroup
        patches.wrap(group, "onload_", lambda original: self._group(original, offload=False))
        patches.wrap(group, "offload_", lambda original: self._group(original, offload=True))
        patches.wrap(group, "_transfer_tensor_to_device", self._labelled_transfer)

    @contextmanager
    def _moving(self, fqn: int, *, offload: bool) -> Iterator[None]:
        """An onload's or offload's span around the body."""
        hooks = self._recorder.hooks
        opened = hooks.open_move(fqn, offload)
        try:
            yield
        finally:
            hooks.close_move(opened, *self._span[offload])

    def _model_onload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def pre_forward(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if next(module.parameters()).device == hook.execution_device:
                return original(hook, module, *args, **kwargs)
            with self._moving(self._registry.fqn(module), offload=False):
                return original(hook, module, *args, **kwargs)

        return pre_forward

    def _model_offload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def offload(user_hook: Any) -> Any:
            with self._moving(self._registry.fqn(user_hook.model), offload=True):
                return original(user_hook)

        return offload

    def _group(self, original: Callable[..., Any], *, offload: bool) -> Callable[..., Any]:
        local, registry = self._recorder.local, self._registry

        def move(group: Any) -> Any:
            fqn = registry.group_fqn(group.modules, (*group.parameters, *group.buffers))
            thread = local.thread
            outer, thread.group = thread.group, group
            try:
                with self._moving(fqn, offload=offload):
                    return original(group)
            finally:
                thread.group = outer

        return move

    def _labelled_transfer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, registry = self._recorder.local, self._registry

        def transfer(group: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
            thread = local.thread
            label = registry.label_of(tensor) or registry.label_in(group.modules, tensor)
            before, thread.label = thread.label, label or thread.label
            try:
                return original(group, tensor, *args, **kwargs)
            finally:
                thread.label = before

        return transfer

    def _labelled_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, registry, intern = self._recorder.local, self._registry, self._recorder.intern

        def apply(module: nn.Module, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if id(module) not in registry.entries:
                return original(module, fn, *args, **kwargs)
            move = getattr(fn, "tracekit_unlabelled", fn)
            fqn = registry.fqn(module)
            names = {id(t): name for own in (module._parameters, module._buffers) for name, t in own.items()}

            def labelled(tensor: Any) -> Any:
                name = names.get(id(tensor))
                thread = local.thread
                before, thread.label = thread.label, thread.label if name is None else (fqn, intern(name))
                try:
                    return move(tensor)
                finally:
                    thread.label = before

            labelled.tracekit_unlabelled = move  # type: ignore[attr-defined]
            return original(module, labelled, *args, **kwargs)

        return apply

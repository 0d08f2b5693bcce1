"""Record onloads and offloads: where accelerate and diffusers bring a module's weights to the device and drop them.

The classes are patched, not their instances: accelerate looks its hooks up at each call, model offload makes new ones
at every run, and diffusers keeps bound methods of its own, so that only ``ModuleGroup``'s methods can be wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Frame, Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import SpanKind


class OnloadRecorder:
    """Writes onload and offload spans, and labels the copies inside them with the weight that is moved.

    `sample_memory`, when set, is called at the end of each.
    """

    def __init__(self, recorder: Recorder, registry: ModuleRegistry) -> None:
        self._recorder = recorder
        self._registry = registry
        self.sample_memory: Callable[[], None] | None = None
        self._kinds = {kind: recorder.kind_id(kind) for kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD)}
        self._names = {kind: recorder.intern(kind.value) for kind in self._kinds}

    def install_torch(self, patches: Patches) -> None:
        """Label what ``Module.to`` and its kin move: they go through ``Module._apply``, a private name of torch.

        It is the one place where a module's own tensors and the function that moves them meet.
        """
        patches.wrap(nn.Module, "_apply", self._labelled_apply)

    def install_accelerate(self, patches: Patches, hooks: ModuleType) -> None:
        """Patch ``accelerate.hooks``."""
        patches.wrap(hooks.AlignDevicesHook, "pre_forward", self._align_onload)
        patches.wrap(hooks.AlignDevicesHook, "post_forward", self._align_offload)
        patches.wrap(hooks.CpuOffload, "pre_forward", self._model_onload)
        patches.wrap(hooks.UserCpuOffloadHook, "offload", self._model_offload)
        # The name that the hooks call, as imported into their module.
        patches.wrap(hooks, "set_module_tensor_to_device", self._labelled_set)

    def install_diffusers(self, patches: Patches, group_offloading: ModuleType) -> None:
        """Patch ``diffusers.hooks.group_offloading``; ``_transfer_tensor_to_device`` is where a weight has its name."""
        group = group_offloading.ModuleGroup
        patches.wrap(group, "onload_", lambda original: self._group(original, SpanKind.ONLOAD))
        patches.wrap(group, "offload_", lambda original: self._group(original, SpanKind.OFFLOAD))
        patches.wrap(group, "_transfer_tensor_to_device", self._labelled_transfer)

    def open(self, kind: SpanKind, fqn: int) -> tuple[Frame | None, Frame]:
        """Open an onload or offload span; `close` takes what this returns.

        Where it is a module's own (its hook runs inside its call, before its work or after it), the span lies beside
        the forward's and the forward shrinks, so that a forward's duration is its own.
        """
        recorder = self._recorder
        thread = recorder.local.thread
        top = thread.top
        beside: Frame | None = None
        if top is not None and top.is_forward and (kind is SpanKind.OFFLOAD or top.pristine):
            beside = top
            thread.top = frame = Frame(recorder.next_span(), top, top.parent_id, False, fqn)
        else:
            frame = recorder.push(fqn)
        frame.start_ns = recorder.clock()
        return beside, frame

    def close(self, kind: SpanKind, beside: Frame | None, frame: Frame) -> None:
        """Close the span, and move the forward's start or end to it."""
        recorder = self._recorder
        end_ns = recorder.clock()
        recorder.pop(frame, self._kinds[kind], self._names[kind], recorder.empty, end_ns)
        if beside is not None:
            if kind is SpanKind.ONLOAD:
                beside.start_ns = end_ns
            else:
                beside.end_ns = frame.start_ns
        if self.sample_memory is not None:
            self.sample_memory()

    def _align_onload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        open_, close, fqn = self.open, self.close, self._registry.fqn

        def pre_forward(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not hook.offload:
                return original(hook, module, *args, **kwargs)
            beside, frame = open_(SpanKind.ONLOAD, fqn(module))
            try:
                return original(hook, module, *args, **kwargs)
            finally:
                close(SpanKind.ONLOAD, beside, frame)

        return pre_forward

    def _align_offload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        open_, close, fqn = self.open, self.close, self._registry.fqn

        def post_forward(hook: Any, module: nn.Module, output: Any) -> Any:
            if not hook.offload:
                return original(hook, module, output)
            beside, frame = open_(SpanKind.OFFLOAD, fqn(module))
            try:
                return original(hook, module, output)
            finally:
                close(SpanKind.OFFLOAD, beside, frame)

        return post_forward

    def _model_onload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def pre_forward(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if next(module.parameters()).device == hook.execution_device:
                return original(hook, module, *args, **kwargs)
            beside, frame = self.open(SpanKind.ONLOAD, self._registry.fqn(module))
            try:
                return original(hook, module, *args, **kwargs)
            finally:
                self.close(SpanKind.ONLOAD, beside, frame)

        return pre_forward

    def _model_offload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def offload(user_hook: Any) -> Any:
            beside, frame = self.open(SpanKind.OFFLOAD, self._registry.fqn(user_hook.model))
            try:
                return original(user_hook)
            finally:
                self.close(SpanKind.OFFLOAD, beside, frame)

        return offload

    def _group(self, original: Callable[..., Any], kind: SpanKind) -> Callable[..., Any]:
        local, registry = self._recorder.local, self._registry

        def move(group: Any) -> Any:
            fqn = registry.group_fqn(group.modules, (*group.parameters, *group.buffers))
            thread = local.thread
            outer, thread.group = thread.group, group
            beside, frame = self.open(kind, fqn)
            try:
                return original(group)
            finally:
                self.close(kind, beside, frame)
                thread.group = outer

        return move

    def _labelled_set(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, intern, fqn = self._recorder.local, self._recorder.intern, self._registry.fqn

        def set_module_tensor_to_device(module: nn.Module, tensor_name: str, *args: Any, **kwargs: Any) -> Any:
            thread = local.thread
            before, thread.label = thread.label, (fqn(module), intern(tensor_name))
            try:
                return original(module, tensor_name, *args, **kwargs)
            finally:
                thread.label = before

        return set_module_tensor_to_device

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

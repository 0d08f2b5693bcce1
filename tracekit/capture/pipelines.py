"""Record a pipeline's life: what sets it up, each call of it as a run, and its scheduler's steps."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

from torch import nn

from tracekit.capture.patches import Patches, defining_class
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import SpanKind

_SETUP_METHODS = (
    "from_pretrained",
    "to",
    "enable_model_cpu_offload",
    "enable_sequential_cpu_offload",
    "enable_group_offload",
    "remove_all_hooks",
)


class RunObserver(Protocol):
    """What the session does around runs and steps."""

    def pipeline_seen(self, pipeline: Any) -> None:
        """A pipeline is about to run; called before `run_begins`."""

    def run_begins(self) -> None:
        """Called right before a run's span opens."""

    def step_ended(self) -> None:
        """Called right after each ``scheduler.step``."""

    def run_ended(self) -> None:
        """Called right after a run's span closed, also by an exception."""


class PipelineRecorder:
    """Writes run, scheduler and setup spans, and registers the components of every pipeline that runs."""

    def __init__(self, patches: Patches, recorder: Recorder, registry: ModuleRegistry, observer: RunObserver) -> None:
        self._patches = patches
        self._recorder = recorder
        self._registry = registry
        self._observer = observer

    def install_diffusers(self, pipeline_utils: ModuleType) -> None:
        """Patch ``diffusers.pipelines.pipeline_utils``: set-up methods, and every pipeline made from now on."""
        base = pipeline_utils.DiffusionPipeline
        for name in _SETUP_METHODS:
            self._patches.wrap(base, name, lambda original, name=name: self._setup(original, name))  # type: ignore[misc]
        self._patches.wrap(base, "maybe_free_model_hooks", self._free_hooks)
        # Every pipeline registers its modules when it is made: the earliest moment at which its class is known.
        self._patches.wrap(base, "register_modules", self._registered)

    def install_model_loading(self, owner: Any) -> None:
        """Patch ``from_pretrained`` of a model base class, of diffusers or transformers."""
        self._patches.wrap(owner, "from_pretrained", lambda original: self._setup(original, "from_pretrained"))

    def watch(self, pipeline: Any) -> None:
        """Make every call of a pipeline of this class a run."""
        owner = defining_class(type(pipeline), "__call__")
        if owner is not None:
            self._patches.wrap(owner, "__call__", self._run)

    def _run(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder, observer = self._recorder, self._observer

        def call(pipeline: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.local.thread.idle:  # a pipeline inside a pipeline is part of the outer one's run
                return original(pipeline, *args, **kwargs)
            self.register(pipeline)
            observer.pipeline_seen(pipeline)
            recorder.begin_run()
            observer.run_begins()
            try:
                with recorder.span(SpanKind.RUN, type(pipeline).__name__):
                    return original(pipeline, *args, **kwargs)
            finally:
                observer.run_ended()
                recorder.end_run()

        return call

    def register(self, pipeline: Any) -> None:
        """Register a pipeline's modules and weights, and make its scheduler's steps spans."""
        with self._recorder.own_work("register modules"):
            for name, component in pipeline.components.items():
                if isinstance(component, nn.Module):
                    self._registry.add_component(name, component)
                elif hasattr(component, "step") and hasattr(component, "set_timesteps"):
                    owner = defining_class(type(component), "step")
                    if owner is not None:
                        self._patches.wrap(owner, "step", self._scheduler_step)

    def _scheduler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder, observer = self._recorder, self._observer

        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            with recorder.span(SpanKind.SCHEDULER, f"{type(scheduler).__name__}.step"):
                result = original(scheduler, *args, **kwargs)
            observer.step_ended()
            return result

        return step

    def _setup(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        recorder = self._recorder

        def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.local.thread.idle:
                return original(owner, *args, **kwargs)
            cls = owner if isinstance(owner, type) else type(owner)
            if hasattr(owner, "components") and not isinstance(owner, type):
                self.register(owner)  # so that what the set-up moves has its names
            with recorder.span(SpanKind.SETUP, f"{cls.__name__}.{name}"):
                return original(owner, *args, **kwargs)

        return call

    def _free_hooks(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder = self._recorder

        def maybe_free_model_hooks(pipeline: Any) -> Any:
            # Only model offload leaves something to free at a run's end; diffusers keeps its hooks in _all_hooks.
            if not getattr(pipeline, "_all_hooks", None):
                return original(pipeline)
            with recorder.span(SpanKind.OFFLOAD, "maybe_free_model_hooks"):
                return original(pipeline)

        return maybe_free_model_hooks

    def _registered(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def register_modules(pipeline: Any, **modules: Any) -> Any:
            result = original(pipeline, **modules)
            self.watch(pipeline)
            return result

        return register_modules

"""One profile: install the patches, drive the collectors around runs and steps, and take everything off again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from torch import nn

from tracekit.capture.collector import Collector, DeviceActivity
from tracekit.capture.compilation import CompilationWatch
from tracekit.capture.copies import CopyRecorder
from tracekit.capture.forwards import install_forwards
from tracekit.capture.garbage import GarbageWatch
from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.hostprobe import HostProbe
from tracekit.capture.hostspeed import HostSpeed
from tracekit.capture.onloads import OnloadRecorder
from tracekit.capture.patches import Patches
from tracekit.capture.pipelines import PipelineRecorder
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.capture.runtime import install_runtime
from tracekit.errors import TracekitError
from tracekit.model import SpanKind

MEMORY_MAP_AGE_NS = 5_000_000_000
"""How old the memory map may grow before a step's end renews it: reading it costs milliseconds."""


class Awaited(Protocol):
    """A callback that waits for a module's import."""

    def remove(self) -> None:
        """Wait no more."""


WhenImported = Callable[[str, Callable[[ModuleType], None]], Awaited]
"""Calls back right after a module was imported, or at once if it is already."""


@dataclass
class Seen:
    """What a session learned about the profiled pipeline; the manifest takes it up."""

    pipeline_class: str = ""
    components: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Session:
    """Everything between `start` and `stop`.

    `on_first_run` is called once, before the first run, when the libraries are imported and the pipeline is known.
    `pause` and `resume` take the patches off and put them on again between steps, which is how tracekit's own cost is
    measured.
    """

    def __init__(
        self,
        recorder: Recorder,
        when_imported: WhenImported,
        *,
        probe_host: bool = True,
    ) -> None:
        self.recorder = recorder
        self.seen = Seen()
        self.activity = DeviceActivity()
        self.on_first_run: Callable[[], None] | None = None
        self._when_imported = when_imported
        self._patches = Patches()
        self._compilation = CompilationWatch(self._patches)
        self._garbage = GarbageWatch(recorder.hooks.collecting)
        self._memory = HostMemoryMap(recorder.own_work)
        self._registry = ModuleRegistry(recorder.sink, self._memory)
        speed = HostSpeed(recorder)
        self._probe = HostProbe(recorder, self._memory, speed.sample_if_due) if probe_host else None
        self.seen.warnings += self._probe.missing() if self._probe is not None else []
        self._copies = CopyRecorder(recorder, self._registry, self._memory, self._probe)
        self._onloads = OnloadRecorder(recorder, self._registry)
        self._pipelines = PipelineRecorder(self._patches, recorder, self._registry, self)
        self._collectors: list[Collector] = [speed]
        self._handles: list[Awaited] = []
        self._memory_read_ns = 0
        self._runs_open = 0

    def add(self, collector: Collector) -> None:
        """Prime a collector, in a span of tracekit's own, and drive it from now on."""
        with self.recorder.own_work(f"prime {type(collector).__name__}"):
            self.recorder.local.thread.copying = True  # its own copies are not the profiled code's
            try:
                collector.prime()
            finally:
                self.recorder.local.thread.copying = False
        self._collectors.append(collector)
        if isinstance(collector, DeviceActivity):
            self.activity = collector
            self._copies.timer = collector.timer

    def watch_device(self, module: ModuleType, sample_memory: Callable[[], None] | None = None) -> None:
        """Record calls of torch's module for the device (``torch.cuda``); sample its memory at each onload's end."""
        install_runtime(self._patches, self.recorder, module)
        self.recorder.hooks.sample_memory = sample_memory

    def start(self) -> None:
        """Install every patch whose library is imported, the others when they are."""
        install_forwards(self._patches, self.recorder, self._registry)
        self._copies.install(self._patches)
        self._onloads.install_torch(self._patches)
        pipelines, onloads, patches = self._pipelines, self._onloads, self._patches
        for name, install in {
            "torch._dynamo": self._compilation.install,
            "accelerate.hooks": lambda module: onloads.install_accelerate(patches, module),
            "diffusers.hooks.group_offloading": lambda module: onloads.install_diffusers(patches, module),
            "diffusers.pipelines.pipeline_utils": pipelines.install_diffusers,
            "diffusers.models.modeling_utils": lambda module: pipelines.install_model_loading(module.ModelMixin),
            "transformers.modeling_utils": lambda module: pipelines.install_model_loading(module.PreTrainedModel),
        }.items():
            self._handles.append(self._when_imported(name, install))
        self._garbage.install()

    def watch(self, pipeline: Any) -> None:
        """Record the calls of a pipeline that was made before the session started."""
        self._pipelines.watch(pipeline)

    def pause(self) -> None:
        """Take every patch off for a while; what is registered stays known."""
        self._garbage.pause()
        self._patches.suspend()

    def resume(self) -> None:
        """Put the patches on again."""
        self._patches.resume()
        self._garbage.resume()

    def stop(self) -> None:
        """Take everything off and write what is outstanding."""
        self._garbage.remove()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._compilation.remove()
        foreign = self._patches.remove()
        if foreign:
            self.seen.warnings.append(
                "replaced by other code while tracekit profiled, and left as that code made them: " + ", ".join(foreign)
            )
        self._each("close")
        self.recorder.write_collections()
        if self._probe is not None:
            self.seen.warnings += self._probe.untold()
            self._probe.close()

    @contextlib.contextmanager
    def setup(self, name: str) -> Iterator[None]:
        """A set-up span; host memory is looked at anew afterwards, since set-up is what moves weights around."""
        self.recorder.component = name
        self.recorder.report_progress()
        with self.recorder.span(SpanKind.SETUP, name):
            yield
        self._refresh_memory()
        self._each("step_ended")

    @contextlib.contextmanager
    def bare_run(self, module: nn.Module, name: str) -> Iterator[None]:
        """The run of a module that is no pipeline: everything inside is one run, each outermost call a step."""
        with self.recorder.own_work("register modules"):
            self._registry.add_component(name, module)
        self.seen.pipeline_class = type(module).__name__
        self.seen.components = {name: type(module).__name__}
        self.recorder.begin_run(every_thread=True)
        self.run_begins()
        try:
            with self.recorder.span(SpanKind.RUN, type(module).__name__):
                yield
        finally:
            self.run_ended()
            self.recorder.end_run()

    def register(self, pipeline: Any) -> None:
        """Know a pipeline's modules and weights by name before anything moves them."""
        self._pipelines.register(pipeline)

    # --- RunObserver

    def pipeline_seen(self, pipeline: Any) -> None:
        """Remember what runs."""
        self.seen.pipeline_class = type(pipeline).__name__
        self.seen.components = {
            name: type(part).__name__ for name, part in pipeline.components.items() if isinstance(part, nn.Module)
        }
        if self.on_first_run is not None:
            first, self.on_first_run = self.on_first_run, None
            first()

    def run_begins(self) -> None:
        """Start what records per run; with runs in several threads at once, at the first of them."""
        self._refresh_memory()
        self._runs_open += 1
        if self._runs_open == 1:
            self._each("run_begins")

    def step_ended(self) -> None:
        """Hand the step's rows over."""
        self._each("step_ended")
        self.recorder.step_done()
        if self.recorder.clock() - self._memory_read_ns > MEMORY_MAP_AGE_NS:
            self._refresh_memory()

    def run_ended(self) -> None:
        """Write what was recorded per run, once no run is open."""
        self._runs_open -= 1
        if self._runs_open == 0:
            self._each("run_ended")
        self.recorder.write_collections()
        self.recorder.sink.flush()
        self.recorder.component = ""

    def _each(self, event: str) -> None:
        """Tell every collector. One that fails is let go with a warning: the profiled code must not fail for it."""
        for collector in tuple(self._collectors):
            try:
                getattr(collector, event)()
            except TracekitError:
                raise
            except Exception as error:  # noqa: BLE001 - drivers and profilers raise what they like
                self._collectors.remove(collector)
                self.seen.warnings.append(f"{type(collector).__name__} failed and was let go: {error}")

    def _refresh_memory(self) -> None:
        self._memory.refresh()
        self._memory_read_ns = self.recorder.clock()


def is_module(target: object) -> bool:
    """Whether something is a bare torch module."""
    return isinstance(target, nn.Module)

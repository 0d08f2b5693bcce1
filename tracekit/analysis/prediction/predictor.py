"""Predict what any configuration takes, from one run's timeline alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property

from tracekit.analysis.activity import Activity
from tracekit.analysis.prediction.accelerate_modes import ModelOffload, Resident, Sequential
from tracekit.analysis.prediction.costs import Costs, Evidence
from tracekit.analysis.prediction.group_mode import GroupOffload
from tracekit.analysis.prediction.memory import Activations
from tracekit.analysis.prediction.offloader import Offloader
from tracekit.analysis.prediction.rates import Level
from tracekit.analysis.prediction.setup import SetupTimes
from tracekit.analysis.prediction.tape import StepKey, Tape, TapeReader
from tracekit.analysis.prediction.weights import Weights
from tracekit.errors import UsageError
from tracekit.model import NONE, Phase, Timeline
from tracekit.model.plan import Configuration, Estimate, Prediction, Traffic

_DEVICE_RECORDS = ("cupti", "emulated")
_SETTLING = 2
"""A group's warm steps worked off before the one that counts: a prefetch order is learned, and fills in the next."""
_TIMES = ("setup", "encode", "first_step", "warm_step", "decode")


class Predictor:
    """Predictions from one run: build it once, ask it for many configurations.

    Raises:
        UsageError: the run has no device records, or no whole denoising step.
    """

    def __init__(self, timeline: Timeline) -> None:
        manifest = timeline.run.manifest
        if manifest.activity not in _DEVICE_RECORDS:
            raise UsageError(
                f"no prediction from {timeline.run.path}: it has no device records "
                f"(activity {manifest.activity}); profile it where CUPTI is allowed"
            )
        if timeline.steps.empty:
            raise UsageError(f"no prediction from {timeline.run.path}: no denoising step was recorded")
        self.timeline = timeline
        self.activity = timeline.once(Activity.of)
        self._reader = TapeReader(timeline, self.activity, self.activations)
        self._first = self._reader.first_step()
        self.warm = self._reader.steps or [self._first]
        self.evidence = Evidence.of(timeline, self.activity, self._reader)
        self._setup = SetupTimes.of(timeline)
        self._predicted: dict[tuple[Configuration, bool, float], Prediction] = {}

    @cached_property
    def activations(self) -> Activations | None:
        """Device memory beside the weights; None where it was not recorded."""
        return Activations.of(self.timeline)

    @cached_property
    def weights(self) -> Weights:
        """The weights as they were in the run."""
        return Weights.of(self.timeline)

    @cached_property
    def component_order(self) -> list[str]:
        """The components in the order in which the run first called them."""
        names = dict.fromkeys(
            event.fqn.partition(".")[0]
            for tape in (self._encode, self._first, self._decode)
            for event in tape.events
            if event.fqn
        )
        return [name for name in names if name in self.weights.components]

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components called inside the denoising loop."""
        return self.timeline.denoisers

    @property
    def usual_steps(self) -> Collection[StepKey]:
        """The steps that stand for warm ones."""
        return self._reader.usual_steps

    @cached_property
    def compute_ns(self) -> float:
        """Device time of a warm step's kernels."""
        repeats = sum(tape.repeats for tape in self.warm)
        return sum(tape.device_ns * tape.repeats for tape in self.warm) / repeats

    def costs(self, level: Level = Level.MIDDLE, host: float = 1.0) -> Costs:
        """What each piece costs at one end of the measured spreads, where host code takes `host` times as long."""
        return Costs(self.evidence, level, host)

    def predict(self, configuration: Configuration, *, ram_bytes: int | None = None, host: float = 1.0) -> Prediction:
        """What a configuration takes. `ram_bytes`: what host memory may hold (None: everything).

        `host`: how many times as long host code takes as in the profiled run; copies take what they took.

        Raises:
            UnknownCost: this run has no evidence for a cost that the configuration has.
        """
        weights = (
            self.weights if configuration.weight_scale == 1 else Weights.of(self.timeline, configuration.weight_scale)
        )
        paging = ram_bytes is not None and ram_bytes < weights.total_bytes and configuration.host_memory == "as-loaded"
        key = configuration, paging, host
        if key not in self._predicted:
            self._predicted[key] = self._predict(configuration, weights, paging=paging, host=host)
        return self._predicted[key]

    def _predict(self, configuration: Configuration, weights: Weights, *, paging: bool, host: float) -> Prediction:
        played = {level: self._play(configuration, weights, self.costs(level, host), paging=paging) for level in Level}
        middle = played[Level.MIDDLE]
        estimates = {
            name: Estimate(
                round(middle.times[name]),
                round(min(result.times[name] for result in played.values())),
                round(max(result.times[name] for result in played.values())),
            )
            for name in _TIMES
        }
        offloader = middle.offloader
        held = offloader.anonymous_bytes + offloader.locked_bytes
        loaded, unmapped = weights.total_bytes, weights.unmapped_bytes
        if offloader.replaces_loaded:
            in_host = Estimate(held, held, held + loaded)
        else:
            in_host = Estimate(held + loaded, held + unmapped, held + loaded)
        notes = sorted(offloader.costs.notes)
        if self.activations is None:
            notes.append("device memory was not recorded: the predicted peak is of weights alone")
        if self._setup.unknown_attach(configuration.mode):
            notes.append("attaching this mode's hooks was not measured: it counts as long as this run's")
        return Prediction(
            configuration=configuration,
            setup_ns=estimates["setup"],
            encode_ns=estimates["encode"],
            first_step_ns=estimates["first_step"],
            warm_step_ns=estimates["warm_step"],
            decode_ns=estimates["decode"],
            device_bytes=middle.device,
            host_bytes=in_host,
            locked_bytes=offloader.locked_bytes,
            traffic=middle.traffic,
            notes=notes,
        )

    def device_bytes(self, configuration: Configuration) -> Estimate:
        """The peak of device memory alone."""
        return self._play(configuration, self.weights, self.costs(), paging=False).device

    def offloader(
        self, configuration: Configuration, weights: Weights, costs: Costs, *, paging: bool = False
    ) -> Offloader:
        """The simulated mode.

        Raises:
            UsageError: an unknown mode.
        """
        match configuration.mode:
            case "resident":
                return Resident(weights, costs, paging=paging)
            case "model":
                return ModelOffload(weights, costs, self.component_order, paging=paging)
            case "group":
                classes = self.timeline.run.manifest.components
                searched = [name for name, cls in classes.items() if "Autoencoder" in cls]
                return GroupOffload(weights, costs, configuration, searched, paging=paging)
            case "sequential" | "partial":
                keys = {f"{weight.fqn}.{weight.name}": weight.key for weight in weights.all}
                resident = frozenset(keys[name] for name in configuration.resident if name in keys)
                memory = configuration.host_memory
                return Sequential(weights, costs, memory=memory, resident=resident, paging=paging)
        raise UsageError(f"no prediction for the offload mode {configuration.mode!r}")

    @cached_property
    def _encode(self) -> Tape:
        run = self.timeline.runs.iloc[0]
        end = run["denoise_start_ns"] if run["denoise_start_ns"] != NONE else run["end_ns"]
        return self._reader.read(int(run["start_ns"]), int(end))

    @cached_property
    def _decode(self) -> Tape:
        run = self.timeline.runs.iloc[0]
        if run["denoise_end_ns"] == NONE:
            return Tape(())
        return self._reader.read(int(run["denoise_end_ns"]), int(run["end_ns"]))

    def _play(self, configuration: Configuration, weights: Weights, costs: Costs, *, paging: bool) -> _Played:
        """One run of the pipeline, on a simulated machine."""
        mode = self.offloader(configuration, weights, costs, paging=paging)
        played = _Played(mode)
        played.stretch("setup", mode.setup)
        if self._setup.pins_at_attach and configuration.stream and not configuration.low_cpu_mem:
            played.times["setup"] = float(self._setup.load_ns + self._setup.attach_ns + self._setup.collecting_ns)
        else:
            played.times["setup"] += self._setup.ns(configuration) * costs.work_factor
        played.stretch("encode", lambda: mode.play(self._encode), self._beside(Phase.ENCODE))
        denoise = self._beside(Phase.DENOISE)
        played.stretch("first_step", lambda: mode.play(self._first), denoise)
        repeats = sum(tape.repeats for tape in self.warm)
        share: dict[str, float] = {"warm_step": 0.0}
        traffic = Traffic()
        for tape in self.warm:
            # Other modes have settled after any step that does the same work.
            settling = _SETTLING if configuration.mode == "group" else int(tape.signature != self._first.signature)
            for _ in range(settling):
                mode.play(tape)
            played.stretch("warm_step", lambda tape=tape: mode.play(tape), denoise)  # type: ignore[misc]
            share["warm_step"] += played.times["warm_step"] * tape.repeats / repeats
            traffic = traffic if traffic.h2d_copies else played.traffic["warm_step"]
        played.times |= share
        played.traffic["warm_step"] = traffic

        def decode() -> None:
            mode.play(self._decode)
            mode.end_run()

        played.stretch("decode", decode, self._beside(Phase.DECODE))
        return played

    def _beside(self, phase: Phase) -> int:
        """Device memory beside the weights in a phase, at most."""
        if self.activations is None:
            return 0
        cache = self.activations.cache_bytes
        return self.activations.most.get(phase, 0) + cache


class _Played:
    """One simulated run: what each of its stretches took and copied, and the peak of device memory."""

    def __init__(self, offloader: Offloader) -> None:
        self.offloader = offloader
        self.times: dict[str, float] = {}
        self.traffic: dict[str, Traffic] = {}
        self._device = (0, 0)

    @property
    def device(self) -> Estimate:
        """The peak of device memory, bytes."""
        expected, most = self._device
        return Estimate(expected, expected, most)

    def stretch(self, name: str, play: Callable[[], None], beside: int = 0) -> None:
        """Time one stretch, from when everything before it is done until everything in it is.

        `beside` is the most device memory beside the weights in it.
        """
        mode = self.offloader
        begin, before = mode.machine.now, mode.traffic
        mode.note_peak(anew=True)
        play()
        self.times[name] = mode.machine.now - begin
        self.traffic[name] = mode.traffic.less(before)
        expected, most = self._device
        self._device = max(expected, mode.peak_bytes), max(most, mode.peak_bytes, mode.peak_with_slack + beside)

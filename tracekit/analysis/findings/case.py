"""What every finding's rule looks at: the run's figures, and what other configurations are predicted to gain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tracekit.analysis.prediction.code import code_for
from tracekit.analysis.prediction.planner import configuration_of
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.residents import choose_residents, resident_names, shortest_names
from tracekit.model import Summary, Timeline
from tracekit.model.plan import Configuration, Estimate, Prediction, Residents
from tracekit.model.report import Basis, Finding
from tracekit.units import format_duration, format_memory


@dataclass(frozen=True)
class Case:
    """One run under examination."""

    timeline: Timeline
    summary: Summary
    predictor: Predictor

    @property
    def emulated(self) -> bool:
        """Whether the device is emulated: it has neither streams nor page-locked memory."""
        return self.summary.emulated

    @property
    def mode(self) -> str:
        """The run's offload mode."""
        return self.summary.mode

    @cached_property
    def steps(self) -> int:
        """Denoising steps of the first run."""
        first = self.timeline.steps["run_index"].iloc[0]
        return int((self.timeline.steps["run_index"] == first).sum())

    @cached_property
    def vram_bytes(self) -> int | None:
        """Device memory that the run might have used."""
        device = self.timeline.run.manifest.device
        return device.cap_bytes or device.total_bytes

    @cached_property
    def configuration(self) -> Configuration | None:
        """The run's own configuration; None where it cannot be named."""
        return configuration_of(self.timeline.run.manifest.offload)

    @cached_property
    def own(self) -> Prediction | None:
        """What the model says of the run's own configuration, so that like is held against like."""
        return self._predict(self.configuration) if self.configuration else None

    @cached_property
    def noise_ns(self) -> int:
        """How far warm steps differed: a gain below that is none."""
        cold = self.summary.cold_warm
        if cold is None or cold.warm_max_ns is None or cold.warm_min_ns is None:
            return 0
        return cold.warm_max_ns - cold.warm_min_ns

    @cached_property
    def residents(self) -> Residents | None:
        """What might stay on the device."""
        try:
            return choose_residents(self.predictor, self.vram_bytes) if self.vram_bytes else None
        except UnknownCost:
            return None

    def partial(self) -> Configuration | None:
        """Partial offload with that."""
        if self.residents is None:
            return None
        return Configuration(mode="partial", resident=resident_names(self.predictor, self.residents))

    def predicted(
        self, slug: str, title: str, evidence: str, configuration: Configuration | None, cost: str = "", code: str = ""
    ) -> Finding | None:
        """The finding that a change to `configuration` is worth it; None where it is not, by more than noise.

        Nor is it where the configuration does not fit.
        """
        other = self._predict(configuration) if configuration else None
        if other is None or self.own is None or configuration is None or not self._fits(other):
            return None
        gain = self.own.total_ns(self.steps).less(other.total_ns(self.steps))
        if gain.low <= self.noise_ns:
            return None
        return Finding(
            slug=slug,
            title=title,
            evidence=evidence,
            low_ns=gain.low,
            high_ns=gain.high,
            basis=Basis.PREDICTED,
            cost=cost or self._cost(other),
            code=code or self._code(configuration),
        )

    def measured(self, slug: str, title: str, evidence: str, gain: Estimate, cost: str, code: str) -> Finding | None:
        """The finding that something measured can be saved; None where noise is larger."""
        if gain.low <= self.noise_ns:
            return None
        return Finding(
            slug=slug,
            title=title,
            evidence=evidence,
            low_ns=gain.low,
            high_ns=gain.high,
            basis=Basis.MEASURED,
            cost=cost,
            code=code,
        )

    def _predict(self, configuration: Configuration | None) -> Prediction | None:
        try:
            return self.predictor.predict(configuration) if configuration else None
        except UnknownCost:
            return None

    def _fits(self, prediction: Prediction) -> bool:
        ram = self.timeline.run.manifest.machine.ram_bytes
        return (not self.vram_bytes or prediction.device_bytes.high <= self.vram_bytes) and (
            not ram or prediction.held_bytes <= ram
        )

    def _cost(self, other: Prediction) -> str:
        """What a change takes: memory on either side, set-up, and from which step on it pays."""
        assert self.own is not None
        parts = []
        device = other.device_bytes.value - self.own.device_bytes.value
        if device > 0:
            parts.append(f"{format_memory(device)} more device memory")
        if other.locked_bytes:
            parts.append(f"{format_memory(other.locked_bytes)} of page-locked host memory")
        setup = other.setup_ns.value - self.own.setup_ns.value
        if setup > self.noise_ns:
            parts.append(f"{format_duration(setup)} more set-up")
        saved = self.own.warm_step_ns.value - other.warm_step_ns.value
        before = other.total_ns(1).value - self.own.total_ns(1).value
        if before > 0 and saved > 0:
            parts.append(f"it pays from step {2 + before // saved}")
        return ", ".join(parts) or "nothing that this run shows"

    def _code(self, configuration: Configuration) -> str:
        weights = self.predictor.weights.all
        names = shortest_names(configuration.resident, (f"{w.fqn}.{w.name}" for w in weights if not w.is_buffer))
        device = self.timeline.run.manifest.device.torch_device or "cuda"
        return code_for(configuration, device, self.predictor.denoisers, names)

"""What every finding's rule looks at: the run's figures, and what other configurations are predicted to gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from tracekit.analysis.findings.cost import cost_of
from tracekit.analysis.prediction.code import code_for
from tracekit.analysis.prediction.planner import configuration_of
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.residents import choose_residents, resident_names, shortest_names
from tracekit.analysis.verdict import Shares, knows_kernels
from tracekit.model import Phase, Summary, Timeline
from tracekit.model.finding import Basis, Finding, Gain
from tracekit.model.plan import TYPICAL_STEPS, Configuration, Estimate, Prediction, Residents
from tracekit.model.typical import warm_steps


@dataclass(frozen=True)
class Case:
    """One run under examination, and how much device and host memory may be used (None: not known)."""

    timeline: Timeline
    summary: Summary
    predictor: Predictor
    vram_bytes: int | None
    ram_bytes: int | None

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
    def shares(self) -> Shares | None:
        """How warm steps divide; None without one, or where kernels are not known."""
        warm = warm_steps(self.summary.steps, self.summary.paging)
        return Shares.of(warm) if knows_kernels(self.summary) else None

    @property
    def cap_options(self) -> list[str]:
        """What ``tracekit plan`` has to be told of device memory to find the same."""
        own = self.timeline.run.manifest.device.limit_bytes
        return [] if self.vram_bytes in (None, own) else ["--vram", f"{self.vram_bytes}B"]

    @cached_property
    def configuration(self) -> Configuration | None:
        """The run's own configuration; None where it cannot be named."""
        return configuration_of(self.timeline.run.manifest.offload)

    @cached_property
    def own(self) -> Prediction | None:
        """What the model says of the run's own configuration, so that like is held against like.

        Of one that has no name, or that this run has no evidence for, what was measured; None without a warm step.
        """
        return (self.predict(self.configuration) if self.configuration else None) or self._measured()

    @cached_property
    def residents(self) -> Residents | None:
        """What might stay on the device."""
        try:
            return choose_residents(self.predictor, self.vram_bytes, self._memory) if self.vram_bytes else None
        except UnknownCost:
            return None

    @cached_property
    def whole(self) -> Configuration | None:
        """The simplest way to bring weights once a run instead of once a step; None where no such way fits."""
        for mode in ("resident", "model"):
            other = self.predict(Configuration(mode=mode))
            if other is not None and self._fits(other):
                return other.configuration
        return None

    def partial(self) -> Configuration | None:
        """Partial offload with what might stay."""
        if self.residents is None:
            return None
        names = resident_names(self.predictor, self.residents)
        return Configuration(mode="partial", host_memory=self._memory, resident=names)

    def predict(self, configuration: Configuration) -> Prediction | None:
        """What a configuration takes; None where this run has no evidence for it."""
        predicted = self._prediction(configuration)
        return predicted if isinstance(predicted, Prediction) else None

    def _prediction(self, configuration: Configuration) -> Prediction | UnknownCost:
        try:
            return self.predictor.predict(configuration)
        except UnknownCost as unknown:
            return unknown

    def predicted(
        self,
        slug: str,
        title: str,
        evidence: str,
        configuration: Configuration | None,
        *,
        command: str = "",
        cost: str = "",
        code: str = "",
        moment: tuple[int, int] | None = None,
        plain: bool = False,
    ) -> Finding | None:
        """The finding that a change to `configuration` is worth it; None where it is not, by more than noise.

        Nor is it where the configuration does not fit. `plain`: the evidence speaks for the change by itself, so that
        it is found, without a gain, also where the run lacks what a prediction takes.
        """
        if configuration is None or self.own is None:
            return None
        other = self._prediction(configuration)
        gains, reason = [], ""
        if isinstance(other, Prediction):
            saved = [(steps, self.own.total_ns(steps).less(other.total_ns(steps))) for steps in self._horizons()]
            gains = [_gain(steps, total) for steps, total in saved]
            cost = cost or cost_of(self.own, other, self.noise_ns(1))
            if not self._fits(other) or not self._worth(gains):
                return None
        elif plain and self._holds_weights():
            reason = f"; the gain is not predicted, since {other}"
        else:
            return None
        return Finding(
            slug=slug,
            title=title,
            evidence=evidence + reason,
            gains=gains,
            basis=Basis.PREDICTED,
            cost=cost,
            command=command,
            code=code or self.code(configuration),
            start_ns=moment and moment[0],
            end_ns=moment and moment[1],
        )

    def measured(
        self,
        slug: str,
        title: str,
        evidence: str,
        a_step: Estimate,
        *,
        cost: str,
        code: str,
        command: str = "",
        moment: tuple[int, int] | None = None,
    ) -> Finding | None:
        """The finding that something measured, `a_step` of each step, can be saved; None where noise is larger."""
        gains = [_gain(steps, a_step.times(steps)) for steps in self._horizons()]
        if not self._worth(gains):
            return None
        return Finding(
            slug=slug,
            title=title,
            evidence=evidence,
            gains=gains,
            basis=Basis.MEASURED,
            cost=cost,
            command=command,
            code=code,
            start_ns=moment and moment[0],
            end_ns=moment and moment[1],
        )

    def noise_ns(self, steps: int) -> int:
        """How far totals of so many steps may differ by chance, from how far the warm steps did."""
        cold = self.summary.cold_warm
        if cold is None or cold.warm_max_ns is None or cold.warm_min_ns is None:
            return 0
        return round((cold.warm_max_ns - cold.warm_min_ns) * math.sqrt(max(steps / self.steps, 1)))

    def code(self, configuration: Configuration) -> str:
        """The configuration's code to paste."""
        weights = self.predictor.weights.all
        names = shortest_names(configuration.resident, (f"{w.fqn}.{w.name}" for w in weights if not w.is_buffer))
        device = self.timeline.run.manifest.device.torch_device or "cuda"
        return code_for(configuration, device, self.predictor.denoisers, names)

    @property
    def _memory(self) -> str:
        return self.configuration.host_memory if self.configuration else "as-loaded"

    def _horizons(self) -> list[int]:
        """The run's own number of steps and, of a short profile, what is usual."""
        return [self.steps] if self.steps >= TYPICAL_STEPS else [self.steps, TYPICAL_STEPS]

    def _worth(self, gains: list[Gain]) -> bool:
        return any(gain.low_ns > self.noise_ns(gain.steps) for gain in gains)

    def _holds_weights(self) -> bool:
        return not self.ram_bytes or self.predictor.weights.total_bytes <= self.ram_bytes

    def _fits(self, prediction: Prediction) -> bool:
        return not any(prediction.missing_bytes(self.vram_bytes, self.ram_bytes))

    def _measured(self) -> Prediction | None:
        """The run as it was: what it took, with its warm steps' spread."""
        summary = self.summary
        cold = summary.cold_warm
        if cold is None or cold.warm_step_ns is None or cold.warm_min_ns is None or cold.warm_max_ns is None:
            return None
        run_index = summary.steps[0].run_index
        phases = {row.phase: row.wall_ns for row in summary.phases if row.run_index == run_index}
        setup, encode, decode = (_exactly(phases.get(name, 0)) for name in (Phase.SETUP, Phase.ENCODE, Phase.DECODE))
        return Prediction(
            configuration=Configuration(mode=self.mode),
            setup_ns=setup,
            encode_ns=encode,
            first_step_ns=_exactly(cold.first_step_ns),
            warm_step_ns=Estimate(cold.warm_step_ns, cold.warm_min_ns, cold.warm_max_ns),
            decode_ns=decode,
            device_bytes=_exactly(summary.peak_allocated_bytes or 0),
            host_bytes=_exactly(0),
            locked_bytes=0,
            traffic={},
            notes=[],
        )


def longest(rows: pd.DataFrame) -> tuple[int, int] | None:
    """When the longest of some spans or copies went on; None of none."""
    if rows.empty:
        return None
    place = int((rows["end_ns"] - rows["start_ns"]).to_numpy().argmax())
    return int(rows["start_ns"].iloc[place]), int(rows["end_ns"].iloc[place])


def _gain(steps: int, saved: Estimate) -> Gain:
    return Gain(steps, saved.low, saved.high)


def _exactly(value: int) -> Estimate:
    return Estimate(value, value, value)

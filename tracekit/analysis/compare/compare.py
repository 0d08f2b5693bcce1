"""Put a comparison together, and judge it against a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tracekit.analysis.compare.differences import Welch, difference, discoveries
from tracekit.analysis.compare.drift import drift
from tracekit.analysis.compare.samples import RunSamples, Values, means, run_samples
from tracekit.analysis.compare.settings import changed_settings, comparability
from tracekit.analysis.hostspeed import STEADY, host_slowdown
from tracekit.errors import UsageError
from tracekit.model import Manifest, Summary, Timeline
from tracekit.model.compare import Comparison, Difference, ModuleChanges, Outcome, SampleUnit, Side
from tracekit.model.typical import warm_steps
from tracekit.units import format_duration, format_share

WARM, FIRST, SETUP, TOTAL = "warm step", "step 1", "set-up", "total"

Runs = Sequence[tuple[Timeline, Summary]]


@dataclass(frozen=True)
class _Samples:
    """One side's runs; with repeats on both sides each is one sample, else each warm step is one."""

    runs: Sequence[RunSamples]
    unit: SampleUnit

    def pooled(self, values: Sequence[Values]) -> Values:
        if self.unit is SampleUnit.RUNS:
            return means(values)
        return [value for run in values for value in run]

    def by_name(self, runs: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
        """The samples of each quantity that a run has, over all runs."""
        names = dict.fromkeys(name for values in runs for name in values)
        return {name: self.pooled([values[name] for values in runs if name in values]) for name in names}


def compare_runs(base: Runs, other: Runs) -> Comparison:
    """Compare two sides, each of one run folder or of several that repeat it.

    Raises:
        UsageError: a side has no denoising step, so that there is nothing to compare.
    """
    for name, side in (("A", base), ("B", other)):
        without = [summary.path for _, summary in side if not summary.steps]
        if without:
            raise UsageError(f"{without[0]} ({name}) has no denoising step: there is nothing to compare")
    by_cause = all(summary.causes for _, summary in (*base, *other))
    unit = SampleUnit.RUNS if min(len(base), len(other)) > 1 else SampleUnit.STEPS
    sides = [
        _Samples([run_samples(timeline, summary, by_cause=by_cause) for timeline, summary in side], unit)
        for side in (base, other)
    ]
    times = _times(*sides)
    manifests = [[timeline.run.manifest for timeline, _ in side] for side in (base, other)]
    return Comparison(
        base=_side(base),
        other=_side(other),
        unit=unit,
        verdict=_verdict(times, unit),
        configuration=changed_settings(*manifests),
        times=times,
        warm_causes=_named(*(_warm_causes(side) for side in sides)),
        first_causes=_named(*(_first_causes(side) for side in sides)),
        modules=_modules(*sides),
        memory=_memory(*sides),
        traffic=_traffic(*sides),
        warnings=[*comparability(*manifests), *_slower_host(base, other), *_caveats(manifests, by_cause, *sides)],
    )


def judged(comparison: Comparison, fail_above: float) -> Comparison:
    """The comparison with the times of `other` that are longer by more than this share, and beyond noise."""
    found = [
        f"{row.name}: {row.relative:+.1%}"
        for row in comparison.times
        if row.outcome is Outcome.MORE and row.relative is not None and row.relative > fail_above
    ]
    return msgspec.structs.replace(comparison, fail_above=fail_above, regressions=found)


def _times(base: _Samples, other: _Samples) -> list[Difference]:
    return _rows(
        base,
        other,
        {
            WARM: lambda side: side.pooled([run.walls for run in side.runs]),
            FIRST: lambda side: [float(run.first_ns) for run in side.runs if run.first_ns is not None],
            SETUP: lambda side: [float(run.setup_ns) for run in side.runs],
            TOTAL: lambda side: [float(run.total_ns) for run in side.runs],
        },
    )


def _memory(base: _Samples, other: _Samples) -> list[Difference]:
    return _rows(
        base,
        other,
        {
            "peak allocated": lambda side: _known([run.allocated_bytes for run in side.runs]),
            "peak reserved": lambda side: _known([run.reserved_bytes for run in side.runs]),
        },
    )


def _traffic(base: _Samples, other: _Samples) -> list[Difference]:
    values = {"to the device in a warm step": lambda side: side.pooled([run.h2d_bytes for run in side.runs])}
    return _rows(base, other, values)


def _warm_causes(side: _Samples) -> dict[str, Values]:
    return side.by_name([run.causes for run in side.runs])


def _first_causes(side: _Samples) -> dict[str, Values]:
    return {name: [float(run.first_causes[name]) for run in side.runs] for name in side.runs[0].first_causes}


def _rows(base: _Samples, other: _Samples, values: Mapping[str, Callable[[_Samples], Values]]) -> list[Difference]:
    """The quantities that both sides have."""
    found = [difference(name, of(base), of(other)) for name, of in values.items()]
    return [row for row in found if row is not None]


def _named(base: Mapping[str, Values], other: Mapping[str, Values]) -> list[Difference]:
    """The quantities that both sides have, without those that are nothing on either."""
    found = [difference(name, base[name], other[name]) for name in base if name in other]
    return [row for row in found if row is not None and (row.base or row.other)]


def _known(values: Sequence[int | None]) -> Values:
    return [float(value) for value in values if value is not None]


def _modules(base: _Samples, other: _Samples) -> ModuleChanges:
    times = [side.by_name([run.modules for run in side.runs]) for side in (base, other)]
    rows = {row.name: row for row in _named(*times)}
    tests = [(name, welch) for name in rows if (welch := Welch.of(times[0][name], times[1][name]))]
    changed = [rows[tests[at][0]] for at in discoveries([welch.p_value() for _, welch in tests])]
    changed.sort(key=lambda row: (-abs(row.difference), row.name))
    more = sum(row.difference > 0 for row in changed)
    return ModuleChanges(compared=len(rows), less=len(changed) - more, more=more, changed=changed)


def _side(runs: Runs) -> Side:
    manifest: Manifest = runs[0][0].run.manifest
    return Side(
        paths=[summary.path for _, summary in runs],
        what=f"{manifest.pipeline_class or manifest.workload}, {manifest.offload.mode}",
    )


def _verdict(times: Sequence[Difference], unit: SampleUnit) -> str:
    by_name = {row.name: row for row in times}
    if WARM not in by_name:
        return "A side has no warm step, and step 1 alone says nothing beyond noise: run two steps or more."
    row = by_name[WARM]
    samples = f"means of {row.base_samples} and {row.other_samples} {unit}"
    change = f"{format_duration(row.base)} to {format_duration(row.other)}, {samples}"
    if row.outcome is Outcome.UNKNOWN:
        return f"A warm step goes from {change}; one sample on a side says nothing about noise."
    if row.outcome is Outcome.NOISE or row.low is None or row.high is None:
        return f"No difference beyond noise in a warm step ({change})."
    word = "longer" if row.outcome is Outcome.MORE else "shorter"
    share = f" by {format_share(abs(row.relative))}" if row.relative is not None else ""
    low, high = sorted((abs(row.low), abs(row.high)))
    return f"A warm step is {word} in B{share} ({change}): by {format_duration(low)} to {format_duration(high)}."


def _slower_host(base: Runs, other: Runs) -> list[str]:
    """A line, where the host itself was slower on one side: it makes a difference that is none of what was run."""
    warm = ([step for _, run in side for step in warm_steps(run.steps, run.paging)] for side in (other, base))
    times = host_slowdown(*warm)
    if times is None or 1 / STEADY < times < STEADY:
        return []
    name, times = ("B", times) if times > 1 else ("A", 1 / times)
    return [
        f"the host itself was slower in {name}: the same Python took {times:.2f} times as long in its warm steps, "
        "which is no difference of what was run"
    ]


def _caveats(manifests: Sequence[Sequence[Manifest]], by_cause: bool, *sides: _Samples) -> list[str]:
    found = []
    if sides[0].unit is SampleUnit.STEPS:
        found.append(
            "the samples are the steps of one run: how much runs of one configuration differ is not in the intervals; "
            "repeat both sides (--base A1 --base A2 --with B1 --with B2)"
        )
        for name, side in zip("AB", sides, strict=True):
            for run in side.runs:
                share = drift(run.walls)
                if share is not None:
                    found.append(
                        f"warm steps of {name} drift by {share:+.1%} from first to last: the intervals are wider for it"
                    )
    if not by_cause:
        found.append("a side has no causes, for want of the device's record: steps are divided without them")
    if any(manifest.device.kind == "emulated" for side in manifests for manifest in side):
        found.append("an emulated device's times are its machine's memory and disk, not a GPU's")
    return found

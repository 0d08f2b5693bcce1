"""Run a plan's configurations for real, each in a process of its own, and set measured beside predicted."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from tracekit.analysis.drift import machine_drift
from tracekit.analysis.hostspeed import host_slowdown
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.tape import middle_third
from tracekit.capture.filecache import cache_files, evict_files
from tracekit.errors import UsageError
from tracekit.experiment.process import run_arm
from tracekit.experiment.template import Template
from tracekit.model import Manifest, Phase, RunData, Summary
from tracekit.model.causes import Cause
from tracekit.model.experiment import ArmRun, Outcome
from tracekit.model.plan import Configuration, Drift, Estimate, OffloadPlan, PlanRow, Prediction, VerifiedRow
from tracekit.model.summary import CauseRow, PagingEvidence, PhaseCauseRow
from tracekit.model.typical import warm_steps
from tracekit.offload.modes import modes
from tracekit.runfolder import read_run
from tracekit.runfolder.paths import VERIFIED_NAME
from tracekit.workload.pipeline import find_folder

OnConfiguration = Callable[[str, int, int], None]
"""Told which configuration is about to run, how many were run, and how many there are."""

RESIDENT_NAME = "resident.txt"
FIRST_STEP, WARM_STEP = "step 1", "warm step"
_CALL = {"num_inference_steps": "--steps", "height": "--height", "width": "--width", "prompt": "--prompt"}
_OF_A_RUN = ("generator",)


def verify_plan(
    predictor: Predictor,
    profiled: Summary,
    made: OffloadPlan,
    count: int,
    on_configuration: OnConfiguration | None = None,
    *,
    keep: Callable[[OffloadPlan], object],
) -> None:
    """Run the `count` best configurations of a plan, each in a process of its own, and set measured beside predicted.

    `predictor` is what the plan was made by, `profiled` the summary of its run.

    What was found is added to the plan's `verified` and `drifts`, which `keep` keeps after each configuration: a run
    takes minutes, and the next one may fail or be interrupted.

    The processes are forked as an experiment's arms are, so that the libraries are imported once.
    They run the profiled pipeline in the same way, its number of steps included. Their run folders stay in the run's,
    under ``verified``. Each finds the weights' files where the profiled run found them, since what is predicted has its
    first onloads: on disk alone, or in the page cache.

    Raises:
        UsageError: it was a script's run, or the pipeline is not the profiled one; or a configuration failed.
    """
    manifest = predictor.timeline.run.manifest
    words = base_options(manifest)
    most = max(made.steps, default=0)
    rows = sorted((row for row in made.rows if row.fits), key=lambda row: row.totals[most].value)[:count]
    if not rows:
        raise UsageError("nothing in this plan fits, so that there is nothing to verify")
    files = sorted(find_folder(manifest.workload).rglob("*.safetensors"))  # what diffusers maps
    prepare_files = evict_files if read_from_disk(profiled.paging) else cache_files
    with Template() as template:
        for place, row in enumerate(rows):
            if on_configuration is not None:
                on_configuration(row.configuration.name, place, len(rows))
            prepare_files(files)
            made.add_verified(*_run_configuration(row, words, predictor, profiled, made, template))
            keep(made)


def read_from_disk(paging: PagingEvidence | None) -> bool:
    """Whether a run found most of its weights on disk alone."""
    if paging is None:
        return False
    absent = 0.0 if paging.resident_before is None else 1 - paging.resident_before
    return max(paging.first_read_bytes or 0, absent * paging.mapped_bytes) > paging.mapped_bytes / 2


def is_verifiable(manifest: Manifest) -> bool:
    """Whether tracekit sets up the offloading of such a run itself, so that it can run it otherwise."""
    return manifest.offload.mode in modes()


def base_options(manifest: Manifest) -> list[str]:
    """The words of ``tracekit profile`` that call the same pipeline in the same way, whatever the offload mode.

    Raises:
        UsageError: it was a script's run, whose code tracekit cannot change; or the pipeline is not there any more.
    """
    if not is_verifiable(manifest):
        what = "a script sets up its own offloading" if manifest.offload.mode == "script" else "only its trace is known"
        raise UsageError(f"{what}, so tracekit cannot verify a plan of its run")
    find_folder(manifest.workload)
    words = [manifest.workload, "--device", manifest.device.torch_device or "auto"]
    for key, value in manifest.call.items():
        if value is None or key in _OF_A_RUN:
            continue
        words += [_CALL[key], str(value)] if key in _CALL else ["--call", f"{key}={_json(value)}"]
    words += _carried(manifest.command, ("--dtype", "--seed", "--link-gbps"))
    return words


def _run_configuration(
    row: PlanRow,
    words: Sequence[str],
    predictor: Predictor,
    profiled: Summary,
    made: OffloadPlan,
    template: Template,
) -> tuple[list[VerifiedRow], Drift]:
    """Profile one configuration into a folder of its own; how far off it was predicted, and the machine's drift.

    Raises:
        UsageError: it failed, or another pipeline ran than the one that was profiled.
    """
    manifest, folder = predictor.timeline.run.manifest, Path(profiled.path) / VERIFIED_NAME
    name = re.sub(r"[^a-z0-9]+", "-", row.configuration.name.lower()).strip("-")
    target = folder / name
    options = offload_words(row.configuration, folder / f"{name}-{RESIDENT_NAME}")
    vram = made.vram_bytes
    cap = ["--vram", f"{vram}B"] if vram and vram != manifest.device.total_bytes else []
    state = ["--page-cache", "mapped"] if manifest.conditions.page_cache == "mapped" else []
    ended = run_arm(ArmRun(block=0, arm=name), [*words, *options, *cap, *state], target, template=template)
    if ended.outcome is not Outcome.DONE or ended.summary is None:
        raise UsageError(f"verifying {row.configuration.name} failed: {ended.reason or ended.outcome}")
    if _weights(read_run(target)) != _weights(predictor.timeline.run):
        raise UsageError(f"{manifest.workload} has other weights than when it was profiled: profile it anew")
    slower = machine_drift(profiled.ceilings, ended.summary.ceilings)
    assert row.prediction is not None
    found, host = compare(row.prediction, ended.summary), host_against(predictor, profiled, ended.summary)
    drift = Drift(configuration=row.configuration.name, slower=slower, host=host)
    if host is not None:
        for_host = predictor.predict(row.configuration, ram_bytes=made.ram_bytes, host=host)
        rows = compare(for_host, ended.summary)
        drift.warm_step = next((each for each in rows if each.quantity == WARM_STEP), None)
    return found, drift


def host_against(predictor: Predictor, profiled: Summary, summary: Summary) -> float | None:
    """How many times as long the same Python took in a run's warm steps as in those that it is predicted from."""
    before = [step for step in profiled.steps if (step.run_index, step.step_index) in predictor.usual_steps]
    warm = warm_steps([step for step in summary.steps if step.run_index == 0], summary.paging)
    return host_slowdown([warm[at] for at in middle_third([step.wall_ns for step in warm])], before)


def offload_words(configuration: Configuration, resident_file: Path) -> list[str]:
    """The words of ``tracekit profile`` for a configuration; what stays resident is written into a file."""
    words = ["--offload", configuration.mode]
    if configuration.host_memory != "as-loaded":
        words += ["--host-memory", configuration.host_memory]
    if configuration.mode == "partial":
        resident_file.parent.mkdir(parents=True, exist_ok=True)
        resident_file.write_text("".join(f"{name}\n" for name in configuration.resident))
        words += ["--resident-list", str(resident_file)]
    if configuration.mode == "group":
        words += ["--group-level", configuration.group_level]
        if configuration.group_level == "block_level":
            words += ["--blocks-per-group", str(configuration.blocks_per_group)]
        flags = {
            "--stream": configuration.stream,
            "--record-stream": configuration.record_stream,
            "--low-cpu-mem": configuration.low_cpu_mem,
        }
        words += [flag for flag, is_set in flags.items() if is_set]
    return words


def compare(prediction: Prediction, summary: Summary) -> list[VerifiedRow]:
    """What was predicted beside what was measured, quantity by quantity; tracekit's own work is in neither."""
    own = Counter({cause.phase: cause.duration_ns for cause in summary.phase_causes if _is_own(cause)})
    phases = {phase.phase: phase.wall_ns - own[phase.phase] for phase in summary.phases if phase.run_index == 0}
    around = sum(took for phase, took in phases.items() if phase != Phase.DENOISE)
    own_in_steps = Counter({cause.step_index: cause.duration_ns for cause in summary.causes if _is_own(cause)})
    first_run = [step for step in summary.steps if step.run_index == 0]
    steps = {step.step_index: step.wall_ns - own_in_steps[step.step_index] for step in first_run}
    warm = [steps[step.step_index] for step in warm_steps(first_run, summary.paging)]
    found: list[tuple[str, Estimate, int | None]] = [
        ("set-up", prediction.setup_ns, phases.get(Phase.SETUP)),
        (FIRST_STEP, prediction.first_step_ns, steps.get(0)),
        (WARM_STEP, prediction.warm_step_ns, round(median(warm)) if warm else None),
        ("total", prediction.total_ns(len(steps)), around + sum(steps.values())),
        ("device memory", prediction.device_bytes, summary.peak_allocated_bytes),
    ]
    return [
        VerifiedRow(
            configuration=prediction.configuration.name,
            quantity=quantity,
            predicted=predicted,
            measured=measured,
            error=predicted.value / measured - 1,
        )
        for quantity, predicted, measured in found
        if measured
    ]


def _is_own(cause: CauseRow | PhaseCauseRow) -> bool:
    """Whether it is tracekit's own work in the first run."""
    return cause.cause is Cause.TRACEKIT and cause.run_index == 0


def _weights(run: RunData) -> frozenset[tuple[str, str, int]]:
    """What tells one pipeline's weights from another's, without reading them."""
    columns = (run.parameters[name] for name in ("fqn", "parameter", "size_bytes"))
    return frozenset((str(fqn), str(name), int(size)) for fqn, name, size in zip(*columns, strict=True))


def _carried(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """Options of the profiled command, with their values."""
    words: list[str] = []
    for before, word in itertools.pairwise(command):
        if before in options:
            words += [before, word]
        elif before.partition("=")[0] in options and "=" in before:
            words.append(before)
    return words


def _json(value: str | int | float | bool) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)

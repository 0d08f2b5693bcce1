"""What the verdict says, from summaries made for one claim each."""

import msgspec
import pytest
from builders import build_run

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.verdict import verdict
from tracekit.model import Cause, CauseRow, ColdWarm, Evidence, ModuleRow, PhaseRow, StepRow, Summary
from tracekit.units import GIB

MS = 1_000_000


def step(index, exposed, compute, rest, hidden=0, own=0, run=0) -> StepRow:
    """A step from milliseconds."""
    copy = (exposed + hidden) * MS
    return StepRow(
        run_index=run, step_index=index, wall_ns=(exposed + compute + rest) * MS, copy_count=10, h2d_bytes=8 * copy,
        d2h_bytes=0, h2d_ns=copy, copy_ns=copy, exposed_copy_ns=exposed * MS, compute_ns=compute * MS,
        rest_ns=rest * MS, tracekit_ns=own * MS,
    )  # fmt: skip


def cold_warm(first_ms, *warm_ms) -> ColdWarm:
    walls = sorted(ms * MS for ms in warm_ms)
    return ColdWarm(
        first_step_ns=first_ms * MS, warm_step_ns=walls[len(walls) // 2] if walls else None,
        warm_min_ns=min(walls, default=None), warm_max_ns=max(walls, default=None), warm_samples=len(walls),
        first_copy_ns=0, warm_copy_ns=None, first_h2d_bytes=0, warm_h2d_bytes=None,
    )  # fmt: skip


def summary(*steps: StepRow, **changes) -> Summary:
    module = ModuleRow(
        fqn="transformer.a", module_class="Linear", onloads=2, weight_bytes=GIB, h2d_bytes=10**9, exposed_ns=9,
        compute_ns=9, first_ns=9, warm_ns=9,
    )  # fmt: skip
    fields = {
        "path": "runs/x", "workload": "synthetic:flux-tiny", "pipeline_class": "FluxPipeline", "mode": "sequential",
        "device_name": "H100", "emulated": False, "activity": "cupti", "complete": True, "incomplete_reason": "",
        "verdict": "", "denoisers": ["transformer"], "total_ns": 1, "setup_ns": 0, "h2d_bytes": 10**9, "d2h_bytes": 0,
        "h2d_bytes_by_memory": {"mmap": 10**9}, "peak_allocated_bytes": GIB, "peak_reserved_bytes": GIB,
        "steps": list(steps), "phases": [], "modules": [module], "unattributed_copies": 0, "device_only_copies": 0,
        "cold_warm": cold_warm(*(s.wall_ns // MS for s in steps)) if steps else None, "warnings": [],
    }  # fmt: skip
    return Summary(**(fields | changes))


COLD = step(0, 300, 20, 80)
COPYING = (COLD, step(1, 58, 11, 31), step(2, 62, 11, 27))


def test_copying_most():
    assert verdict(summary(*COPYING)) == (
        "Copying weights takes 60% of a warm step (58% to 62% in 2 steps), computing 11%, and 29% is neither. "
        "Step 1 took 400 ms, 4.0 times the median of 2 later steps (100 ms)."
    )


def test_percentages_add_up_as_printed():
    assert "takes 56% of a warm step, computing 34%, and 10% is neither" in verdict(
        summary(COLD, step(1, 556, 336, 108))
    )
    assert "(56% in each of 2), computing 34%, and 10%" in verdict(
        summary(COLD, step(1, 556, 336, 108), step(2, 556, 336, 108))
    )


def test_weights_that_stay():
    said = verdict(summary(step(0, 90, 5, 5), step(1, 1, 90, 9), mode="resident"))
    assert said.startswith("Weights stay on the device: copies take 1% of a warm step, and computing 90%.")
    said = verdict(summary(step(0, 90, 5, 5), step(1, 0, 90, 10)))
    assert said.startswith("Weights stay on the device: nothing is copied in a warm step, and computing 90%.")


def test_weights_that_are_copied_quickly_are_not_said_to_stay():
    streamed = msgspec.structs.replace(step(1, 1, 90, 9), h2d_bytes=GIB)
    assert verdict(summary(step(0, 90, 5, 5), streamed)).startswith(
        "Computing takes 90% of a warm step, copying weights that no kernel hides 1%, and 9% is neither."
    )


def test_hidden_copies():
    said = verdict(summary(COLD, step(1, 3, 90, 7, hidden=80)))
    assert said.startswith(
        "Copying is hidden behind computing: copies are under way for 83% of a warm step, "
        "and only 3% of it has no kernel beside them; computing 90%."
    )


def test_computing_most():
    said = verdict(summary(COLD, step(1, 20, 70, 10)))
    assert said.startswith(
        "Computing takes 70% of a warm step, copying weights that no kernel hides 20%, and 10% is neither."
    )


def test_neither_most():
    said = verdict(summary(COLD, step(1, 30, 15, 55)))
    assert said.startswith("For 55% of a warm step neither a copy nor a kernel runs (Python, allocation, waiting); ")


def test_copies_of_other_things_are_not_called_weights():
    assert verdict(summary(*COPYING, modules=[])).startswith("Copying takes 60%")


@pytest.mark.parametrize(
    ("cold", "says"),
    [
        (cold_warm(400, 90, 100, 110), "Step 1 took 400 ms, 4.0 times the median of 3 later steps (100 ms)."),
        (cold_warm(1420, 100), "Step 1 took 1.42 s, 14 times the one later step (100 ms)."),
        (
            cold_warm(105, 90, 100, 110),
            "Step 1 took 105 ms, within what 3 later steps took (90.0 ms to 110 ms): no cold start shows.",
        ),
        (
            cold_warm(80, 90, 100, 110),
            "Step 1 took 80.0 ms, no more than the median of 3 later steps (100 ms): no cold start shows.",
        ),
        (cold_warm(104, 100, 100), "hardly more than the median of 2 later steps (100 ms): no cold start shows."),
        (cold_warm(400), "There is no warm sample: only one step was recorded."),
    ],
)
def test_step_1(cold, says):
    assert says in verdict(summary(*COPYING, cold_warm=cold))


def test_a_single_step_is_not_called_warm():
    said = verdict(summary(COLD))
    assert said == (
        "Copying weights takes 75% of step 1, computing 5%, and 20% is neither. "
        "There is no warm sample: only one step was recorded."
    )


def test_set_up_is_named_where_it_is_longer_than_step_1():
    assert verdict(summary(*COPYING, setup_ns=26_500 * MS)).endswith("Set-up took 26.5 s.")
    assert "Set-up" not in verdict(summary(*COPYING, setup_ns=399 * MS))


def test_set_up_is_where_the_cold_cost_is_when_the_weights_were_copied_there():
    setup = PhaseRow(
        run_index=0, phase="setup", wall_ns=900 * MS, copy_count=1, h2d_bytes=GIB, d2h_bytes=0, h2d_ns=500 * MS,
        copy_ns=500 * MS, exposed_copy_ns=500 * MS, compute_ns=0, rest_ns=400 * MS, tracekit_ns=0,
    )  # fmt: skip
    assert "Set-up took 900 ms: 1.07 GB of weights went to the device there (500 ms of copying), so that" in verdict(
        summary(*COPYING, phases=[setup], setup_ns=900 * MS)
    )
    pinned = summary(*COPYING, setup_ns=900 * MS, h2d_bytes_by_memory={"pinned": 10**9})
    assert "copies come from page-locked memory, and what filling it cost is there" in verdict(pinned)


def test_tracekits_own_work_is_named_where_it_shows():
    assert "tracekit's own work took 8% of it." in verdict(summary(COLD, step(1, 60, 11, 29, own=8)))
    assert "own work" not in verdict(summary(COLD, step(1, 60, 11, 29, own=2)))


def test_incomplete_emulated_and_without_kernels_are_said():
    said = verdict(summary(*COPYING, complete=False, incomplete_reason="interrupted (Ctrl-C)", emulated=True))
    assert said.startswith("This profile is incomplete: interrupted (Ctrl-C). Copying weights takes")
    assert said.endswith("The device is emulated: its times are this machine's memory and disk, not a GPU's.")
    blind = (step(0, 300, 0, 100), step(1, 60, 0, 40))
    said = verdict(summary(*blind, activity="cuda-events"))
    assert said.startswith("Copying weights takes 60% of a warm step; computing was not recorded.")
    said = verdict(summary(*blind, activity="none"))
    assert said.startswith("Copying weights takes 60% of a warm step (as the host saw it); computing was not recorded.")
    # A killed run's device records are lost with its CUPTI window.
    assert "computing was not recorded" in verdict(summary(*blind, activity="cupti"))


def test_a_built_run_says_what_was_built():
    built = summarize(build_timeline(build_run(steps=4)))
    assert built.verdict.startswith("Copying weights takes 87% of a warm step (87% in each of 3), computing 8%")
    assert (
        "Step 1 took 15.6 ms, 4.5 times the median of 3 warm steps (3.51 ms). It spent 12.0 ms more on "
        "disk reads (18.2 MB of 24.3 MB came from disk). Set-up took 1.20 s."
    ) in built.verdict


def cause(step_index: int, which: Cause, ms: int) -> CauseRow:
    return CauseRow(
        run_index=0, step_index=step_index, cause=which, duration_ns=ms * MS, evidence=Evidence.MEASURED, reason=""
    )


def test_garbage_collection_is_named_where_it_is_large():
    rows = [cause(0, Cause.GARBAGE, 200), *(cause(index, Cause.UNATTRIBUTED, 100) for index in range(3))]
    said = verdict(summary(*COPYING, causes=rows))
    assert said.endswith("It spent 200 ms more on Python's garbage collector.")
    assert "collector took" not in said
    said = verdict(summary(*COPYING, causes=[*rows, cause(2, Cause.GARBAGE, 20)]))
    assert "Python's garbage collector took 10% of it. Step 1 took" in said

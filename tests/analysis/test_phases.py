"""Which run, phase and step a moment belongs to, on runs of every shape."""

import numpy as np
import pytest
from builders import build_run, make_manifest, make_run

from tracekit.analysis import build_timeline
from tracekit.analysis.phases import PHASES, find_phases
from tracekit.analysis.spans import SpanTree
from tracekit.model import NONE

FLUX = {"text_encoder": "CLIPTextModel", "transformer": "FluxTransformer2DModel", "vae": "AutoencoderKL"}


class Script:
    """Spans of a run, one after another; a call with `inside` lets the next ones be its children."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, kind, fqn, start, end, parent=NONE, run=0, thread=1) -> int:
        self.rows.append(
            {
                "span_id": len(self.rows), "parent_id": parent, "kind": kind, "name": kind, "fqn": fqn,
                "run_index": run, "thread_id": thread, "start_ns": start, "end_ns": end,
            }
        )  # fmt: skip
        return len(self.rows) - 1

    def phases(self, **manifest):
        run = make_run({"spans": self.rows}, make_manifest(**{"components": FLUX} | manifest))
        return find_phases(run, SpanTree(run.spans).parent)


def steps(phases) -> list[tuple[int, int, int, int]]:
    return [tuple(row) for row in phases.steps.itertuples(index=False, name=None)]


def at(phases, run, moment) -> tuple[str, int]:
    runs, times = np.array([run]), np.array([moment])
    return PHASES[phases.phases_at(runs, times)[0]], phases.steps_at(runs, times)[0]


def test_a_pipelines_phases_and_steps():
    script = Script()
    run = script.add("run", "", 100, 1000)
    script.add("onload", "text_encoder", 110, 120, run)
    script.add("forward", "text_encoder", 120, 150, run)
    script.add("onload", "transformer", 200, 250, run)
    for start, end in ((250, 300), (350, 400)):
        forward = script.add("forward", "transformer", start, end, run)
        script.add("forward", "transformer.blocks.0", start + 10, end - 10, forward)
        script.add("scheduler", "", end, end + 20, run)
    script.add("forward", "vae", 500, 900, run)
    phases = script.phases()
    assert phases.denoisers == ("transformer",)
    assert steps(phases) == [(0, 0, 200, 320), (0, 1, 320, 420)]
    assert phases.runs.iloc[0].tolist() == [0, 100, 1000, 200, 420]
    assert [at(phases, 0, moment) for moment in (99, 100, 199, 200, 319, 320, 419, 420, 999, 1000)] == [
        ("setup", NONE), ("encode", NONE), ("encode", NONE), ("denoise", 0), ("denoise", 0),
        ("denoise", 1), ("denoise", 1), ("decode", NONE), ("decode", NONE), ("setup", NONE),
    ]  # fmt: skip


def test_two_forwards_a_step_are_one_step():
    script = Script()
    run = script.add("run", "", 0, 1000)
    for step in range(3):
        script.add("forward", "transformer", 100 * step + 10, 100 * step + 40, run)
        script.add("forward", "transformer", 100 * step + 50, 100 * step + 80, run)
        script.add("scheduler", "", 100 * step + 90, 100 * step + 95, run)
    assert steps(script.phases()) == [(0, 0, 10, 95), (0, 1, 95, 195), (0, 2, 195, 295)]


def test_wans_two_transformers_are_both_denoisers_wherever_they_change():
    for change in range(4):
        script = Script()
        run = script.add("run", "", 0, 1000)
        script.add("forward", "text_encoder", 1, 5, run)
        for step in range(4):
            name = "transformer" if step < change else "transformer_2"
            script.add("forward", name, 100 * step + 10, 100 * step + 80, run)
            script.add("scheduler", "", 100 * step + 90, 100 * step + 95, run)
        phases = script.phases()
        assert set(phases.denoisers) == ({"transformer", "transformer_2"} if change else {"transformer_2"})
        assert [row[2] for row in steps(phases)] == [10, 95, 195, 295]


def test_with_one_step_the_denoiser_is_what_ran_last_before_the_scheduler():
    script = Script()
    run = script.add("run", "", 0, 1000)
    script.add("forward", "text_encoder", 10, 50, run)
    forward = script.add("forward", "unet", 100, 200, run)
    script.add("forward", "unet.mid_block", 120, 180, forward)
    script.add("scheduler", "", 210, 220, run)
    script.add("forward", "vae", 300, 400, run)
    phases = script.phases()
    assert phases.denoisers == ("unet",)
    assert steps(phases) == [(0, 0, 100, 220)]


def test_runs_have_their_own_steps_also_side_by_side_in_two_threads():
    script = Script()
    for run_index, offset in ((0, 0), (1, 7)):
        run = script.add("run", "", offset, 1000 + offset, run=run_index, thread=run_index)
        for step in range(2):
            start = 100 * step + 10 + offset
            script.add("forward", "transformer", start, start + 50, run, run_index, run_index)
            script.add("scheduler", "", start + 60, start + 70, run, run_index, run_index)
    phases = script.phases()
    assert steps(phases) == [(0, 0, 10, 80), (0, 1, 80, 180), (1, 0, 17, 87), (1, 1, 87, 187)]
    assert at(phases, 0, 84) == ("denoise", 1)
    assert at(phases, 1, 84) == ("denoise", 0)


def test_a_bare_modules_outermost_calls_are_steps_with_their_onloads_and_offloads():
    script = Script()
    run = script.add("run", "", 0, 1000)
    script.add("onload", "model", 90, 100, run)
    forward = script.add("forward", "model", 100, 200, run)
    script.add("forward", "model.0", 110, 190, forward)
    script.add("offload", "model", 200, 220, run)
    script.add("onload", "model", 400, 450, run)
    script.add("forward", "model", 450, 500, run)
    phases = script.phases(pipeline_class="Net", components={"model": "Net"})
    assert steps(phases) == [(0, 0, 90, 220), (0, 1, 400, 500)]
    assert at(phases, 0, 300) == ("denoise", NONE)
    assert phases.denoisers == ("model",)


def test_a_run_killed_in_its_first_step_has_a_denoise_phase_and_no_step():
    script = Script()
    script.add("forward", "text_encoder", 10, 50)
    script.add("forward", "transformer.blocks.0", 100, 200, parent=NONE)
    phases = script.phases(complete=False)
    assert steps(phases) == []
    assert phases.runs.iloc[0].tolist() == [0, 10, 200, 100, 200]
    assert at(phases, 0, 20) == ("encode", NONE)
    assert at(phases, 0, 150) == ("denoise", NONE)


def test_a_step_that_never_ended_is_denoise_without_a_step():
    script = Script()
    for step in range(2):
        script.add("forward", "transformer", 100 * step + 10, 100 * step + 80)
        script.add("scheduler", "", 100 * step + 90, 100 * step + 95)
    script.add("forward", "transformer.blocks.0", 210, 250)
    phases = script.phases(complete=False)
    assert steps(phases) == [(0, 0, 10, 95), (0, 1, 95, 195)]
    assert at(phases, 0, 220) == ("denoise", NONE)


def test_a_run_without_a_loop_is_all_encode():
    script = Script()
    run = script.add("run", "", 0, 100)
    script.add("forward", "text_encoder", 10, 50, run)
    phases = script.phases()
    assert at(phases, 0, 99) == ("encode", NONE)
    assert phases.runs.iloc[0].tolist() == [0, 0, 100, NONE, NONE]


def test_tracekits_own_work_before_a_run_is_not_in_it():
    script = Script()
    script.add("tracekit", "", 0, 90)
    script.add("run", "", 100, 200)
    assert script.phases().runs.iloc[0].tolist()[:3] == [0, 100, 200]


def test_set_up_belongs_to_the_run_that_it_prepares():
    script = Script()
    script.add("setup", "", 0, 50, run=NONE)
    script.add("run", "", 100, 200, run=0)
    script.add("setup", "", 250, 300, run=NONE)
    script.add("run", "", 400, 500, run=1)
    script.add("setup", "", 600, 700, run=NONE)
    script.add("setup", "", 120, 130, run=NONE, thread=2)
    copies = [{"copy_id": 0, "direction": "H2D", "start_ns": 20, "end_ns": 30, "thread_id": 1}]
    timeline = build_timeline(make_run({"spans": script.rows, "copies": copies}, make_manifest(components=FLUX)))
    setup = timeline.spans[timeline.spans["kind"] == "setup"]
    assert setup["run_index"].tolist() == [0, 1, 1, 0]
    assert setup["phase"].unique().tolist() == ["setup"]
    assert timeline.copies[["run_index", "phase", "step_index"]].iloc[0].tolist() == [0, "setup", NONE]


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_a_built_run_has_its_steps(device):
    timeline = build_timeline(build_run(device=device, steps=4, runs=2))
    assert timeline.denoisers == ("transformer",)
    assert timeline.steps[["run_index", "step_index"]].to_numpy().tolist() == [[r, s] for r in (0, 1) for s in range(4)]
    in_steps = timeline.copies[timeline.copies["step_index"] != NONE]
    assert (in_steps["phase"] == "denoise").all()
    # The first step's timestep is copied before the denoiser's first onload.
    assert in_steps.groupby(["run_index", "step_index"]).size().tolist() == [16, 17, 17, 17] * 2
    assert (timeline.copies["run_index"] != NONE).all()


def test_an_empty_run_folder_has_nothing():
    timeline = build_timeline(make_run({}))
    assert (len(timeline.runs), len(timeline.steps), len(timeline.spans), len(timeline.copies)) == (0, 0, 0, 0)
    assert {"phase", "step_index", "own_ns", "device_ns", "component"} <= set(timeline.spans.columns)
    assert {"phase", "step_index", "is_weight", "first", "duration_ns", "device_name"} <= set(timeline.copies.columns)

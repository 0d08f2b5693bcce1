"""A plan as text: what fits, what is best, what does not fit and why, within 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from golden import assert_golden
from rich.console import Console

from tracekit.model.finding import Basis, Finding, Gain
from tracekit.model.plan import (
    BreakEven,
    Configuration,
    Drift,
    Estimate,
    Limit,
    OffloadPlan,
    PlanRow,
    Prediction,
    ResidentModule,
    Residents,
    VerifiedRow,
)
from tracekit.render.plan import MAX_MODULES, render_plan

S = 10**9
MS = 10**6
MIB = 2**20
STEPS = [4, 28]


def about(value: int) -> Estimate:
    """Known to a tenth."""
    return Estimate(value, value * 9 // 10, value * 11 // 10)


def row(configuration: Configuration, warm_ns: int, device_bytes: int, **changes: Any) -> PlanRow:
    """Set-up takes 6 s, encode and decode one each, step 1 three times a warm one."""
    prediction = Prediction(
        configuration=configuration, setup_ns=about(6 * S), encode_ns=about(S), first_step_ns=about(3 * warm_ns),
        warm_step_ns=about(warm_ns), decode_ns=about(S), device_bytes=about(device_bytes), host_bytes=about(34 * 2**30),
        locked_bytes=0, traffic={}, notes=[],
    )  # fmt: skip
    totals = {steps: prediction.total_ns(steps) for steps in STEPS}
    code = f"pipe = offloaded(pipe, {configuration.mode!r})\n"
    return PlanRow(configuration=configuration, prediction=prediction, totals=totals, code=code, **changes)


def make_plan(modules: int = 2, **changes: Any) -> OffloadPlan:
    pinned = Configuration(mode="sequential", host_memory="pinned")
    quantized = Configuration(mode="resident", weight_scale=0.5)
    kept = [
        ResidentModule(fqn=f"transformer.single_transformer_blocks.{index}.proj_out", size_bytes=94_378_000,
                       saved_ns=(60 - index) * MS)
        for index in range(modules)
    ]  # fmt: skip
    finding = Finding(
        slug="pageable-memory", title="Page-lock the weights", evidence="every copy is staged",
        gains=[Gain(28, 65 * S, 70 * S)], basis=Basis.PREDICTED, cost="22.4 GiB", command="tracekit profile X", code="",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "path": "runs/flux", "workload": "black-forest-labs/FLUX.1-dev", "measured": "sequential", "emulated": False,
        "vram_bytes": 12 * 2**30, "ram_bytes": 64 * 2**30, "steps": STEPS,
        "rows": [
            row(Configuration(mode="sequential"), 4 * S, 300 * MIB),
            row(pinned, 3 * S // 2, 300 * MIB),
            row(Configuration(mode="resident"), S // 2, 24 << 30, missing_device_bytes=12 << 30),
            PlanRow(configuration=quantized, prediction=None, totals={}, reason="no run measured its kernels"),
        ],
        "best": dict.fromkeys(STEPS, pinned.name),
        "break_even": [
            BreakEven(sooner="sequential", later=pinned.name, steps=5, steps_low=4, steps_high=7,
                      saved_per_step_ns=about(5 * S // 2), saved_share=0.625),
            BreakEven(sooner=pinned.name, later="group leaf", steps=None, steps_low=None, steps_high=None,
                      saved_per_step_ns=about(MS), saved_share=0.02),
        ],
        "residents": Residents(modules=kept, size_bytes=188_756_000, room_bytes=11 << 30, saved_ns=119 * MS,
                               reason="180 MiB of the 11.0 GiB that are left"),
        "limit": Limit(compute_ns=S // 2, link_ns=9 * S // 10, streamed_bytes=12_000_000_000, kept_bytes=11 << 30),
        "assumptions": ["kernels take as long as in this run"], "notes": ["memory of the host was not sampled"],
        "verified": [
            VerifiedRow(configuration=pinned.name, quantity="warm step", predicted=about(3 * S // 2),
                        measured=1_400 * MS, error=0.0714),
            VerifiedRow(configuration=pinned.name, quantity="device memory", predicted=about(300 * MIB),
                        measured=310 * MIB, error=-0.0323),
        ],
        "drifts": [Drift(configuration=pinned.name, slower={"host code": 1.52, "pageable copies": 1.07, "pin": 0.85})],
        "findings": [finding],
    }  # fmt: skip
    return OffloadPlan(**(fields | changes))


def printed(plan: OffloadPlan) -> str:
    stream = io.StringIO()
    render_plan(plan, Console(file=stream, width=200, highlight=False))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def test_golden() -> None:
    text = printed(make_plan())
    assert max(map(len, text.splitlines())) <= 80
    assert_golden("plan.txt", text)


def test_a_machine_that_was_as_fast_is_said_to_have_been() -> None:
    text = printed(make_plan(drifts=[Drift(configuration="model", slower={"host code": 1.09, "cloning": 0.92})]))
    assert "model: just before it, the machine was as fast" in text
    assert "machine  " not in printed(make_plan(drifts=[Drift(configuration="model", slower={})]))


@pytest.mark.parametrize(("host", "is_said"), [(1.62, True), (0.6, True), (1.05, False), (0.97, False), (None, False)])
def test_a_host_that_was_not_as_fast_is_said_to_have_been_and_what_is_predicted_for_it(
    host: float | None, *, is_said: bool
) -> None:
    row = VerifiedRow(
        configuration="model", quantity="warm step", predicted=about(141 * MS), measured=158 * MS, error=-0.11
    )
    text = printed(make_plan(drifts=[Drift(configuration="model", slower={}, host=host, warm_step=row)]))
    words = " ".join(text.split())
    assert (f"the same Python took {host:.2f} times as long" in words if host else False) == is_said
    assert ("for such a host a warm step is predicted to take 141 ms, which is -11%" in words) == is_said


def test_the_widest_figures_are_whole_at_80_columns() -> None:
    wide = Configuration(mode="group", stream=True, low_cpu_mem=True)
    spread = Estimate(188 * S, 187 * S, 189 * S)
    rows = [row(wide, 188 * S, 188 << 30)]
    assert rows[0].prediction is not None
    rows[0].prediction.warm_step_ns = spread
    rows[0].prediction.host_bytes = Estimate(188 << 30, 0, 188 << 30)
    stream = io.StringIO()
    render_plan(make_plan(rows=rows, best={}), Console(file=stream, width=80, highlight=False))
    line = next(line for line in stream.getvalue().splitlines() if "188 GiB" in line)
    assert line.split()[-9:] == ["564", "s", "188", "s", "+-<1%", "207", "GiB", "188", "GiB"]


def test_where_nothing_fits_there_are_no_totals_and_no_code() -> None:
    rows = [row(Configuration(mode="resident"), S, 24 << 30, missing_device_bytes=12 << 30)]
    text = printed(make_plan(rows=rows, best={}, break_even=[], residents=None, limit=None, verified=[], findings=[]))
    assert "resident: does not fit, 12.0 GiB of device memory too much" in text
    assert "total of" not in text
    assert "to paste" not in text


def test_modules_beyond_the_first_are_counted_and_hostile_names_are_text() -> None:
    text = printed(make_plan(modules=MAX_MODULES + 3, workload="\x1b[31m[bold]"))
    assert "3 more" in text
    assert "\x1b" not in text
    assert "[bold]" in text

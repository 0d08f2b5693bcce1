"""What a report says is not worth doing: configurations that a plan predicts to be no faster."""

from __future__ import annotations

import pytest

from tracekit.analysis.report.limits import slower
from tracekit.model.plan import Configuration, Estimate, OffloadPlan, PlanRow, Prediction

S = 10**9
NOTHING = Estimate(0, 0, 0)


def row(mode: str, warm: Estimate) -> PlanRow:
    prediction = Prediction(
        configuration=Configuration(mode=mode), setup_ns=NOTHING, encode_ns=NOTHING, first_step_ns=warm,
        warm_step_ns=warm, decode_ns=NOTHING, device_bytes=NOTHING, host_bytes=NOTHING, locked_bytes=0,
        traffic={}, notes=[],
    )  # fmt: skip
    return PlanRow(configuration=prediction.configuration, prediction=prediction, totals={})


OWN = row("sequential", Estimate(2 * S, 1 * S, 3 * S))


@pytest.mark.parametrize(
    ("warm", "said"),
    [
        (Estimate(3 * S, 2 * S, 4 * S), ["group leaf: predicted to take 28.0 s longer than sequential in 28 steps."]),
        (Estimate(3 * S, 1 * S, 4 * S), ["group leaf: predicted to take no less than sequential in 28 steps."]),
        (Estimate(1 * S, 1 * S, 1 * S), []),
    ],
)
def test_what_takes_longer_is_said_by_how_much_where_that_can_be_told(warm: Estimate, said: list[str]) -> None:
    plan = OffloadPlan(
        path="", workload="", measured="sequential", emulated=False, vram_bytes=None, ram_bytes=None, steps=[28],
        rows=[OWN, row("group", warm)], best={}, break_even=[], residents=None, limit=None, assumptions=[], notes=[],
    )  # fmt: skip
    assert slower(plan) == said

"""The page of predicted and measured times: all arms, those kept aside apart, and how far off they were."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from benchlib import markdown_table, where_it_ran

from predictions.results import ArmResult, campaign, typical_causes
from tracekit.analysis.prediction.assumptions import ASSUMPTIONS
from tracekit.api import Run
from tracekit.experiment.verification import FIRST_STEP, WARM_STEP
from tracekit.model import Cause
from tracekit.model.plan import VerifiedRow
from tracekit.units import format_duration, format_memory

MS = 1_000_000
QUANTITIES = ("set-up", FIRST_STEP, WARM_STEP, "total", "device memory")
PIECES = ("host code", "pageable copies", "page-locking")
"""What of the machine's drift is shown, by `machine_drift`'s names."""


def table(options: argparse.Namespace) -> str:
    """The page: all arms, those kept aside apart, and how far off the predictions were."""
    known, results = campaign(options.output, options.blocks)
    source = known[0].run
    steps = source.summary().steps
    seen = [result for result in results if not result.aside]
    aside = [result for result in results if result.aside]
    parts = [
        "# Predicted and measured",
        where_it_ran(source.manifest).rstrip(),
        f"Everything is predicted from one sequential run of {options.pipeline}, {len(steps)} steps, "
        f"{options.size}x{options.size}, device memory capped to {format_memory(options.vram)} "
        f"(step 1: {format_duration(steps[0].wall_ns)}, last: {format_duration(steps[-1].wall_ns)}). "
        "Each arm is a process of its own, its weights in the page cache and not mapped. "
        "Of an arm that was run twice measured is the mean, both runs in brackets. Error: predicted against measured; "
        "(outside): what was measured is outside the predicted range. The last columns say what the same pieces of "
        "work took in the arm's calibration against the source run's: how much slower the machine was.",
        rows_table(seen),
        "Other configurations than the source run's:",
        errors([result.rows for result in seen if result.from_all]),
        "The source run's own, run again, which is what the machine does:",
        errors([result.rows for result in seen if not result.from_all]),
        repeats(results),
        memory_ends(results),
        "## Kept aside",
        rows_table(aside) if aside else "None in this list of arms.",
        errors([result.rows for result in aside]),
        for_their_hosts(results),
        "## What warm steps are made of",
        "The causes of each run's typical warm step, ms; tracekit's own work apart.",
        causes_table(source, results),
        "## From all sequential runs",
        "What is predicted from one run has that run's luck in it: here the mean of what each of the "
        f"{len(known)} sequential runs predicts. What is left is the model's, and each arm's own luck.",
        from_all_table(results),
        errors([result.from_all_rows for result in results]),
        in_each_campaign([results, *(campaign(folder, options.blocks)[1] for folder in options.earlier)]),
        "## What is assumed",
        "\n".join(f"- {assumption}" for assumption in ASSUMPTIONS),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_table(results: Sequence[ArmResult]) -> str:
    columns = ["arm", *(f"{quantity}: predicted / measured / error" for quantity in QUANTITIES)]
    columns += [f"{piece}, against the source run" for piece in PIECES]
    lines = []
    for result in results:
        rows = result.rows
        cells = [cell(rows[q], measurements(result, q)) if q in rows else "-" for q in QUANTITIES]
        slower = [", ".join(f"{each[piece]:.2f}" for each in result.slower if piece in each) for piece in PIECES]
        lines.append([result.name, *([result.failed, *[""] * 4] if result.failed else cells), *slower])
    return markdown_table(columns, lines)


def for_their_hosts(results: Sequence[ArmResult]) -> str:
    """Steps once more, beside what is predicted for a host as slow as each run found it."""
    timed = [result for result in results if result.hosts]
    if not timed:
        return ""
    lines = []
    for result in timed:
        cells = []
        for quantity in (FIRST_STEP, WARM_STEP):
            row = result.for_host_rows[quantity]
            times = ", ".join(f"{hosts[quantity]:.2f}" for hosts in result.hosts)
            cells += [times, f"{result.rows[quantity].error:+.1%}", cell(row, measurements(result, quantity))]
        lines.append([result.name, *cells])
    columns = ["arm"]
    for quantity in (FIRST_STEP, WARM_STEP):
        columns += [f"Python in {quantity}", "error", "for such a host: predicted / measured / error"]
    others = [result for result in timed if result.from_all]
    found = {q: [abs(result.for_host_rows[q].error) for result in others] for q in (FIRST_STEP, WARM_STEP)}
    return "\n\n".join(
        [
            "## For a host as fast as it was",
            "The source run cannot know how fast the host is at another time, but each run says how fast it was: by a "
            "fixed piece of Python that is timed between its steps, and within long ones. Step 1 and warm steps, "
            "predicted from the source run for a host so many times as slow as it found its own in the same; what "
            "copies and the link take is left as it was.",
            markdown_table(columns, lines),
            middle_and_worst(found, "median error"),
        ]
    )


def causes_table(source: Run, results: Sequence[ArmResult]) -> str:
    """A row a run, a column a cause that takes a millisecond somewhere."""
    rows = [("source", typical_causes(source))]
    rows += [(result.name, causes) for result in results for causes in result.made_of]
    shown = [
        cause
        for cause in Cause
        if cause is not Cause.TRACEKIT and any(causes.get(cause, 0) >= MS for _, causes in rows)
    ]
    lines = [[name, *(f"{causes.get(cause, 0) / MS:.0f}" for cause in shown)] for name, causes in rows]
    return markdown_table(["run", *shown], lines)


def from_all_table(results: Sequence[ArmResult]) -> str:
    """The mean of the predictions from all sequential runs: errors alone."""
    lines = []
    for result in results:
        if result.from_all:
            found = {quantity: f"{row.error:+.1%}" for quantity, row in result.from_all_rows.items()}
            lines.append([result.name, *(found.get(quantity, "-") for quantity in QUANTITIES)])
    return markdown_table(["arm", *QUANTITIES], lines)


def in_each_campaign(campaigns: Sequence[Sequence[ArmResult]]) -> str:
    """Each campaign's errors against its own source run: what is left in the median is the model's."""
    if len(campaigns) < 2:
        return ""
    which = ["this", *(f"{index} earlier" for index in range(1, len(campaigns))), "median"]
    names = [result.name for result in campaigns[0] if result.rows and result.from_all]
    columns, medians = ["arm"], ["median of all, without their signs"]
    lines = {name: [name] for name in names}
    for quantity in (WARM_STEP, "total"):
        columns += [f"{quantity}: {column}" for column in which]
        found = [across(campaigns, name, quantity) for name in names]
        for line, errors_of in zip(lines.values(), found, strict=True):
            line += ["-" if error is None else f"{error:+.1%}" for error in errors_of]
        for column in zip(*found, strict=True):
            medians.append(f"{statistics.median(abs(error) for error in column if error is not None):.1%}")
    return "\n\n".join(
        [
            "## In other campaigns",
            "The same model's errors in each campaign, predicted from the campaign's own source run: the machine is "
            "another each time. What is left in an arm's median is more of the model's.",
            markdown_table(columns, [*lines.values(), medians]),
        ]
    )


def across(campaigns: Sequence[Sequence[ArmResult]], name: str, quantity: str) -> list[float | None]:
    """An arm's error in each campaign, and their median; None: it was not run in that one."""
    rows = [next((result.rows for result in results if result.name == name), {}) for results in campaigns]
    each = [row[quantity].error if quantity in row else None for row in rows]
    return [*each, statistics.median(error for error in each if error is not None)]


def measurements(result: ArmResult, quantity: str) -> list[int]:
    """What each run measured."""
    return [row.measured for rows in result.runs for row in rows if row.quantity == quantity]


def cell(row: VerifiedRow, runs: Sequence[int]) -> str:
    show = format_memory if row.quantity == "device memory" else format_duration
    within = "" if row.predicted.low <= row.measured <= row.predicted.high else " (outside)"
    each = f" ({', '.join(map(show, runs))})" if len(runs) > 1 and row.quantity != "device memory" else ""
    return f"{show(row.predicted.value)} / {show(row.measured)}{each} / {row.error:+.1%}{within}"


def errors(arms: Sequence[dict[str, VerifiedRow]]) -> str:
    found = {quantity: [abs(rows[quantity].error) for rows in arms if quantity in rows] for quantity in QUANTITIES}
    return middle_and_worst(found, "median error")


def repeats(results: Sequence[ArmResult]) -> str:
    """How far apart two runs of the same arm are: no prediction can be nearer to both than half of that."""
    found: dict[str, list[float]] = {}
    for quantity in QUANTITIES:
        twice = [took for result in results if len(took := measurements(result, quantity)) > 1]
        found[quantity] = [(max(took) - min(took)) / statistics.fmean(took) for took in twice]
    listed = middle_and_worst(found, "median difference")
    return f"Two runs of one arm, against their mean:\n\n{listed}" if listed else ""


def memory_ends(results: Sequence[ArmResult]) -> str:
    """Whether the upper end of predicted device memory, which decides what fits, held in each run."""
    rows = [row for result in results for rows in result.runs for row in rows if row.quantity == "device memory"]
    under = sum(row.predicted.high < row.measured for row in rows)
    return (
        "The upper end of predicted device memory, by which a plan decides what fits, was below what was measured in "
        f"{under} of {len(rows)} runs."
    )


def middle_and_worst(found: dict[str, list[float]], what: str) -> str:
    return "\n".join(
        f"- {quantity}: {what} {statistics.median(shares):.1%}, worst {max(shares):.1%}"
        for quantity, shares in found.items()
        if shares
    )

"""The reproduction's page: words and figures made from the results and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchlib import markdown_table, usual_name

from reproduction import arithmetic as post
from reproduction.bars import Bar, bars_svg
from reproduction.points import NOT_MEASURED, hypothesis, points
from reproduction.results import Results
from tracekit.model.causes import Cause
from tracekit.model.experiment import ArmRow, Experiment, Outcome, Window
from tracekit.units import format_bytes, format_duration, format_share

FIGURE = "steps.svg"
REPORT = ("post", "instead", "limits")
"""The parts whose arms are not compared in pairs."""


def page(results: Results) -> str:
    """The whole page, as Markdown."""
    sections = (
        _head(results),
        _short(results),
        _arithmetic(),
        _points(results),
        _post(results),
        _hypotheses(results),
        _sums(results),
        _limits(results),
        _instead(results),
        _trouble(results),
        _again(),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def figure(results: Results) -> str:
    """Step 1 and a warm step of the arms that matter, by cause."""
    bars = []
    for part, name in (
        ("experiment", "evicted"), ("experiment", "cached"), ("experiment", "pinned"),
        ("post", "streamed-4-first"), ("post", "largest-4-first"), ("post", "streamed-4-second"),
        ("limits", "limited"), ("instead", "pinned-resident"), ("instead", "group-stream"),
    ):  # fmt: skip
        row = results.arm(part, name)
        if row is not None and row.first_ns:
            bars.append(Bar(f"{name}, step 1", row.first_ns, row.first_causes_ns))
        if row is not None and row.warm_ns:
            bars.append(Bar(f"{name}, later step", row.warm_ns, row.warm_causes_ns))
    return bars_svg(bars, "What step 1 and a later step are made of, by arm")


def _head(results: Results) -> Iterator[str]:
    yield "# The published experiment, measured"
    yield ""
    yield (
        "A post of 4 September 2024 kept 8 GB of Flux's weights on a 12 GB card under sequential offloading, streamed "
        "the rest, found almost nothing gained, and guessed why. Here its experiment is run again with tracekit. The "
        "page is made by `scripts/reproduce_post` from the results beside it and is not edited."
    )
    yield ""
    known = next((summary for summary in results.summaries()), None)
    if known is None:
        yield f"Device: {NOT_MEASURED}."
        return
    finished = sum(run.outcome == Outcome.DONE for run in results.runs())
    created = min(experiment.created for experiment in results.parts.values())
    yield (
        f"Device: {usual_name(known.device_name)}{', emulated' if known.emulated else ''}. Workload: {known.workload}. "
        f"{finished} of {len(results.runs())} arms are measured, from {created[:10]} on, each in a process of its own."
    )


def _short(results: Results) -> Iterator[str]:
    yield "## In short"
    yield ""
    paging, found = hypothesis(results, "OS paging"), results.experiment("experiment")
    pinned = results.arm("instead", "pinned")
    warm, kept, locked = (
        row.warm_ns if row is not None else None
        for row in (results.arm("post", "streamed-4-second"), results.arm("post", "largest-4-second"), pinned)
    )
    if paging is None or found is None or pinned is None or not warm or not kept or not locked:
        yield f"The experiment as a whole: {NOT_MEASURED}."
        return
    effect = paging.effect(Window.EXCESS)
    yield (
        f"- Why is step 1 slow? It takes {format_duration(found.excess_ns or 0)} more than a later step when the "
        f"weights are on disk alone, and {format_duration(effect.mean_ns or 0)} of that go when they are in the page "
        f"cache. The guess of OS paging: {effect.verdict}."
    )
    kept_bytes = 1 - post.RESIDENT.streamed_gb / post.WEIGHTS_GB
    yield (
        f"- Why did 8 GB on the device hardly help? They are {kept_bytes:.0%} of the bytes and save "
        f"{1 - kept / warm:.0%} of a later step here ({format_duration(kept)} for {format_duration(warm)}); but they "
        "have to be read from disk once as well, and by the post's own numbers "
        f"{post.first_share(post.STREAMED):.0%} of its four steps went that way."
    )
    yield (
        "- What helps? Every later step pays for pageable memory, which the driver copies piece by piece. The same "
        f"weights, page-locked, make it {format_duration(locked)}, {warm / locked:.1f} times faster, for a set-up of "
        f"{format_duration(pinned.setup_ns or 0)}."
    )


def _arithmetic() -> Iterator[str]:
    yield "## What the post's own numbers imply"
    yield ""
    rows = [
        (
            told.name,
            f"{told.total_4_s:g} - 3 x {told.later_step_s:g} = {post.first_step_s(told):g} s",
            f"{post.first_share(told):.0%}",
            f"{post.cold_rate(told):.2f} GB/s",
            f"{post.warm_rate(told):.1f} GB/s",
            f"{told.total_4_s:g} + 6 x {told.later_step_s:g} = {post.expected_total_10_s(told):g}, not "
            f"{told.total_10_s:g} s",
            f"{post.implied_later_step_s(told):.1f} s, {post.implied_warm_rate(told):.1f} GB/s",
        )
        for told in (post.STREAMED, post.RESIDENT)
    ]
    header = ("", "step 1", "of 4 steps", "cold rate", "warm rate", "10 steps", "a further step, by the totals")
    yield markdown_table(header, rows)
    yield ""
    longer = post.implied_later_step_s(post.STREAMED) / post.STREAMED.later_step_s
    yield (
        "Step 1 here includes whatever surrounds the steps. Its rate is that of a disk, far below any link. Both warm "
        "rates are that of a copy from pageable memory, and they are equal: later steps save just the bytes that stay "
        "on the device. The 10-step totals do not follow from the per-step times: by the totals, each of six further "
        f"steps took {longer:.1f} times as long as the post says, at one rate with and without resident weights, as if "
        "later steps had not all been warm in those runs."
    )


def _points(results: Results) -> Iterator[str]:
    yield "## Point by point"
    yield ""
    rows = [(point.said, point.measured, point.holds) for point in points(results)]
    yield markdown_table(("the post", "measured", "holds?"), rows)


def _post(results: Results) -> Iterator[str]:
    yield "## The post's runs"
    yield ""
    yield from _arms(results.arms("post"), "post")
    if results.summaries():
        yield ""
        yield f"![Step 1 and a later step of each arm, by cause]({FIGURE})"


def _hypotheses(results: Results) -> Iterator[str]:
    yield "## Why step 1 is slow, by experiment"
    yield ""
    found = results.experiment("experiment")
    if found is None or not found.finished:
        yield f"The paging experiment: {NOT_MEASURED}."
        return
    yield found.verdict
    yield ""
    rows = []
    for row in found.hypotheses:
        for effect in row.effects:
            differences = ", ".join(format_duration(value) for value in effect.differences_ns) or "-"
            known = effect.low_ns is not None and effect.high_ns is not None and effect.mean_ns is not None
            mean = format_duration(effect.mean_ns or 0) if known else "-"
            interval = (
                f"{format_duration(effect.low_ns or 0)} to {format_duration(effect.high_ns or 0)}" if known else "-"
            )
            inside = "-" if effect.inside_ns is None else format_duration(effect.inside_ns)
            pair = f"{row.slow} - {row.fast}"
            rows.append((row.hypothesis, pair, effect.window, differences, mean, interval, inside, effect.verdict))
    header = ("hypothesis", "pair", "window", "differences", "mean", "95% interval", "inside", "verdict")
    yield markdown_table(header, rows)
    yield ""
    yield (
        'A pair\'s differences are slow arm less fast arm, one a block; "inside" is what the causes that tracekit '
        "finds within those runs differ by: the same seconds, found another way."
    )
    yield ""
    yield from _arms(found.arms, "experiment")
    unknown = [row for row in found.hypotheses if row.effects[0].mean_ns is None]
    for row in unknown:
        yield f"\n{row.hypothesis} cannot be told here: {row.reason}."


def _sums(results: Results) -> Iterator[str]:
    yield "## Whether the sums close"
    yield ""
    rows = []
    for part, experiment in results.parts.items():
        for arm in experiment.plan.arms:
            row = results.arm(part, arm.name)
            if row is None or not row.first_causes_ns:
                continue
            sides = ((row.first_causes_ns, row.first_ns), (row.warm_causes_ns, row.warm_ns))
            shares = [
                f"{causes.get(cause, 0) / total:.2%}" if total else "-"
                for cause in (Cause.UNATTRIBUTED, Cause.TRACEKIT)
                for causes, total in sides
            ]
            rows.append((part, arm.name, *shares))
    if not rows:
        yield f"Causes of each step: {NOT_MEASURED}."
        return
    yield (
        "What stays unattributed of each step (goal: under 5% of step 1, under 3% of a later step), and what "
        "tracekit's own work in it takes, the evidence on host memory before all (goal: under 0.5% of a later step):"
    )
    yield ""
    header = ("part", "arm", "unattributed, step 1", "later step", "tracekit, step 1", "later step")
    yield markdown_table(header, rows)


def _limits(results: Results) -> Iterator[str]:
    yield "## Less host memory than weights"
    yield ""
    yield from _arms(results.arms("limits"), "limits")
    row = results.arm("limits", "limited")
    if row is not None and row.later_read_bytes is not None:
        yield ""
        yield f"After step 1, {format_bytes(row.later_read_bytes)} more came from disk: " + (
            "no step is ever warm." if row.later_read_bytes > (row.first_read_bytes or 0) else "later steps are warm."
        )


def _instead(results: Results) -> Iterator[str]:
    yield "## What its author should have done instead"
    yield ""
    yield from _arms(results.arms("instead"), "instead")
    streamed = results.arm("post", "streamed-4-second")
    for row in results.arms("instead"):
        if streamed is None or not streamed.warm_ns or not row.used or not row.warm_ns:
            continue
        yield ""
        yield (
            f"{row.doc[0].upper()}{row.doc[1:]}: a later step takes {format_duration(row.warm_ns)}, "
            f"{streamed.warm_ns / row.warm_ns:.1f} times faster than everything streamed as loaded "
            f"({format_duration(streamed.warm_ns)}); set-up takes {format_duration(row.setup_ns or 0)}."
        )


def _trouble(results: Results) -> Iterator[str]:
    yield "## What could not be measured"
    yield ""
    lines = [
        f"- {part}, {row.arm}: {reason}"
        for part in results.parts
        for row in results.arms(part)
        for reason in [*row.reasons, *([row.left_out] if row.left_out else [])]
    ]
    yield "\n".join(lines) or "Nothing was refused."


def _again() -> Iterator[str]:
    yield "## Make it again"
    yield ""
    yield "    scripts/reproduce_post --output runs/reproduction"
    yield ""
    yield (
        "In slices: `--only PART` and `--seconds N`. Of the output, `PART/experiment.json` is all that a later slice, "
        "or this page, needs."
    )


def _arms(rows: Sequence[ArmRow], part: str) -> Iterator[str]:
    measured = [row for row in rows if row.used]
    if not measured:
        yield f"Part `{part}`: {NOT_MEASURED}."
        return
    cells = [
        (
            row.arm,
            row.doc,
            row.used,
            *(_time(ns) for ns in (row.setup_ns, row.first_ns, row.warm_ns, row.run_ns)),
            *("-" if size is None else format_bytes(size) for size in (row.first_read_bytes, row.later_read_bytes)),
            "-" if row.state is None or row.state.resident_share is None else format_share(row.state.resident_share),
        )
        for row in measured
    ]
    yield markdown_table(
        (
            "arm",
            "what",
            "runs",
            "set-up",
            "step 1",
            "later step",
            "whole run",
            "disk, step 1",
            "disk, later",
            "in memory",
        ),
        cells,
    )
    if len(measured) < len(rows):
        yield ""
        yield f"{NOT_MEASURED.capitalize()}: {', '.join(row.arm for row in rows if not row.used and not row.left_out)}."


def _time(ns: int | None) -> str:
    return "-" if ns is None else format_duration(ns)


def small_files(results: Results) -> dict[str, Experiment]:
    """What is kept beside the page, by file name."""
    return {f"{part}.json": experiment for part, experiment in results.parts.items()}

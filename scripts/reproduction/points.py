"""The post's observations and guesses, one by one: what was measured, and whether each holds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from reproduction import arithmetic as post
from reproduction.plans import STEP_COUNTS
from reproduction.results import Results
from tracekit.model.causes import Cause
from tracekit.model.experiment import ArmRow, HypothesisRow, Verdict, Window
from tracekit.units import format_bytes, format_duration

NOT_MEASURED = "not measured yet"
HOLDS, FAILS, PARTLY = "holds", "does not hold", "in part"


@dataclass(frozen=True)
class Point:
    """One thing that the post says, what was measured, and whether it holds (`NOT_MEASURED`: no data)."""

    said: str
    measured: str = NOT_MEASURED
    holds: str = NOT_MEASURED


def points(results: Results) -> list[Point]:
    """Every point, in the post's order."""
    return [
        _totals(results, 4, "With 8 GB resident, 4 steps took 124 s; with everything streamed, 122 s.", gain=False),
        _totals(results, 10, "With 10 steps 8 GB resident is usually better: 160 s against 180 s.", gain=True),
        _order(results),
        _first_share(results),
        _later_steps(results),
        _paging_makes_warm_fast(results),
        _guess(results, "OS paging", "A guess: OS paging."),
        _guess(results, "driver staging", "A guess: driver caching."),
        _guess(results, "PyTorch's allocator", "A guess: PyTorch caching."),
        _premise(results),
    ]


def _totals(results: Results, steps: int, said: str, *, gain: bool) -> Point:
    """Everything streamed against 8 GB resident, from the disk on; `gain` is whether the post saw one."""
    streamed, resident = (results.arm("post", f"{way}-{steps}-first") for way in ("streamed", "largest"))
    if streamed is None or resident is None or not streamed.run_ns or not resident.run_ns:
        return Point(said)
    before, placed = streamed.run_ns + (streamed.setup_ns or 0), resident.run_ns + (resident.setup_ns or 0)
    after = placed + _reading_ns(streamed, resident)
    share = 1 - after / before
    told = [way.total_4_s if steps == STEP_COUNTS[0] else way.total_10_s for way in (post.STREAMED, post.RESIDENT)]
    disk = streamed.first_causes_ns.get(Cause.DISK, 0)
    measured = (
        f"{format_duration(after)} against {format_duration(before)} with set-up and with every weight read from disk: "
        f"{share:.0%} saved, where the post saved {1 - told[1] / told[0]:.0%}. Resident weights are read from disk as "
        f"well: only copies are saved. Of the {format_duration(before)} the disk is {disk / before:.0%}; of the post's "
        f"{told[0]:g} s its step 1, at the rate of a disk, is {post.first_step_s(post.STREAMED) / told[0]:.0%}"
    )
    return Point(said, measured, HOLDS if (share > 0.02 if gain else share < 0.1) else FAILS)


def _reading_ns(streamed: ArmRow, resident: ArmRow) -> int:
    """What reading the resident weights from disk takes, at the rate of step 1.

    An arm's page cache is evicted after its set-up, which found them in memory; the post's were on disk.
    """
    if not streamed.first_read_bytes or resident.first_read_bytes is None:
        return 0
    share = 1 - resident.first_read_bytes / streamed.first_read_bytes
    return round(share * streamed.first_causes_ns.get(Cause.DISK, 0))


def _order(results: Results) -> Point:
    said = "Smallest first or largest first: neither seemed to change the result."
    ratios = {}
    for steps in STEP_COUNTS:
        for time, state in (("first", "evicted"), ("second", "cached")):
            small, large = (results.arm("post", f"{way}-{steps}-{time}") for way in ("smallest", "largest"))
            if small is not None and large is not None and small.run_ns and large.run_ns:
                ratios[f"{steps} steps, {state}"] = small.run_ns / large.run_ns
    few, many = (results.copies_a_step("post", f"{way}-4-first") for way in ("smallest", "largest"))
    if not ratios or few is None or many is None:
        return Point(said)
    each = ", ".join(f"{ratio:.0%} ({name})" for name, ratio in ratios.items())
    measured = (
        f"smallest first takes {each} of largest first's time: the same bytes are streamed in {few:,} copies a step, "
        f"not {many:,}"
    )
    return Point(said, measured, HOLDS if abs(median(ratios.values()) - 1) < 0.05 else FAILS)


def _first_share(results: Results) -> Point:
    said = "The first iteration is nearly 95% of the total."
    row = results.arm("post", "streamed-4-first")
    if row is None or not row.first_ns or not row.run_ns:
        return Point(said)
    share = row.first_ns / row.run_ns
    told = " and ".join(f"{post.first_share(way):.0%}" for way in (post.STREAMED, post.RESIDENT))
    measured = f"{share:.0%} of 4 steps here ({format_duration(row.first_ns)}); by the post's own figures {told}"
    return Point(said, measured, HOLDS if share >= 0.85 else PARTLY if share >= 0.4 else FAILS)


def _later_steps(results: Results) -> Point:
    said = "Later steps are faster with 8 GB resident: 2.5 s against 4 s."
    streamed, resident = (results.arm("post", f"{way}-4-second") for way in ("streamed", "largest"))
    if streamed is None or resident is None or not streamed.warm_ns or not resident.warm_ns:
        return Point(said)
    ratio, told = resident.warm_ns / streamed.warm_ns, post.RESIDENT.later_step_s / post.STREAMED.later_step_s
    bytes_share = post.RESIDENT.streamed_gb / post.STREAMED.streamed_gb
    measured = (
        f"{format_duration(resident.warm_ns)} against {format_duration(streamed.warm_ns)}: {ratio:.0%} of the time; "
        f"the post's {told:.0%}; of the bytes {bytes_share:.0%} are streamed"
    )
    return Point(said, measured, HOLDS if abs(ratio - told) < 0.15 else PARTLY if ratio < 1 else FAILS)


def _paging_makes_warm_fast(results: Results) -> Point:
    said = "4 s for 22 GB in later steps is fast, presumably due to heavy OS paging."
    row = results.arm("post", "streamed-4-first")
    if row is None or row.later_read_bytes is None or not row.warm_ns or not row.warm_causes_ns:
        return Point(said)
    disk = row.warm_causes_ns.get(Cause.DISK, 0) + row.warm_causes_ns.get(Cause.MAPPING, 0)
    copying = row.warm_causes_ns.get(Cause.STAGING, 0) + row.warm_causes_ns.get(Cause.LINK, 0)
    measured = (
        f"{format_bytes(row.later_read_bytes)} came from disk after step 1; of a warm step {disk / row.warm_ns:.0%} is "
        f"paging and mapping, {copying / row.warm_ns:.0%} copying from pageable memory"
    )
    return Point(said, measured, FAILS if disk < 0.05 * row.warm_ns else PARTLY)


def hypothesis(results: Results, name: str) -> HypothesisRow | None:
    """One hypothesis of the paging experiment."""
    found = results.experiment("experiment")
    return None if found is None else next((row for row in found.hypotheses if row.hypothesis == name), None)


def _guess(results: Results, name: str, said: str) -> Point:
    row = hypothesis(results, name)
    if row is None:
        return Point(said)
    parts = []
    for window in (Window.EXCESS, Window.WARM):
        effect = row.effect(window)
        if effect.mean_ns is not None and effect.low_ns is not None and effect.high_ns is not None:
            interval = f"{format_duration(effect.low_ns)} to {format_duration(effect.high_ns)}"
            parts.append(f"{effect.window}: {format_duration(effect.mean_ns)} ({interval}), {effect.verdict}")
    excess, warm = (row.effect(window).verdict for window in (Window.EXCESS, Window.WARM))
    holds = row.verdict.value
    if excess != Verdict.SUPPORTED and warm == Verdict.SUPPORTED:
        holds = f"for step 1: {holds}; every step pays it"
    return Point(said, f"{row.slow} against {row.fast}: {'; '.join(parts) or row.reason}", holds)


def _premise(results: Results) -> Point:
    said = "Later iterations do not incur a heavy I/O overhead while streaming."
    streamed, pinned = results.arm("post", "streamed-4-second"), _best(results)
    if streamed is None or pinned is None or not streamed.warm_ns or not pinned.warm_ns:
        return Point(said)
    factor = streamed.warm_ns / pinned.warm_ns
    measured = (
        f"a warm step takes {format_duration(streamed.warm_ns)}, and {format_duration(pinned.warm_ns)} with "
        f"{pinned.doc}: {factor:.1f} times faster with the same bytes over the same link"
    )
    return Point(said, measured, FAILS if factor > 1.5 else HOLDS)


def _best(results: Results) -> ArmRow | None:
    """The plain change that leaves everything streamed as it was."""
    return results.arm("instead", "pinned")

"""A comparison in the terminal: within 80 columns, and what each cell says."""

from __future__ import annotations

import io
from typing import Any

from golden import assert_golden
from rich.console import Console

from tracekit.model.compare import Comparison, Difference, ModuleChanges, Outcome, SampleUnit, Setting, Side
from tracekit.render.compare import interval_text, render_comparison, setting_rows, time_rows
from tracekit.render.json import render_json

MS = 1_000_000


def row(name: str, base: int, other: int, reach: int | None = None, outcome: Outcome = Outcome.UNKNOWN) -> Difference:
    change = other - base
    bounds = (None, None) if reach is None else (change - reach, change + reach)
    return Difference(
        name=name, base=base, other=other, difference=change, low=bounds[0], high=bounds[1], base_samples=9,
        other_samples=9, outcome=outcome,
    )  # fmt: skip


def make_comparison(**changes: Any) -> Comparison:
    fqn = "transformer.single_transformer_blocks.{}.proj_out"
    fields: dict[str, Any] = {
        "base": Side(paths=["runs/FLUX.1-dev_sequential_2026-01-02_03-04-05"], what="FluxPipeline, sequential"),
        "other": Side(paths=["runs/pinned-1", "runs/pinned-2"], what="FluxPipeline, sequential"),
        "unit": SampleUnit.STEPS,
        "verdict": "A warm step is shorter in B by 76% (4.12 s to 981 ms): by 3.01 s to 3.27 s.",
        "configuration": [
            Setting(name="offload.host_memory", base="as-loaded", other="pinned"),
            Setting(name="call.prompt", base="a cat " * 10, other="\x1b[31m"),
        ],
        "times": [
            row("warm step", 4_115 * MS, 981 * MS, 130 * MS, Outcome.LESS),
            row("step 1", 12_345 * MS, 1_300 * MS),
            row("set-up", 6_800 * MS, 26_500 * MS),
            row("total", 26_000 * MS, 31_000 * MS),
        ],
        "warm_causes": [
            row("pageable staging", 3_100 * MS, 0, 110 * MS, Outcome.LESS),
            row("offload hooks", 350 * MS, 352 * MS, 12 * MS, Outcome.NOISE),
        ],
        "first_causes": [row("disk reads", 7_000 * MS, 0)],
        "modules": ModuleChanges(
            compared=656, less=40, more=1,
            changed=[row(fqn.format(at), 10 * MS, 2 * MS, MS, Outcome.LESS) for at in range(41)],
        ),
        "memory": [row("peak allocated", 2 * 2**30, 3 * 2**30)],
        "traffic": [row("to the device in a warm step", 23_800_000_000, 23_800_000_000)],
        "warnings": ["the machines are not the same: the differences are not those of a setting alone"],
    }  # fmt: skip
    return Comparison(**(fields | changes))


def text_of(comparison: Comparison, width: int = 80) -> str:
    stream = io.StringIO()
    render_comparison(comparison, Console(file=stream, width=width))
    return stream.getvalue()


def test_golden() -> None:
    text = text_of(make_comparison(fail_above=0.05, regressions=[]))
    assert max(map(len, text.splitlines())) <= 80
    assert_golden("comparison.txt", text)


def test_json_golden() -> None:
    modules = ModuleChanges(compared=0, less=0, more=0, changed=[])
    assert_golden("comparison.json", render_json(make_comparison(modules=modules)) + "\n")


def test_it_fits_with_the_longest_figures() -> None:
    long = [
        row(name, 99_999 * MS, 999, 88_888 * MS, Outcome.NOISE)
        for name in ("warm step", "page mapping", "unattributed")
    ]
    text = text_of(make_comparison(times=long, warm_causes=long, first_causes=[row("pageable staging", 1, -1)]), 80)
    assert max(map(len, text.splitlines())) <= 80


def test_a_row_says_how_sure_it_is() -> None:
    rows = time_rows(make_comparison().times)
    assert rows[0] == ["warm step", "4.12 s", "981 ms", "-3.13 s", "-76.2%", "-3.26 s to -3.00 s", "faster"]
    assert rows[1][-3:] == ["-89.5%", "-", "-"]
    assert interval_text(row("x", 0, 5)) == "-"


def test_strangers_texts_stay_text() -> None:
    rows = setting_rows(make_comparison().configuration)
    assert rows[1] == ["call.prompt", "a cat a cat a cat a cat…", "␛[31m"]
    assert "\x1b" not in text_of(make_comparison())


def test_no_module_beyond_noise_is_said() -> None:
    modules = ModuleChanges(compared=656, less=0, more=0, changed=[])
    assert "No module's copies differ beyond noise (656 compared)." in text_of(make_comparison(modules=modules))


def test_the_judgement_stands_last() -> None:
    found = text_of(make_comparison(fail_above=0.05, regressions=["warm step: +21.7%"]))
    assert found.splitlines()[-1] == "Regression above 5% and beyond noise: warm step: +21.7%"
    none = text_of(make_comparison(fail_above=0.025, regressions=[]))
    assert none.splitlines()[-1] == "No regression above 2.5% and beyond noise."

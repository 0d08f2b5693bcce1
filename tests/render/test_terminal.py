from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from golden import assert_golden
from rich.console import Console
from summaries import make_causes, make_module, make_paging, make_step, make_summary

from tracekit.model import Cause, Paging, Summary
from tracekit.model.finding import NextStep
from tracekit.render.blocks import WIDTH
from tracekit.render.causetable import cause_table
from tracekit.render.json import render_json
from tracekit.render.terminal import module_rows, paging_line, render_summary, step_rows


def rendered(summary: Summary, **console: Any) -> str:
    stream = io.StringIO()
    render_summary(summary, Console(file=stream, **({"width": 200} | console)))
    return stream.getvalue()


def test_golden() -> None:
    assert_golden("summary.txt", rendered(make_summary()))


def test_every_line_ends_and_none_in_blanks() -> None:
    for console in ({}, {"width": 40}, {"force_terminal": True, "color_system": None}):
        text = rendered(make_summary(next_step=NextStep(reason="word " * 40, command="")), **console)
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_json_golden_has_every_field() -> None:
    text = render_json(make_summary(step_count=1, module_count=1))
    assert_golden("summary.json", text + "\n")
    assert msgspec.json.decode(text, type=Summary) == make_summary(step_count=1, module_count=1)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_it_fits_80_columns_whatever_it_holds(steps: int) -> None:
    summary = make_summary(
        step_count=steps, workload="w" * 300, verdict="word " * 60 + "x" * 200, pipeline_class="",
        warnings=["w" * 200], next_step=NextStep(reason="r" * 100, command="tracekit profile " + "path/" * 40),
        modules=[make_module(index, fqn="m." * 100, onloads=999_999) for index in range(20)],
    )  # fmt: skip
    assert max(len(line) for line in rendered(summary).splitlines()) <= WIDTH
    assert max(len(line) for line in rendered(summary, width=40).splitlines()) <= 40


def test_no_colour_but_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in rendered(make_summary())
    coloured = rendered(make_summary(), force_terminal=True)
    assert "\x1b[33m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33m" not in rendered(make_summary(), force_terminal=True)


def test_nothing_from_a_run_acts_on_the_screen() -> None:
    hostile = "\x1b[31mred\x07[bold]markup[/bold]\r\n\ud83d"
    summary = make_summary(
        paging=make_paging(paging=Paging.UNKNOWN, reason=hostile), verdict=hostile,
        pipeline_class=hostile, device_name=hostile, mode=hostile, warnings=[hostile],
        next_step=NextStep(reason=hostile, command=hostile), modules=[make_module(0, fqn=hostile)],
    )  # fmt: skip
    text = rendered(summary)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]markup[/bold]") >= 7


def test_shown_parts_of_a_step_add_up_to_its_shown_wall_time() -> None:
    for row in step_rows([make_step(index) for index in range(3)]):
        wall, *parts = (Decimal(cell.replace(",", "")) for cell in row[1:5])
        assert sum(parts) == wall


def test_step_rows() -> None:
    first, second = step_rows([make_step(0), make_step(1)])
    assert first == ["1", "12.35", "8.23", "3.09", "1.03", "1,163", "23.8 GB", "2.89"]
    assert second == ["2", "4.12", "2.75", "1.03", "0.34", "1,163", "23.8 GB", "8.68"]


def test_several_runs_are_told_apart_and_a_step_without_copies_has_no_speed() -> None:
    rows = step_rows([make_step(0), make_step(0, run_index=1, h2d_ns=0, h2d_bytes=0)])
    assert [row[0] for row in rows] == ["run 1, 1", "run 2, 1"]
    assert rows[1][-1] == "-"


def test_a_long_run_says_how_many_steps_are_not_shown() -> None:
    rows = step_rows([make_step(index) for index in range(50)])
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "(42 more)", "47", "48", "49", "50"]


def test_module_rows_are_the_most_exposed_first_and_a_single_onload_has_no_warm_time() -> None:
    rows = module_rows([make_module(3, warm_ns=None), make_module(1)])
    assert rows[0] == ["…e_transformer_blocks.1.proj_out", "4", "94.4 MB", "59.0 ms", "40.0 ms", "10.0 ms"]
    assert rows[1][-1] == "-"
    assert len(module_rows([make_module(index) for index in range(30)])) == 3


def test_modules_left_out_are_counted_and_a_missing_warm_time_is_explained() -> None:
    text = rendered(make_summary(module_count=1_000))
    assert "module (3 of 1,000)  " in text
    assert "no warm sample" not in text
    text = rendered(make_summary(modules=[make_module(0, warm_ns=None)]))
    assert "module    " in text
    assert "-: onloaded once, so there is no warm sample" in text


def test_the_unit_of_the_steps_is_told() -> None:
    assert "in s; copying: no kernel ran beside it" in rendered(make_summary())
    fast = [make_step(index, wall_ns=4, copy_ns=1, exposed_copy_ns=1, compute_ns=1, rest_ns=2) for index in range(2)]
    assert "in ms; copying: no kernel ran beside it" in rendered(make_summary(steps=fast))


def test_shown_causes_add_up_to_the_shown_wall_time() -> None:
    table = cause_table(make_summary())
    assert table is not None
    columns, rows, note = table
    assert columns == ["cause", "step 1", "step 3", "found"]
    for column in (1, 2):
        wall, *parts = (Decimal(row[column]) for row in rows)
        assert sum(parts) == wall
    assert note == "in s; step 3: median of 3 warm steps (4.12 s to 4.12 s); inferred: by rules"


def test_a_lone_warm_step_has_no_spread() -> None:
    table = cause_table(make_summary(step_count=2))
    assert table is not None
    assert table[2] == "in s; step 2: the one warm step; inferred: by rules"


def test_what_to_do_comes_before_what_it_rests_on() -> None:
    text = rendered(make_summary())
    places = [
        text.index(part)
        for part in ("67%", "warning", "pageable-memory:", "step   wall", "cause  ", "module (3 of 10)")
    ]
    assert places == sorted(places)


def test_small_causes_share_a_row_before_what_is_unattributed() -> None:
    table = cause_table(make_summary())
    assert table is not None
    names = [row[0] for row in table[1]]
    assert names[-2:] == ["smaller causes", "unattributed"]
    closed = make_summary()
    for row in closed.causes:
        row.duration_ns = 0 if row.cause is Cause.UNATTRIBUTED else row.duration_ns
    table = cause_table(closed)
    assert table is not None
    assert ["unattributed", "0.00", "0.00", "measured"] in table[1]


def test_a_single_step_has_one_column_and_no_record_no_table() -> None:
    step = make_step(0)
    table = cause_table(make_summary(step_count=1, causes=make_causes(step)))
    assert table is not None
    assert table[0] == ["cause", "step 1", "found"]
    assert cause_table(make_summary(causes=[])) is None


def test_the_paging_line_has_its_figures_or_says_why_there_are_none() -> None:
    assert paging_line(make_paging()) == ("Paging cold only: 20.9 GB of 23.8 GB read at first onloads, 0 B later")
    assert paging_line(make_paging(paging=Paging.UNKNOWN, reason="off Linux")) == "Paging unknown: off Linux"
    assert paging_line(make_paging(paging=Paging.NEVER, mapped_bytes=0, reason="r")) == "Paging none: r"
    none = make_paging(paging=Paging.NEVER, mapped_bytes=84_900_000, first_read_bytes=0)
    assert paging_line(none) == "Paging none: 0 B of 84.9 MB read at first onloads, 0 B later"
    untold = make_paging(first_read_bytes=None, later_read_bytes=None)
    assert paging_line(untold) == (
        "Paging cold only: an unknown amount of 23.8 GB read at first onloads, an unknown amount later"
    )
    trace = make_paging(paging=Paging.NEVER, mapped_bytes=84_900_000, first_read_bytes=188_000)
    assert paging_line(trace) == "Paging next to none: 188 kB of 84.9 MB read at first onloads, 0 B later"


def test_it_stays_readable() -> None:
    assert len(rendered(make_summary()).splitlines()) <= 45


def test_without_a_record_of_kernels_the_table_says_where_computing_is() -> None:
    assert "the rest holds the computing" in rendered(make_summary(activity="cuda-events"))
    assert "the rest holds the computing" not in rendered(make_summary(activity="emulated"))


def test_everything_emulated_says_so() -> None:
    assert "emulated device" in rendered(make_summary(emulated=True)).splitlines()[0]

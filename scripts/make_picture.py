#!/usr/bin/env python3
r"""Make a picture of a trace in the real Perfetto UI: one weight's copy selected, with its arrow and its arguments.

docs/perfetto.png is of the trace that scripts/demo makes:

    scripts/make_picture.py runs/RUN/trace.json.gz docs/perfetto.png \
        --weight transformer.transformer_blocks.0.norm1.linear
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from perfetto.ui import PerfettoUI, open_trace

WIDTH = 1360
DETAILS = ".pf-split-panel__handle"
"""The bar between the tracks and the details of what is selected."""
LARGEST_COPY = """
    select id, ts, dur from slice
    where category = 'gpu_memcpy' and extract_arg(arg_set_id, 'args.fqn') = '{weight}'
      and extract_arg(arg_set_id, 'args.step_index') = {step}
    order by extract_arg(arg_set_id, 'args.bytes') desc limit 1"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--weight", required=True, help="FQN of the module whose largest copy is selected")
    parser.add_argument("--step", type=int, default=0, help="the step, from 0, in which it is copied")
    parser.add_argument("--before", type=float, default=1.5, help="ms shown before the copy")
    parser.add_argument("--after", type=float, default=5, help="ms shown after it")
    parser.add_argument("--tracks", type=int, default=680, help="pixels for the tracks")
    parser.add_argument("--details", type=int, default=500, help="pixels for the selected copy's details")
    options = parser.parse_args()
    with open_trace(options.trace.resolve(), width=WIDTH, height=options.tracks + options.details + 50) as ui:
        found = ui.query(LARGEST_COPY.format(weight=options.weight, step=options.step))
        if not found:
            parser.error(f"{options.trace} has no copy for {options.weight} in step {options.step}")
        slice_id, start, duration = (int(value) for value in found[0])
        ui.expand()
        ui.select(slice_id)
        enlarge_details(ui, options.tracks)
        ui.zoom(start - round(options.before * 1e6), start + duration + round(options.after * 1e6))
        ui.screenshot(options.picture)
    print(options.picture)
    return 0


def enlarge_details(ui: PerfettoUI, top: int) -> None:
    """Drag the details' upper edge to `top`, and scroll to the arrows and arguments."""
    page = ui._page
    bar = page.locator(DETAILS).bounding_box()
    assert bar is not None
    page.mouse.move(WIDTH / 2, bar["y"] + bar["height"] / 2)
    page.mouse.down()
    page.mouse.move(WIDTH / 2, top, steps=4)
    page.mouse.up()
    page.mouse.move(WIDTH / 2, 2)
    page.get_by_text("Following Flows").first.evaluate("element => element.scrollIntoView()")


if __name__ == "__main__":
    sys.exit(main())

"""The options of ``tracekit profile``, under the headings of its help text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tracekit.cli import params
from tracekit.cli.targets import Section, SectionOption
from tracekit.model import Allocator, Kernels, PageCache
from tracekit.offload.modes import AS_LOADED, GROUP_LEVELS, HOST_MEMORIES, RESIDENT_ORDERS, modes

Function = TypeVar("Function", bound=Callable[..., Any])

CALL = Section("Pipeline call (not for scripts)", pipeline_only=True)
OFFLOAD = Section("Offload (not for scripts)", pipeline_only=True)
PARTIAL = Section("Offload mode partial", pipeline_only=True, mode="partial")
GROUP = Section("Offload mode group", pipeline_only=True, mode="group")
CONDITIONS = Section("State in which the first run begins (not for scripts)", pipeline_only=True)
DEVICE = Section("Device")
RECORDING = Section("Recording and output")

_COUNT = click.IntRange(min=1)
_ACTIVITIES = ("auto", "cupti", "cuda-events", "none")


def _option(section: Section, *names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=SectionOption, section=section, **settings)


def _choice(section: Section, *names: str, among: Any, **settings: Any) -> Callable[[Any], Any]:
    return _option(section, *names, type=click.Choice([str(name) for name in among]), **settings)


def _flag(section: Section, *names: str, **settings: Any) -> Callable[[Any], Any]:
    return _option(section, *names, is_flag=True, **settings)


_OPTIONS = (
    _option(CALL, "--steps", type=_COUNT, metavar="N", help="Denoising steps."),
    _option(CALL, "--height", type=_COUNT, metavar="PIXELS", help="Height of the picture."),
    _option(CALL, "--width", type=_COUNT, metavar="PIXELS", help="Width of the picture."),
    _option(CALL, "--prompt", metavar="TEXT", help="What to make a picture of."),
    _option(CALL, "--seed", type=int, metavar="N", help="Seed of the noise. Without it: 0."),
    _option(
        CALL,
        "--call",
        type=params.key_value,
        metavar="KEY=VALUE",
        multiple=True,
        help="Any other argument of the pipeline's call, its value as JSON or text. May be repeated.",
    ),
    _option(CALL, "--runs", type=_COUNT, metavar="N", default=1, help="How many times to call the pipeline."),
    _option(CALL, "--dtype", metavar="NAME", help="Load weights as bfloat16, float16, ... Without it: as stored."),
    _choice(OFFLOAD, "--offload", "mode", among=modes(), default="sequential", metavar="MODE", help="See below."),
    _choice(OFFLOAD, "--host-memory", among=HOST_MEMORIES, default=AS_LOADED, help="How the host copy is held."),
    _option(
        PARTIAL,
        "--resident-gib",
        type=click.FloatRange(min=0),
        metavar="N",
        help="Keep at most N GiB of the denoiser on the device.",
    ),
    _option(
        PARTIAL,
        "--resident-list",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Keep exactly the parameters and modules named in FILE, one a line.",
    ),
    _choice(PARTIAL, "--resident-order", among=RESIDENT_ORDERS, default="smallest", help="What is kept first."),
    _choice(GROUP, "--group-level", among=GROUP_LEVELS, help="What a group is. Without it: leaf_level."),
    _option(GROUP, "--blocks-per-group", type=_COUNT, metavar="N", help="With block_level: blocks in a group."),
    _flag(GROUP, "--stream", help="Copy ahead on a CUDA stream."),
    _flag(GROUP, "--record-stream", help="With --stream: let the allocator track it."),
    _flag(GROUP, "--low-cpu-mem", help="With --stream: pin at every onload, not all at set-up."),
    _option(GROUP, "--offload-to-disk", metavar="DIR", help="Keep offloaded groups as files in DIR, a new folder."),
    _choice(
        CONDITIONS,
        "--page-cache",
        among=PageCache,
        default=PageCache.AS_IS.value,
        help="Where mmapped weights are, set up after loading: on disk alone (evicted), in the page cache (cached), in "
        "the page tables, too (mapped).",
    ),
    _choice(
        CONDITIONS,
        "--allocator",
        among=Allocator,
        default=Allocator.AS_IS.value,
        help="With no-clearing, the device's empty_cache does nothing during the runs.",
    ),
    _choice(
        CONDITIONS,
        "--kernels",
        among=Kernels,
        default=Kernels.AS_IS.value,
        help="With used, another instance of the pipeline runs one unrecorded step first.",
    ),
    _option(DEVICE, "--device", metavar="NAME", default="auto", help="auto, cuda, cuda:N or emulated."),
    _option(DEVICE, "--vram", type=params.size, metavar="SIZE", help="Cap the device's memory: 12GB or 12GiB."),
    _option(
        DEVICE,
        "--link-gbps",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="Slow the emulated device's link down to N GB/s.",
    ),
    _flag(RECORDING, "-m", "as_module", help="TARGET is a module, run as python -m would."),
    _option(
        RECORDING,
        "--output",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The run folder. Without it: a new one in runs/.",
    ),
    _flag(RECORDING, "--force", help="Replace the run folder if it exists."),
    _flag(RECORDING, "--no-trace", help="Leave the timeline to tracekit export."),
    _flag(RECORDING, "--no-report", help="Leave the report to tracekit report."),
    _flag(RECORDING, "--python-frames", help="Record Python calls, too. Slow."),
    _choice(RECORDING, "--activity", among=_ACTIVITIES, default="auto", help="Where device times come from on CUDA."),
    _flag(RECORDING, "--no-calibration", help="Do not measure the link, the memory and the disk first."),
    _flag(RECORDING, "--no-nvml", help="Leave out the GPU's power, clocks and PCIe counters."),
    _flag(RECORDING, "--json", "as_json", help="Print the summary as JSON on stdout."),
)


def profile_options(function: Function) -> Function:
    """Give a command's function all options of ``tracekit profile``, in the order of the help text."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function

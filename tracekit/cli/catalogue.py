"""What there is to choose from, as rows for help texts: built-in pipelines, offload modes, host memories."""

from __future__ import annotations

from tracekit.offload.modes import HOST_MEMORIES, RESIDENT_ORDERS, group_refusals, modes
from tracekit.workload.synthetic import PREFIX, SYNTHETIC

Rows = list[tuple[str, str]]


def pipeline_rows() -> Rows:
    """Each built-in pipeline's full name, and what it is."""
    return [(PREFIX + name, recipe.summary) for name, recipe in SYNTHETIC.items()]


def mode_rows() -> Rows:
    """Each offload mode, and what it does."""
    return [(mode.name, mode.doc) for mode in modes().values()]


def host_memory_rows() -> Rows:
    """Each way to hold the host copy of the weights, and what it means."""
    return list(HOST_MEMORIES.items())


def mode_memory_rows() -> Rows:
    """Each offload mode (as plain as it can be, and group at its best), and the host memories that it can hold."""
    held = [(mode.name, mode.refusals) for mode in modes().values()]
    held.append(("group --stream --low-cpu-mem", group_refusals(stream=True, low_cpu_mem=True, disk=False)))
    return [(name, ", ".join(memory for memory in HOST_MEMORIES if memory not in refused)) for name, refused in held]


def resident_order_rows() -> Rows:
    """Each order in which mode partial chooses what stays on the device."""
    return list(RESIDENT_ORDERS.items())

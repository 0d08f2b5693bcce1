"""Who held the device's memory when a run ran out of it, in lines for people."""

from __future__ import annotations

from tracekit.model.memoryholders import MemoryHolder, MemoryHolders
from tracekit.units import format_memory

_MOST_MODULES = 3


def memory_holder_lines(memory: MemoryHolders) -> list[str]:
    """What asked for how much, then who held the memory; one line each."""
    asked = f" asking for {format_memory(memory.requested_bytes)}" if memory.requested_bytes is not None else ""
    where = f" in {memory.fqn}" if memory.fqn else ""
    cap = f" of {format_memory(memory.cap_bytes)}" if memory.cap_bytes is not None else ""
    held = f": {format_memory(memory.allocated_bytes)}{cap} was allocated" if memory.allocated_bytes is not None else ""
    lines = [f"out of device memory{where}{asked}{held}", *map(_holder, memory.holders)]
    if memory.other_bytes is not None:
        lines.append(f"  activations, inputs, workspaces: {format_memory(memory.other_bytes)}")
    if memory.unallocated_bytes is not None:
        lines.append(f"  reserved and not in use (fragmentation): {format_memory(memory.unallocated_bytes)}")
    return lines


def _holder(holder: MemoryHolder) -> str:
    line = f"  {holder.component}'s weights: {format_memory(holder.weight_bytes)}"
    if holder.weight_bytes == holder.component_bytes:
        return f"{line}, all of them"
    largest = ", ".join(f"{fqn} {format_memory(size)}" for fqn, size in holder.modules[:_MOST_MODULES])
    return f"{line} of {format_memory(holder.component_bytes)} ({largest})"

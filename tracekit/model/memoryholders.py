"""Who held the device's memory at one moment: plain data of analysis.memoryholders."""

from __future__ import annotations

import msgspec


class MemoryHolder(msgspec.Struct, kw_only=True):
    """The weights of one component that were on the device, tied ones once, and the largest holders within it.

    `modules` are FQNs with the bytes of the weights below each: the component's children, or where there is only one
    such child its children, and so on.
    """

    component: str
    weight_bytes: int
    component_bytes: int
    modules: list[tuple[str, int]]


class MemoryHolders(msgspec.Struct, kw_only=True):
    """What filled the device's memory at `t_ns`. Sizes in bytes; None where it was not recorded.

    allocated = weights + other, where the weights are `holders` and `other_bytes` what has no name: activations,
    inputs, workspaces. `unallocated_bytes` were reserved from the driver and not in use: fragmentation, where a request
    that is smaller than it failed. `requested_bytes` is what the failed call asked for, `fqn` the module in whose call
    it failed (empty: none).
    """

    t_ns: int
    fqn: str
    holders: list[MemoryHolder]
    weight_bytes: int
    other_bytes: int | None
    allocated_bytes: int | None
    unallocated_bytes: int | None
    cap_bytes: int | None
    requested_bytes: int | None

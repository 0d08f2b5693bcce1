"""The table of offload modes: one line of documentation each, and which host memory each can hold.

How the host copy of the weights is held (``as-loaded``, ``anonymous``, ``pinned``) can only be chosen where it lasts
beyond the first onload:

| mode | as-loaded | anonymous | pinned |
| --- | --- | --- | --- |
| resident | yes | no: never onloaded again | no: never onloaded again |
| model | yes, until the first offload | no: copied back into pageable memory | no: the same |
| sequential | yes | yes | yes, on CUDA |
| partial | yes | yes | yes, on CUDA |
| group | yes, until the first offload | no: copied back into pageable memory | no: the same |
| group, stream | yes: pinned by diffusers at set-up | no: diffusers pins its own copy | no: the same |
| group, stream, low_cpu_mem | yes: pinned at each onload | yes: pinned at each onload | no: it undoes low_cpu_mem |
| group, disk | yes, until written to the disk folder | no: the host copy is files | no: the same |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AS_LOADED, ANONYMOUS, PINNED = "as-loaded", "anonymous", "pinned"
HOST_MEMORIES: Mapping[str, str] = {
    AS_LOADED: "as from_pretrained left it: in the mmapped file, unless a cast materialised it",
    ANONYMOUS: "cloned into ordinary process memory",
    PINNED: "cloned into page-locked memory (CUDA)",
}
RESIDENT_ORDERS: Mapping[str, str] = {
    "smallest": "smallest modules first",
    "largest": "largest modules first",
    "first": "in the order in which the model registers its modules",
    "strided": "spread evenly over the model",
}
GROUP_LEVELS: Mapping[str, str] = {
    "leaf_level": "one group a layer",
    "block_level": "one group for each N blocks",
}


@dataclass(frozen=True, slots=True)
class Mode:
    """An offload mode: its name, its line for `--help`, and why it cannot hold a host memory (empty: it can)."""

    name: str
    doc: str
    refusals: Mapping[str, str]

    @property
    def host_memories(self) -> tuple[str, ...]:
        """The host memories that it can hold, ``as-loaded`` first."""
        return tuple(memory for memory in HOST_MEMORIES if memory not in self.refusals)


def _refused(reason: str) -> Mapping[str, str]:
    return {ANONYMOUS: reason, PINNED: reason}


_COPIED_BACK = "it copies weights back into pageable memory at every offload"
_MODES = (
    Mode(
        "resident",
        "every weight on the device, moved there once at set-up",
        _refused("the weights stay on the device, and nothing is onloaded later"),
    ),
    Mode("model", "one whole component on the device at a time", _refused(_COPIED_BACK)),
    Mode("sequential", "each module's weights onloaded just before its forward and dropped after it", {}),
    Mode("group", "groups of layers or blocks onloaded together, on a stream if asked", _refused(_COPIED_BACK)),
    Mode("partial", "sequential, with a part of the denoiser kept on the device", {}),
)


def modes() -> Mapping[str, Mode]:
    """Every mode by name, in the order in which they are shown."""
    return {mode.name: mode for mode in _MODES}


def group_refusals(*, stream: bool, low_cpu_mem: bool, disk: bool) -> Mapping[str, str]:
    """Why group offload with these options cannot hold a host memory; what it can hold is not in the answer."""
    if disk:
        return _refused("the host copy of the weights is the files in its disk folder")
    if not stream:
        return _refused(_COPIED_BACK)
    if low_cpu_mem:
        return {PINNED: "pinning the host copy undoes low_cpu_mem, which pins at every onload: leave one of them out"}
    return _refused("with a stream diffusers pins its own copy of the weights at set-up")

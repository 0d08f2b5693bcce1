"""The weights of a run by the module that owns them: sizes, ties, and which of them a mode moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from tracekit.analysis.coldwarm import onload_rows
from tracekit.model import HostMemory, Phase, Timeline
from tracekit.model.text import take_rows

_BLOCK = 512
_SMALL = 1 << 20
_OWN_SEGMENT = 10 << 20
_SEGMENT = 2 << 20
"""torch's caching allocator, bytes: it counts an allocation in multiples of the first. A block above the second is not
split where less than that would be left, so that up to as much more is counted; one of the third and above gets a
segment of its own, a multiple of the fourth."""
_FLOATING = ("float", "bfloat")


# Costs are kept by weight, and hashing its texts would take as long as working them out: each is itself alone.
@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter or buffer where a module owns it. `key` is the same for tied ones; `mapped`: in its mmapped file."""

    fqn: str
    name: str
    component: str
    size_bytes: int
    is_buffer: bool
    key: str
    mapped: bool
    streams: bool
    """Whether sequential offload brings it with each call of its module: all parameters, and some buffers."""

    @cached_property
    def device_bytes(self) -> int:
        """What it takes at least in the device's allocator."""
        if self.size_bytes >= _OWN_SEGMENT:
            segment = _multiple(self.size_bytes, _SEGMENT)
            return segment if segment - self.size_bytes <= _SMALL else _multiple(self.size_bytes, _BLOCK)
        return _multiple(self.size_bytes, _BLOCK)

    @cached_property
    def slack_bytes(self) -> int:
        """What the allocator may count for it beside that, as it was not worth splitting off."""
        return _SMALL if self.size_bytes > _SMALL else 0


class Weights:
    """All weights of the profiled components."""

    def __init__(self, weights: Iterable[Weight]) -> None:
        self.all = tuple(weights)
        self._owned: dict[str, list[Weight]] = defaultdict(list)
        for weight in self.all:
            self._owned[weight.fqn].append(weight)

    @classmethod
    def of(cls, timeline: Timeline, scale: float = 1.0) -> Weights:
        """The weights of a run; those of floating point have `scale` times their bytes."""
        rows = timeline.run.parameters.drop_duplicates(["fqn", "parameter"])
        streamed = _streamed_buffers(timeline)
        found = []
        for row in rows.to_dict("records"):
            fqn, name = str(row["fqn"]), str(row["parameter"])
            factor = scale if str(row["dtype"]).startswith(_FLOATING) else 1.0
            found.append(
                Weight(
                    fqn=fqn,
                    name=name,
                    component=str(row["component"]),
                    size_bytes=round(int(row["size_bytes"]) * factor),
                    is_buffer=bool(row["is_buffer"]),
                    key=str(row["tied_to"]) or f"{fqn}.{name}",
                    mapped=row["host_memory"] == HostMemory.MMAP,
                    streams=not row["is_buffer"] or (fqn, name) in streamed,
                )
            )
        return cls(found)

    def owned(self, fqn: str) -> list[Weight]:
        """The weights that a module owns itself."""
        return self._owned.get(fqn, [])

    def below(self, fqn: str) -> list[Weight]:
        """The weights of a module and everything in it."""
        return [weight for weight in self.all if weight.fqn == fqn or weight.fqn.startswith(f"{fqn}.")]

    @cached_property
    def owners(self) -> list[str]:
        """The modules that own weights, in the order in which they are registered."""
        return list(self._owned)

    @cached_property
    def components(self) -> dict[str, list[Weight]]:
        """The weights by component, tied ones once."""
        parts: dict[str, list[Weight]] = defaultdict(list)
        for weight in once_each(self.all):
            parts[weight.component].append(weight)
        return dict(parts)

    @cached_property
    def unmapped_bytes(self) -> int:
        """Bytes of weights that no file backs: the kernel cannot drop and read them again."""
        return sum(weight.size_bytes for weight in once_each(self.all) if not weight.mapped)

    @cached_property
    def total_bytes(self) -> int:
        """Bytes of all weights, tied ones once."""
        return sum(weight.size_bytes for weight in once_each(self.all))


def _multiple(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def once_each(weights: Iterable[Weight]) -> Iterator[Weight]:
    """The weights, of tied ones only the first."""
    seen: set[str] = set()
    for weight in weights:
        if weight.key not in seen:
            seen.add(weight.key)
            yield weight


def _streamed_buffers(timeline: Timeline) -> set[tuple[str, str]]:
    """Buffers that were brought to the device in a run under accelerate's hooks.

    Whether a buffer is one that accelerate streams (it is saved with the model, whose root owns parameters) is not
    in the folder: only such a run shows it.
    """
    if timeline.run.manifest.offload.mode not in ("sequential", "partial"):
        return set()
    copies = timeline.copies
    rows = timeline.once(onload_rows)
    rows = rows[(copies["phase"] != Phase.SETUP).to_numpy()[rows]]
    chosen = take_rows(copies, ["fqn", "parameter"], rows).drop_duplicates()
    return {(str(fqn), str(name)) for fqn, name in zip(chosen["fqn"], chosen["parameter"], strict=True)}

"""Choose what partial offload keeps on the device: the most time saved per byte first, as far as the cap has room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.tape import Op
from tracekit.analysis.prediction.weights import Weight
from tracekit.model.plan import Configuration, ResidentModule, Residents
from tracekit.units import format_duration, format_memory, format_rate

_PASSES = 3
"""Once the largest modules stay, what is streamed beside them needs less room: so often is the rest filled up."""


@dataclass(frozen=True)
class Candidate:
    """A denoiser's module with the parameters that it owns, what keeping them takes, and what it saves of a step."""

    fqn: str
    weights: tuple[Weight, ...]
    saved_ns: float

    @property
    def device_bytes(self) -> int:
        """The most that they take in the device's allocator."""
        return sum(weight.device_bytes + weight.slack_bytes for weight in self.weights)

    @property
    def size_bytes(self) -> int:
        """What they weigh."""
        return sum(weight.size_bytes for weight in self.weights)

    @property
    def density(self) -> float:
        """Saved time per byte, ns."""
        return self.saved_ns / max(self.device_bytes, 1)


def candidates(predictor: Predictor, memory: str = "as-loaded") -> list[Candidate]:
    """What may stay, the most saved time per byte first. A tied weight belongs to the first module that has it."""
    costs, seen = predictor.costs(), set[str]()
    calls: Counter[str] = Counter()
    repeats = sum(tape.repeats for tape in predictor.warm)
    for tape in predictor.warm:
        for event in tape.events:
            if event.op is Op.ENTER:
                calls[event.fqn] += tape.repeats
    found = []
    for fqn in predictor.weights.owners:
        own = [w for w in predictor.weights.owned(fqn) if not w.is_buffer and w.key not in seen]
        seen.update(weight.key for weight in own)
        if not own or not calls[fqn] or fqn.partition(".")[0] not in predictor.denoisers:
            continue
        copying = sum(costs.h2d(w, pinned=memory == "pinned") + costs.allocation(w) for w in own)
        hooks = costs.onload_host(fqn, len(own)) + costs.clearing(fqn, len(own)) + costs.offload_host(fqn)
        saved = (copying + hooks - costs.idle_hook_ns) * calls[fqn] / repeats
        found.append(Candidate(fqn, tuple(own), max(saved, 0.0)))
    return sorted(found, key=lambda candidate: (-candidate.density, candidate.fqn))


def choose_residents(predictor: Predictor, vram_bytes: int, memory: str = "as-loaded") -> Residents | None:
    """What to keep under a cap; None where nothing fits beside what is streamed.

    Raises:
        UnknownCost: the run has no evidence for what streaming costs.
    """
    offered = candidates(predictor, memory)
    chosen: list[Candidate] = []
    room = room_bytes = vram_bytes - _needed(predictor, memory, ())
    for _ in range(_PASSES):
        taken = {candidate.fqn for candidate in chosen}
        rest = [candidate for candidate in offered if candidate.fqn not in taken]
        added = []
        for candidate in rest:
            if candidate.device_bytes <= room:
                added.append(candidate)
                room -= candidate.device_bytes
        if not added:
            break
        chosen += added
        room = vram_bytes - _needed(predictor, memory, chosen)
    if not chosen:
        return None
    saved, size = sum(c.saved_ns for c in chosen), sum(c.size_bytes for c in chosen)
    return Residents(
        modules=[ResidentModule(fqn=c.fqn, size_bytes=c.size_bytes, saved_ns=round(c.saved_ns)) for c in chosen],
        size_bytes=size,
        room_bytes=room_bytes,
        saved_ns=round(saved),
        reason=_reason(chosen, offered, size, saved, room_bytes),
    )


def resident_names(predictor: Predictor, residents: Residents) -> tuple[str, ...]:
    """The dotted names of the parameters that the chosen modules own, sorted."""
    chosen = {module.fqn for module in residents.modules}
    own = (w for w in predictor.weights.all if w.fqn in chosen and not w.is_buffer)
    return tuple(sorted(f"{weight.fqn}.{weight.name}" for weight in own))


def shortest_names(names: Collection[str], everything: Iterable[str]) -> list[str]:
    """The names with whole modules in place of their parameters, where all of them are meant; sorted."""
    whole = set(everything)
    missing = whole - set(names)
    partly = {".".join(parts[:depth]) for name in missing for parts in [name.split(".")] for depth in range(len(parts))}
    short = set()
    for name in names:
        parts = name.split(".")
        # The component itself stays out: a name below it is what can be looked up in it.
        depth = next((d for d in range(2, len(parts)) if ".".join(parts[:d]) not in partly), len(parts))
        short.add(".".join(parts[:depth]))
    return sorted(short)


def _needed(predictor: Predictor, memory: str, chosen: Collection[Candidate]) -> int:
    """The most device memory that streaming takes with these kept."""
    names = tuple(sorted(f"{w.fqn}.{w.name}" for c in chosen for w in c.weights))
    return predictor.device_bytes(Configuration(mode="partial", resident=names, host_memory=memory)).high


def _reason(chosen: list[Candidate], offered: list[Candidate], size: int, saved: float, room: int) -> str:
    total_saved = sum(c.saved_ns for c in offered) or 1.0
    total = sum(c.size_bytes for c in offered) or 1
    first, last = (
        f"{c.fqn} (streams at {format_rate(c.size_bytes, c.saved_ns)})"
        for c in (chosen[0], min(chosen, key=lambda c: c.density))
    )
    return (
        f"{format_memory(size)} of the {format_memory(room)} that are left beside activations and what is streamed: "
        f"{size / total:.0%} of the denoiser's bytes save {format_duration(saved)} of a step, "
        f"{saved / total_saved:.0%} of what streaming costs. "
        f"Taken by saved time per byte: {first} first, {last} last."
    )

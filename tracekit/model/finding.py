"""What to change in a run: a named finding with its evidence, its gain, and the change itself."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Basis(StrEnum):
    """What a finding's gain rests on."""

    MEASURED = "measured"
    PREDICTED = "predicted"


class Gain(msgspec.Struct, frozen=True):
    """What a change saves of a whole run of so many steps, set-up included, ns; below zero it takes longer."""

    steps: int
    low_ns: int
    high_ns: int


class Finding(msgspec.Struct, kw_only=True):
    """One thing to change, with what speaks for it.

    `gains` are for the run's own number of steps, and for more where that was few (empty: not known). `cost` says what
    it takes, `command` profiles it (empty: there is none), `code` is ready to paste. `instead_of` are the run's other
    findings that it cannot be combined with. `start_ns` and `end_ns` are a moment that shows it (None: none in
    particular).
    """

    slug: str
    title: str
    evidence: str
    gains: list[Gain]
    basis: Basis
    cost: str
    command: str
    code: str
    instead_of: list[str] = []
    start_ns: int | None = None
    end_ns: int | None = None


class NextStep(msgspec.Struct, kw_only=True, frozen=True):
    """What to do with a run that shows nothing to change, and why. `command` is empty where it is up to the user."""

    reason: str
    command: str

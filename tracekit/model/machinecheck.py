"""What a look at the machine found: one row a check, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How far a check lets tracekit measure."""

    OK = "ok"
    LIMITED = "limited"  # tracekit works, but something stays blank or other things can change the numbers
    MISSING = "missing"  # what depends on it cannot be measured here


class MachineCheck(msgspec.Struct, kw_only=True, frozen=True):
    """One check of this machine: what was found, and the remedy where it is not ok."""

    check: str
    level: Level
    found: str
    remedy: str = ""

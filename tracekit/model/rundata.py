"""A run folder in memory, and the seams between what writes rows, what shows progress and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tracekit.model.manifest import Manifest
from tracekit.model.tables import Table

if TYPE_CHECKING:
    import pandas as pd

Derived = TypeVar("Derived")


@dataclass(frozen=True)
class RunData:
    """A run folder in memory: the manifest and one data frame a table (columns as in `TABLES`, never null).

    Integers without a value hold `NONE`, texts an empty string, floats NaN. Text columns are as `tracekit.model.text`
    makes them, here and in `Timeline`.
    """

    path: str
    manifest: Manifest
    spans: pd.DataFrame
    copies: pd.DataFrame
    host_samples: pd.DataFrame
    device_ops: pd.DataFrame
    runtime_calls: pd.DataFrame
    counters: pd.DataFrame
    parameters: pd.DataFrame
    calibration: pd.DataFrame
    frames: pd.DataFrame


@dataclass(frozen=True)
class Timeline:
    """A run folder's rows with what analysis derives from them: runs, steps, phases, and device times of copies.

    `runs` has run_index, start_ns, end_ns, denoise_start_ns, denoise_end_ns (both `NONE` in a run without a denoising
    loop). `steps` has run_index, step_index (from 0 in each run), start_ns, end_ns. `denoisers` are the components
    called inside the loop. `spans` and `copies` are the run's tables plus:

    - both: `phase` (a Phase), `step_index` (`NONE` outside finished steps); `run_index` is filled for set-up, too: the
      run that it prepares.
    - spans: `component`; `own_ns`, the duration less its children's; `device_ns`, time in which at least one kernel
      launched inside it (children included) ran.
    - copies: `is_weight`; `device_start_ns`, `device_end_ns`, `device_stream_id`, `correlation_id` from the device's
      record (`NONE` where there is none); `device_name`, Kineto's copy name; `duration_ns`, on the device where
      known, else of the host call; `first`, whether it is its parameter's first onload in the process; `paged`,
      whether bytes came from disk or residency was below 1 (False where it was not probed). Rows that
      only the device's record saw have copy_id `NONE`, no fqn, and the runtime call's name as operation.
    """

    run: RunData
    runs: pd.DataFrame
    denoisers: tuple[str, ...]
    steps: pd.DataFrame
    spans: pd.DataFrame
    copies: pd.DataFrame
    _derived: dict[Callable[[Timeline], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, derive: Callable[[Timeline], Derived]) -> Derived:
        """What `derive` makes of this timeline, made when first asked for: several analyses look at the same."""
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        found: Derived = self._derived[derive]
        return found


@dataclass(frozen=True, slots=True)
class Progress:
    """What a live display shows: the phase by name, steps done in this run, bytes moved host to device so far."""

    run_index: int
    phase: str
    steps_done: int
    h2d_bytes: int


@dataclass(frozen=True)
class RowBuffer:
    """Where a table's packed rows wait in memory, for hot paths that fill it themselves.

    A row is added whole, under the GIL, at the end of `pending`; `format` is its layout in `struct`'s language. Who
    finds more than `limit_bytes` in it after adding calls `full`, which may raise UsageError when the disk is full.
    """

    pending: bytearray
    limit_bytes: int
    full: Callable[[], None]
    format: str


class Sink(Protocol):
    """Where capture puts its rows; the run folder's writer is one. Rows may come from any thread."""

    @property
    def intern(self) -> Callable[[str], int]:
        """The id that a packed row holds for a string."""

    def raw(self, table: Table) -> tuple[Callable[..., bytes], Callable[[bytes], None]]:
        """For hot paths: pack a row whose strings are `intern` ids, and add a packed row to the table."""

    def buffer(self, table: Table) -> RowBuffer:
        """For compiled hot paths: where `raw` puts its rows."""

    def append(self, table: Table, *values: int | float | str | bool) -> None:
        """Add one row, values in the order of the table's columns."""

    def flush(self) -> None:
        """Hand everything appended so far to the operating system."""

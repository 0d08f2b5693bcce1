"""The state in which a run was started: what an experiment changes, one factor at a time."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PageCache(StrEnum):
    """Where the mmapped weights' pages are when the first run begins."""

    AS_IS = "as-is"
    EVICTED = "evicted"  # on disk alone
    CACHED = "cached"  # in the page cache, not mapped: the first touch still faults
    MAPPED = "mapped"  # in the page cache and in the page tables


class Allocator(StrEnum):
    """What becomes of ``empty_cache`` during the runs."""

    AS_IS = "as-is"
    NO_CLEARING = "no-clearing"  # it does nothing


class Kernels(StrEnum):
    """Whether kernels and libraries were used before the first recorded run."""

    AS_IS = "as-is"
    USED = "used"  # an unrecorded call of one step came before


class Conditions(msgspec.Struct, kw_only=True, frozen=True):
    """What was asked for, and what was read back.

    `resident_share` is the share of the mmapped weights' pages that were in the page cache once the state was set up
    (None: nothing is mmapped, or the kernel does not tell); `mapped_share` the share of them in this process's page
    tables. `established` is False where the state could not be brought about: such a run is void in an experiment;
    `reason` then says why.
    """

    page_cache: PageCache = PageCache.AS_IS
    allocator: Allocator = Allocator.AS_IS
    kernels: Kernels = Kernels.AS_IS
    resident_share: float | None = None
    mapped_share: float | None = None
    established: bool = True
    reason: str = ""

"""What a step's wall time went into: exclusive causes that add up to it, each with how it was found."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """One exclusive share of a step's wall time, in display order. Derived (analysis.causes), never captured."""

    DISK = "disk reads"  # weights came from the disk: paging
    MAPPING = "page mapping"  # first touch of pages that were in memory already
    STAGING = "pageable staging"  # what a copy from pageable memory costs beyond the pinned ceiling
    LINK = "link"  # what the bytes take at the pinned ceiling
    ALLOCATION = "allocation"  # device memory and page-locked memory got and given back, the cache cleared
    COMPUTE = "compute"  # at least one kernel ran
    FIRST_USE = "first use"  # kernels and libraries loaded, plans made
    GARBAGE = "garbage collection"  # Python's cyclic garbage collector ran, for 1 ms at least
    HOOKS = "offload hooks"  # Python of the offload hooks around the copies
    MODEL = "model code"  # Python and launches of forwards and the scheduler while the device was idle
    WAITING = "waiting"  # the host waited for the device, which ran neither copy nor kernel
    TRACEKIT = "tracekit"  # tracekit's own work
    UNATTRIBUTED = "unattributed"


class Evidence(StrEnum):
    """How a figure was found."""

    MEASURED = "measured"  # read from records of this run
    INFERRED = "inferred"  # follows from measured figures by a rule that is stated
    EXPERIMENT = "by experiment"  # one thing was changed, and the difference measured


class Paging(StrEnum):
    """What a run's copies say about paging of weights."""

    COLD_ONLY = "cold only"  # the first onloads paged, later ones did not
    ALWAYS = "always paging"  # later steps page, too: less RAM than weights
    LATER = "again"  # a later step paged, though others did not: something evicted the weights
    NEVER = "none"
    UNKNOWN = "unknown"  # there is no evidence of host memory, and why is said

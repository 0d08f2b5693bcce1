"""Spread a calibration over several of the machine's cores, and know their caches.

One core says little of another: a virtual machine's neighbours slow some of them for seconds at a time, and hybrid CPUs
have cores of two kinds. A program wanders between them, so that what it will take lies between what they take.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

SPREAD = 4
"""Cores that measurements are spread over."""
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Cores:
    """Some of the cores that the process may use, in random order, over and over."""

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
        # The program's own random generator stays as it is.
        chosen = random.Random().sample(sorted(self._allowed), min(SPREAD, len(self._allowed)))
        self._next = itertools.cycle(chosen)

    def move(self) -> None:
        """Have the calling thread run on the next core, where it may stay; it is not tied to it.

        Nothing happens where the system has no such call, or only one core is allowed.
        """
        if len(self._allowed) > 1:
            os.sched_setaffinity(0, {next(self._next)})
            # At once, so that threads that start meanwhile (OpenMP's, the driver's) are not tied to that core.
            os.sched_setaffinity(0, self._allowed)


def last_level_cache_bytes() -> int:
    """The size of the first core's largest cache; 0 where the system does not tell (sysfs-devices-system-cpu(5))."""
    sizes = [path.read_text().strip() for path in _CACHES.glob("index*/size")]
    return max((int(size.removesuffix("K")) * 1024 for size in sizes if size.endswith("K")), default=0)

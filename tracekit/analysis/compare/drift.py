"""Whether step times drift within a run: samples of one run are not independent then."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tracekit.analysis.studentt import two_sided

_FEWEST = 6
_SIGNIFICANT = 0.01
_SLIGHT = 0.02
"""A drift of less than this share of a step from the first to the last is not worth a word."""


def drift(walls: Sequence[float]) -> float | None:
    """How much the fitted line rises from the first step to the last, as a share of the mean; None where it does not.

    Steps' times are fitted to their order by least squares; a slope counts where it is unlikely by chance (1%).
    """
    count = len(walls)
    if count < _FEWEST or not any(walls):
        return None
    order = np.arange(count) - (count - 1) / 2
    times = np.array(walls)
    slope = float(order @ times / (order @ order))
    rest = times - times.mean() - slope * order
    error = math.sqrt(float(rest @ rest) / (count - 2) / float(order @ order))
    share = slope * (count - 1) / float(times.mean())
    if abs(share) < _SLIGHT or (error and two_sided(slope / error, count - 2) > _SIGNIFICANT):
        return None
    return share

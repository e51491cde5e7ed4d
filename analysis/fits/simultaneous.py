"""Comparisons with the lowest of several, which is chosen by the same losses: all pairs are held together.

    |difference of i and j| ≤ width · scale of that difference        for all i, j at once, in 95% of the resamples

Source: multiple comparisons with the best, Hsu 1996, chapter 4; Tukey's range for two.
"""

import numpy as np

from analysis.fits.intervals import CONFIDENCE
from analysis.tables.arrays import Bools, Floats


def simultaneous(drawn: Floats, level: float = CONFIDENCE) -> float | None:
    """The width: how many times its own scale, the median of its size, any difference of two columns stays within.

    drawn: resamples (R, n), each column about its own value. None for fewer than two columns; 0 without noise.
    """
    if drawn.shape[1] < 2:
        return None
    first, second = np.triu_indices(drawn.shape[1], 1)
    return width_of(drawn[:, first] - drawn[:, second], level)


def width_of(differences: Floats, level: float = CONFIDENCE) -> float:
    """The width of some differences, drawn (R, n), each about its own value; NaN is a draw that says nothing of one."""
    sizes = np.abs(differences[np.isfinite(differences).any(axis=1)])
    scales = np.nanmedian(sizes, axis=0)
    known = scales > 0
    return float(np.quantile(np.nanmax(sizes[:, known] / scales[known], axis=1), level)) if known.any() else 0.0


def tied(values: Floats, drawn: Floats, level: float = CONFIDENCE) -> Bools:
    """Which of `values` (n,) cannot be told apart from the lowest of them, (n,).

    drawn: their resamples (R, n). Where these lie does not matter: noise makes the lowest of several look lower.
    """
    lowest = int(np.argmin(values))
    about = drawn - np.median(drawn, axis=0)
    width = simultaneous(about, level) or 0.0
    scale = np.median(np.abs(about - about[:, [lowest]]), axis=0)
    return np.asarray(values - values[lowest] <= width * scale)

"""Between grid points: which these are, and monotone cubic interpolation of many curves at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from analysis.tables.arrays import Floats


def beside(x: Floats, at: Floats) -> NDArray[np.intp]:
    """Indices (2, ...) of the points of x (J,) to either side of `at` (...): twice the same on a point or outside."""
    around = np.stack([np.searchsorted(x, at, side="right") - 1, np.searchsorted(x, at, side="left")])
    return np.asarray(np.clip(around, 0, len(x) - 1))


def curve_at(x: Floats, y: Floats, at: Floats) -> Floats:
    """Value of every curve y (R, J) at its own abscissa `at` (R,); NaN outside x (J,) ascending.

    Where the two grid points around `at` include one that is infinite, the value is infinite; infinities elsewhere do
    not bend the curve. Which points are finite must not differ between the curves.
    """
    finite = np.isfinite(y[0])
    walled = ~finite[beside(x, at)].all(axis=0)
    outside = (at < x[0]) | (at > x[-1])
    value = np.full(len(at), np.inf)
    if finite.any():
        value = _evaluate(x[finite], y[:, finite], at)
    return np.where(outside, np.nan, np.where(walled, np.inf, value))


def _evaluate(x: Floats, y: Floats, at: Floats) -> Floats:
    if len(x) < 2:
        return y[:, 0]
    # The pieces' coefficients are taken out of scipy's object, because it evaluates every curve at every point.
    pieces = PchipInterpolator(x, y, axis=1).c
    piece: NDArray[np.intp] = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    return np.asarray(np.polyval(pieces[:, piece, np.arange(len(at))], at - x[piece]))

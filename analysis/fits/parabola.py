"""The optimum of a loss curve over a learning-rate grid: the parabola through the best point and its two neighbours."""

import numpy as np
from numpy.typing import NDArray

from analysis.tables.arrays import Floats

CLOSE = 0.1  # octaves: points closer than this to the best one say nothing of the curvature


def vertex(x: Floats, y: Floats) -> Floats:
    """Abscissa of the minimum of the parabolas through three points.

    `x` and `y` have shape (..., 3) with y[..., 1] the smallest; x need not be evenly spaced. Where the three points
    lie on a line, or an outer one is infinite, it is the middle point. It never lies farther from the middle point
    than halfway to a neighbour. The parabola's value there is not used: beside a steep wall it can lie far below
    anything measured.
    """
    left, right = x[..., 0] - x[..., 1], x[..., 2] - x[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope_left, slope_right = (y[..., 0] - y[..., 1]) / left, (y[..., 2] - y[..., 1]) / right
        curvature = (slope_right - slope_left) / (right - left)
        step = (curvature * left - slope_left) / (2 * curvature)
    usable = np.isfinite(step) & (curvature > 0)
    return np.where(usable, x[..., 1] + step, x[..., 1])


def bend(x: Floats, y: Floats) -> Floats:
    """c of the parabolas P + c (x − x*)² through three points, x and y (..., 3)."""
    slopes = np.diff(y) / np.diff(x)
    return np.asarray((slopes[..., 1] - slopes[..., 0]) / (x[..., 2] - x[..., 0]))


def curvature(x: Floats, y: Floats) -> float:
    """c of the parabola through the best point and its neighbours; where it bends the other way, of the whole range."""
    span, rise = float(np.ptp(x)), float(np.ptp(y))
    least = 1e-3 * rise / span**2 if rise > 0 else 1e-9
    if len(x) < 3:
        return max(rise / span**2 if span > 0 else 0.0, 1e-9)
    i = int(np.clip(np.argmin(y), 1, len(x) - 2))
    # Of a rate right beside it noise would make any bend.
    left, right = np.flatnonzero(x <= x[i] - CLOSE), np.flatnonzero(x >= x[i] + CLOSE)
    if not (len(left) and len(right)):
        return max(rise / span**2, least)
    around = [left[-1], i, right[0]]
    return max(float(bend(x[around], y[around])), least)


def minimum(x: Floats, y: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Optimum of each curve: its abscissa, and the index of the best grid point.

    `x` (J,) ascending, `y` (..., J); infinite or NaN losses are never best. At either end of the grid there is no
    parabola, and the optimum is the end point: the caller flags it.
    """
    y = np.where(np.isnan(y), np.inf, y)
    best = np.argmin(y, axis=-1)
    if len(x) < 3:
        return x[best], best
    centre = np.clip(best, 1, len(x) - 2)
    around = centre[..., None] + np.array([-1, 0, 1])
    at = vertex(x[around], np.take_along_axis(y, around, -1))
    return np.where(best == centre, at, x[best]), best


def slope(x: Floats, y: Floats) -> Floats:
    """Least-squares slope of y (..., n) on x (n,)."""
    centred = x - x.mean()
    return np.asarray(y @ centred / (centred @ centred))

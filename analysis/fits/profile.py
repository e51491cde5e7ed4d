"""Profiles: the best learning rate of every cell, and the best batch size of every budget.

    γ*(T, BS)   vertex of the parabola through the best learning rate and its neighbours in log₂ γ
    P(T, BS)    the loss there: of that parabola, or (form "grid") the lowest measured one
    BS*(T)      where P is lowest: the parabola in log₂ BS through the lowest cell and two neighbours to either side
                (form "vertex": one neighbour to either side)
    BS°(T)      the largest batch without loss: where P has risen by `TOLERANCE` to the right of its lowest cell
    ties        the cells whose P cannot be told apart from the lowest

BS* and BS° answer different questions. Theory has a flat stretch between noise and starvation, its end being the
BST point "as parallel as can be without loss"; on a smooth surface of the three regimes the lowest loss moves as
T^(4/7), and the end of the stretch as T^(2/3) (`analysis.studies.batch_scaling.surface`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fits.cells import Budget, Cell
from analysis.fits.intervals import TAIL
from analysis.fits.parabola import minimum
from analysis.tables.arrays import Bools, Floats

Form = Literal["parabola", "grid"]
Shape = Literal["five", "vertex"]

TOLERANCE = 0.01  # nats: a batch that costs less than this is "without loss"
# A parabola's depth is used only where both neighbours lie within this many nats: beside a steep wall it is far
# below anything measured.
WALL = 0.2
REACH = 2  # cells to either side of the lowest that the parabola over batch sizes is fitted to


@dataclass(frozen=True)
class Profile:
    """A budget's profile over C batch sizes in R resamples.

    `x` (C,) is log₂ BS. `loss`, `lr` (log₂ γ*) and `resolved` (the learning rate's optimum lies inside its grid,
    beside no divergence) have shape (R, C).
    """

    x: Floats
    loss: Floats
    lr: Floats
    resolved: Bools

    @property
    def lowest(self) -> NDArray[np.intp]:
        """Index of the lowest cell in every resample, (R,)."""
        return np.argmin(self.loss, axis=1)


def profile(budget: Budget, means: list[Floats], form: Form = "parabola") -> Profile:
    """From a budget's curves, measured (`Budget.means`) or resampled."""
    columns = [_cell(cell, curves, form) for cell, curves in zip(budget.cells, means, strict=True)]
    loss, lr, resolved = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    return Profile(budget.x, loss, lr, resolved)


def _cell(cell: Cell, means: Floats, form: Form) -> tuple[Floats, Floats, Bools]:
    lr, resolved = cell.curve.optimum(means)
    best = np.argmin(means, axis=1)
    floor = np.take_along_axis(means, best[:, None], axis=1)[:, 0]
    depth = curvature(cell.curve.x, means) * (lr - cell.curve.x[best]) ** 2 if form == "parabola" else 0.0
    return floor - depth, lr, resolved


def curvature(x: Floats, y: Floats) -> Floats:
    """c of the parabolas P + c (x − x*)² through the best points of y (R, J) and their neighbours; 0 where not used."""
    best = np.argmin(y, axis=1)
    if len(x) < 3:
        return np.zeros(len(y))
    centre = np.clip(best, 1, len(x) - 2)
    around = centre[:, None] + np.array([-1, 0, 1])
    near, losses = x[around], np.take_along_axis(y, around, axis=1)
    usable = (best == centre) & (losses.max(axis=1) <= losses[:, 1] + WALL)
    losses = np.where(usable[:, None], losses, 0.0)  # infinities would only make warnings
    slopes = np.diff(losses, axis=1) / np.diff(near, axis=1)
    return np.asarray((slopes[:, 1] - slopes[:, 0]) / (near[:, 2] - near[:, 0]))


def best_batch(of: Profile, shape: Shape = "five") -> tuple[Floats, Bools]:
    """log₂ BS* in every resample (R,), and whether the lowest cell lies inside the grid."""
    at, lowest = minimum(of.x, of.loss)
    inside = (lowest > 0) & (lowest < len(of.x) - 1)
    if shape == "vertex" or len(of.x) < 4:
        return at, inside
    wide = at.copy()
    for index in np.unique(lowest[inside]):
        rows = inside & (lowest == index)
        near = slice(max(0, index - REACH), index + REACH + 1)
        wide[rows] = _least_squares_vertex(of.x[near], of.loss[rows, near], at[rows])
    return wide, inside


def _least_squares_vertex(x: Floats, y: Floats, otherwise: Floats) -> Floats:
    """Vertex of the least-squares parabola of every row of y (R, J) on x (J,); `otherwise` where it opens downwards."""
    centre = x.mean()
    bend, slope, _ = np.polyfit(x - centre, y.T, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = centre - slope / (2 * bend)
    usable = (bend > 0) & (at > x[0]) & (at < x[-1])
    return np.where(usable, at, otherwise)


def largest_batch(of: Profile, tolerance: float = TOLERANCE) -> tuple[Floats, Bools]:
    """log₂ BS°: where P, drawn straight between cells, last exceeds its lowest by `tolerance`.

    Also whether it does, and the lowest cell has one to its left: otherwise P may be lower where nothing was measured.
    """
    limit = of.loss.min(axis=1) + tolerance
    cells = np.arange(len(of.x))
    last = np.where(of.loss <= limit[:, None], cells, -1).max(axis=1)
    inside = last < len(of.x) - 1
    after = np.minimum(last + 1, len(of.x) - 1)
    rows = np.arange(len(limit))
    low, high = of.loss[rows, last], of.loss[rows, after]
    rise = np.where(inside, high - low, 1.0)
    share = np.where(inside, (limit - low) / rise, 0.0)
    return of.x[last] + share * (of.x[after] - of.x[last]), inside & (of.lowest > 0)


def lr_along(of: Profile, at: Floats) -> tuple[Floats, Bools]:
    """log₂ γ* at log₂ BS `at` (R,), straight between cells; and whether both cells' optima are resolved."""
    left = np.clip(np.searchsorted(of.x, at, side="right") - 1, 0, len(of.x) - 2) if len(of.x) > 1 else np.zeros(1, int)
    right = np.minimum(left + 1, len(of.x) - 1)
    rows = np.arange(len(at))
    gap = np.where(right > left, of.x[right] - of.x[left], 1.0)
    share = np.clip((at - of.x[left]) / gap, 0, 1)
    value = (1 - share) * of.lr[rows, left] + share * of.lr[rows, right]
    return value, (of.resolved[rows, left] | (share == 1)) & (of.resolved[rows, right] | (share == 0))


def ties(observed: Profile, drawn: Profile | None, tail: float = TAIL) -> list[bool] | None:
    """For every cell whether its loss cannot be told apart from the lowest cell's; None without resamples.

    It can where it is above the lowest cell's in all but `tail` of the resamples.
    """
    if drawn is None:
        return None
    lowest = int(observed.lowest[0])
    difference = drawn.loss - drawn.loss[:, [lowest]]
    low = np.quantile(difference, tail, axis=0)
    return [bool(index == lowest or value <= 0) for index, value in enumerate(low)]

"""Profiles: the best learning rate of every cell, and the best batch size of every budget.

    γ*(T, BS)   vertex of the parabola through the best learning rate and its neighbours in log₂ γ
    P(T, BS)    the loss there: of that parabola, or (form "grid") the lowest measured one
    BS*(T)      where P is lowest: the parabola in log₂ BS through the lowest cell and two neighbours to either side
                (form "vertex": one neighbour to either side)
    BS°(T)      the largest batch without loss: where P has risen to the right of its lowest cell by a share of what is
                left to gain, which is its lowest value minus the floor E
    ties        the cells whose P cannot be told apart from the lowest

BS* and BS° answer different questions. Theory has a flat stretch between noise and starvation, its end being the
BST point "as parallel as can be without loss"; on a smooth surface of the three regimes the lowest loss moves as
T^(4/7), and the end of the stretch as T^(2/3) (`analysis.studies.batch_scaling.surface`). A tolerance in nats would not
do for BS°: the surface flattens as T^(−1/3), so that a fixed one asks less and less of it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fits.cells import Budget, Cell
from analysis.fits.intervals import TAIL
from analysis.fits.parabola import bend, minimum
from analysis.tables.arrays import Bools, Floats

Form = Literal["parabola", "grid"]
Shape = Literal["five", "vertex"]

# A batch that costs less than this share of what is left to gain is "without loss". In simulations of the three regimes
# with q = 1/2 and 2/3 BS° then moves between T^(6q/7) and T^q, to 0.02 (`docs/batch-scaling.md`).
TOLERANCE = 0.03
# A parabola's depth is used only where both neighbours lie within this many nats: beside a steep wall it is far
# below anything measured.
WALL = 0.2
REACH = 2  # cells to either side of the lowest that the parabola over batch sizes is fitted to


@dataclass(frozen=True)
class Profile:
    """A budget's profile over C batch sizes in R resamples.

    `x` (C,) is log₂ BS. `loss`, `lr` (log₂ γ*) and `resolved` (the learning rate's optimum lies inside its grid,
    beside no divergence) have shape (R, C). `at_edge` (R, C): the best rate ends its grid, so that a lower loss may lie
    beyond; None where none does.
    """

    x: Floats
    loss: Floats
    lr: Floats
    resolved: Bools
    at_edge: Bools | None = None

    @property
    def lowest(self) -> NDArray[np.intp]:
        """Index of the lowest cell in every resample, (R,)."""
        return np.argmin(self.loss, axis=1)

    def inside(self, cells: NDArray[np.intp]) -> Bools:
        """Whether the best rates at every resample's cell (R,) and at its neighbours lie inside their grids, (R,)."""
        if self.at_edge is None:
            return np.ones(len(cells), bool)
        around = np.clip(cells[:, None] + np.array([-1, 0, 1]), 0, len(self.x) - 1)
        return np.asarray(~np.take_along_axis(self.at_edge, around, axis=1).any(axis=1))


def profile(budget: Budget, means: list[Floats], form: Form = "parabola") -> Profile:
    """From a budget's curves, measured (`Budget.means`) or resampled."""
    columns = [_cell(cell, curves, form) for cell, curves in zip(budget.cells, means, strict=True)]
    loss, lr, resolved, at_edge = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    return Profile(budget.x, loss, lr, resolved, at_edge)


def _cell(cell: Cell, means: Floats, form: Form) -> tuple[Floats, Floats, Bools, Bools]:
    lr, resolved = cell.curve.optimum(means)
    best = np.argmin(means, axis=1)
    loss = depth(cell.curve.x, means, lr) if form == "parabola" else means.min(axis=1)
    return loss, lr, resolved, (best == 0) | (best == len(cell.curve.x) - 1)


def depth(x: Floats, y: Floats, at: Floats) -> Floats:
    """Value of the parabolas through the best points of y (R, J) and their neighbours at their vertices `at` (R,)."""
    best = np.argmin(y, axis=1)
    return np.asarray(y[np.arange(len(y)), best] - curvature(x, y) * (at - x[best]) ** 2)


def curvature(x: Floats, y: Floats) -> Floats:
    """c of the parabolas P + c (x − x*)² through the best points of y (R, J) and their neighbours; 0 where not used."""
    best = np.argmin(y, axis=1)
    if len(x) < 3:
        return np.zeros(len(y))
    centre = np.clip(best, 1, len(x) - 2)
    around = centre[:, None] + np.array([-1, 0, 1])
    near, losses = x[around], np.take_along_axis(y, around, axis=1)
    usable = (best == centre) & (losses.max(axis=1) <= losses[:, 1] + WALL)
    return bend(near, np.where(usable[:, None], losses, 0.0))  # infinities would only make warnings


def best_batch(of: Profile, shape: Shape = "five") -> tuple[Floats, Bools]:
    """log₂ BS* in every resample (R,), and whether it lies inside the grid.

    It does where the lowest cell is not the first or the last, and its best rate and its neighbours' are inside theirs.
    """
    at, lowest = minimum(of.x, of.loss)
    inside = (lowest > 0) & (lowest < len(of.x) - 1)
    known = inside & of.inside(lowest)
    if shape == "vertex" or len(of.x) < 4:
        return at, known
    wide = at.copy()
    for index in np.unique(lowest[inside]):
        rows = inside & (lowest == index)
        near = slice(max(0, index - REACH), index + REACH + 1)
        wide[rows] = _least_squares_vertex(of.x[near], of.loss[rows, near], at[rows])
    return wide, known


def _least_squares_vertex(x: Floats, y: Floats, otherwise: Floats) -> Floats:
    """Vertex of the least-squares parabola of every row of y (R, J) on x (J,); `otherwise` where it opens downwards."""
    centre = x.mean()
    bend, slope, _ = np.polyfit(x - centre, y.T, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = centre - slope / (2 * bend)
    usable = (bend > 0) & (at > x[0]) & (at < x[-1])
    return np.where(usable, at, otherwise)


def left_to_gain(of: Profile, floor: float | None) -> Floats:
    """Lowest P minus the floor E of the loss, in the losses' unit (R,); without a floor, highest P minus lowest.

    The latter depends on the batch sizes that were measured, and says nothing of budgets beside each other.
    """
    lowest = of.loss.min(axis=1)
    return of.loss.max(axis=1) - lowest if floor is None else np.maximum(lowest - floor, 0.0)


def largest_batch(of: Profile, tolerance: float | Floats) -> tuple[Floats, Bools]:
    """log₂ BS°: where P, drawn straight between cells, last exceeds its lowest by `tolerance`, in the losses' unit.

    Also whether it does, and the lowest cell has one to its left: otherwise P may be lower where nothing was measured.
    The best rates of the cells around must lie inside their grids.
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
    known = inside & (of.lowest > 0) & of.inside(of.lowest) & of.inside(last)
    return of.x[last] + share * (of.x[after] - of.x[last]), known


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
    return None if drawn is None else tied(drawn.loss, int(observed.lowest[0]), tail).tolist()


def tied(drawn: Floats, lowest: int, tail: float = TAIL) -> Bools:
    """Which columns of resampled losses (R, n) cannot be told apart from the column `lowest`, (n,); see `ties`."""
    above = np.quantile(drawn - drawn[:, [lowest]], tail, axis=0) > 0
    above[lowest] = False
    return ~above

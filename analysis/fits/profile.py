"""Profiles: the best learning rate of every cell, and the best batch size of every budget.

    γ*(T, BS)   where the cell's curve over learning rates is lowest, as read (`analysis.fits.reading`)
    P(T, BS)    the loss there, or (form "grid") at the measured rate where the curve is lowest
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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fits.cells import Budget, all_cells
from analysis.fits.intervals import CONFIDENCE
from analysis.fits.noise import Noise, measure_noise
from analysis.fits.parabola import minimum
from analysis.fits.reading import Reading, read_levels
from analysis.fits.simultaneous import tied
from analysis.tables.arrays import Bools, Floats

Form = Literal["valley", "grid"]
Shape = Literal["five", "vertex"]

# A batch that costs less than this share of what is left to gain is "without loss". In simulations of the three regimes
# with q = 1/2 and 2/3 BS° then moves between T^(6q/7) and T^q, to 0.02 (`docs/batch-scaling.md`).
TOLERANCE = 0.03
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


def read_budgets(
    budgets: Sequence[Budget], count: int, rng: np.random.Generator, roughness: bool = True
) -> tuple[Noise, list[list[Reading]]]:
    """The noise of all cells, and their curves as read, by budget, with `count` draws where noise is known.

    Levels of seeds are compared within a budget; the cells of all budgets share a shape of curve. `roughness`: whether
    one seed's noise is read off the curves.
    """
    cells = all_cells(budgets)
    blocks = [i for i, budget in enumerate(budgets) for _ in budget.cells]
    curves = [cell.curve for cell in cells]
    noise = measure_noise(curves, blocks, roughness=roughness)
    readings = iter(read_levels(curves, noise, count, rng))
    return noise, [[next(readings) for _ in budget.cells] for budget in budgets]


def profile(budget: Budget, readings: Sequence[Reading], form: Form = "valley") -> Profile:
    """Of a budget's curves as read, R = 1; `readings` in the order of its cells."""
    loss = [r.loss if form == "valley" else float(r.curve.mean.min()) for r in readings]
    at_edge = [r.curve.at_edge for r in readings]
    rows = loss, [r.at for r in readings], [r.resolved for r in readings], at_edge
    return Profile(budget.x, *(np.array([row]) for row in rows))


def drawn_profile(budget: Budget, readings: Sequence[Reading], form: Form = "valley") -> Profile | None:
    """Of the curves drawn for a budget's cells, all of which have as many draws; None without noise."""
    if any(reading.drawn is None for reading in readings):
        return None
    columns = [_drawn(reading, form) for reading in readings]
    return Profile(budget.x, *(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))


def _drawn(reading: Reading, form: Form) -> tuple[Floats, Floats, Bools, Bools]:
    curve, nodes, draws = reading.curve, reading.valley.nodes, reading.valley.draws
    assert draws is not None, "a curve without noise has no draws"
    at, loss = reading.drawn, reading.losses
    assert at is not None
    assert loss is not None
    best = np.argmin(draws, axis=1)
    first, last = best == 0, best == len(nodes) - 1
    if form == "grid":
        loss = reading.drawn_at_rates().min(axis=1)
    return loss, at, ~(first | last), (first & curve.finite[0]) | (last & curve.finite[-1])


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


def ties(observed: Profile, drawn: Profile | None, level: float = CONFIDENCE) -> list[bool] | None:
    """Whether each cell cannot be told apart from the lowest (`analysis.fits.simultaneous`); None without resamples."""
    return None if drawn is None else tied(observed.loss[0], drawn.loss, level).tolist()

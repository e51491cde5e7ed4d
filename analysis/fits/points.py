"""A curve as measured, and what its abscissae fix: the grid on which it is read, and there the parts of its shape.

The shape is that of `analysis.fits.valley`.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fits.parabola import curvature
from analysis.tables.arrays import Bools, Floats

NODES = 16  # to an octave: of the grid on which curves are drawn
MOST_NODES = 320
FEWEST_FOR_WALL = 5  # of fewer points a parabola and a wall are nearly as many numbers as there are
KNEES = 16  # to an octave: places of the knee, looked through first
MOST_KNEES = 160
PARTS = 4  # that a place is split into where a knee is told more sharply
STRAIGHT = 1e-6  # smaller b are 0: their e is all rounding


@dataclass(frozen=True)
class Points:
    """A curve as measured: x = log₂ lr (J,) ascending, mean losses y (J,), all finite.

    `variance` (J,) is that of the means; None where there is no measure of noise (one seed): it is then chosen by the
    likelihood, and no curve is drawn. It is known with `freedom` degrees of freedom.
    """

    x: Floats
    y: Floats
    variance: Floats | None
    freedom: float = np.inf


@dataclass(frozen=True)
class Knees:
    """Places of the knee: t (K,) ascending, and the octaves that each stands for, (K,)."""

    at: Floats
    width: Floats

    @classmethod
    def of(cls, x: Floats) -> "Knees":
        """Those of a curve at x (J,): evenly between half an octave from either end; one where there is no room."""
        span = float(x[-1] - x[0])
        at, step = np.linspace(x[0], x[-1], min(MOST_KNEES, max(2, round(span * KNEES))) + 1, retstep=True)
        inside = at[(at >= x[0] + 0.5) & (at <= x[-1] - 0.5)] if span > 1 else at[:0]
        at = inside if len(inside) else at[:1]
        return cls(at, np.full(len(at), float(step) or 1.0))

    @property
    def log_prior(self) -> Floats:
        """Even over the grid, (K,)."""
        return np.asarray(np.log(self.width / self.width.sum()))

    def split(self, chosen: Bools) -> "Knees":
        """With `PARTS` places, evenly over what it stood for, in place of each of the chosen (K,)."""
        parts = self.width[chosen, None] * ((np.arange(PARTS) + 0.5) / PARTS - 0.5)
        at = np.concatenate([self.at[~chosen], (self.at[chosen, None] + parts).ravel()])
        width = np.concatenate([self.width[~chosen], np.repeat(self.width[chosen] / PARTS, PARTS)])
        order = np.argsort(at)
        return Knees(at[order], width[order])


class Frame:
    """What a curve's abscissae fix: its nodes, and at the nodes and the points the parts of f."""

    def __init__(self, curve: Points) -> None:
        x, y = curve.x, curve.y
        self.x, self.y, self.freedom = x, y, curve.freedom
        self.left = max(0, len(x) - 3)  # points beyond those that β takes up
        span = float(x[-1] - x[0])
        size = min(MOST_NODES, max(2, round(span * NODES))) + 1 if span > 0 else 1
        self.nodes = np.linspace(x[0], x[-1], size)
        self.curvature = curvature(x, y)
        self.best = float(x[int(np.argmin(y))])
        self._rough(y)
        self.knees = Knees.of(x)

    def _rough(self, y: Floats) -> None:
        """Kernels of r, at nodes and points, and the matrix that makes r of white noise."""
        if len(self.nodes) < 2:
            self.at_nodes, self.at_points = np.zeros((1, 1)), np.zeros((1, 1))
        else:
            width = self.nodes[1] - self.nodes[0]
            middles = (self.nodes[:-1] + self.nodes[1:]) / 2
            size = (np.interp(middles, self.x, y - y.min()) + self.curvature) * np.sqrt(width)
            self.at_nodes, self.at_points = (
                np.maximum(at[:, None] - middles, 0.0) ** 2 / 2 * size for at in (self.nodes, self.x)
            )
        self.kernel, self.cross = self.at_points @ self.at_points.T, self.at_nodes @ self.at_points.T

    def tilted(self, tilts: Floats) -> tuple[Floats, Floats]:
        """Bases of span{1, x, e(b; x)} for every b, at nodes (tilts, G, 3) and points (tilts, J, 3), where they are
        orthonormal.
        """
        nodes, points = (_columns(tilts, at - self.best)[:, :, : len(self.x)] for at in (self.nodes, self.x))
        q, r = np.linalg.qr(points)
        return np.swapaxes(np.linalg.solve(np.swapaxes(r, 1, 2), np.swapaxes(nodes, 1, 2)), 1, 2), q

    def wall(self, at: Floats, knees: Floats) -> Floats:
        """(x − t)₊² in units of c, (len(at), len(knees)); none where the points are too few to show one."""
        if len(self.x) < FEWEST_FOR_WALL:
            return np.zeros((len(at), len(knees)))
        return np.maximum(at[:, None] - knees, 0.0) ** 2 * self.curvature


def _columns(tilts: Floats, x: Floats) -> Floats:
    """1, x and e(b; x) for every b, (tilts, len(x), 3)."""
    b = tilts[:, None]
    # Far from the optimum e^{bx} overflows nothing: 30 is far beyond any grid.
    straight = np.abs(b) < STRAIGHT
    curved = (np.expm1(np.clip(b * x, -30, 30)) - b * x) * 2 / np.where(straight, 1.0, b) ** 2
    bent = np.where(straight, x * x, curved)
    return np.stack([np.ones_like(bent), np.broadcast_to(x, bent.shape), bent], axis=2)

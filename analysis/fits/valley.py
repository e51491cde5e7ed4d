"""One reading of a loss curve over learning rates: its optimum, and the loss at any rate between those measured.

A valley is measured at rates x = log₂ lr, often an octave apart, with noise. Between them it is

    f(x) = β₀ + β₁ x + β₂ e(b; x)  +  a (x − t)₊²  +  κ r(x)

- span{1, x, e(b; x)}, with e = (e^{bx} − 1 − bx)·2/b² and e(0; x) = x²: a parabola where it fits (b = 0), and a valley
  that steepens exponentially to one side where it does not. β has a flat prior;
- (x − t)₊²: a wall, from whose knee t on the loss rises faster; a ~ N(0, (s c)²), t even over the grid;
- r: what is left, the third integral of white noise whose size goes with how far up the valley it is, c + height.

c is the curvature read off three points: b, s and κ are free of the loss' unit. They are shared by the curves of a
series, and drawn from their posterior given all of them; the knee is each curve's own. Given these, f is Gaussian, and
curves are drawn from it exactly: a prior draw, corrected by what the measured points miss of it (Matheron's rule). So
intervals hold the noise of seeds *and* what a grid leaves open. With κ = s = b = 0 it is least squares of a parabola.

Seeds tell the size of the noise with ν degrees of freedom; how far the points miss a curve tells it, too. Variances are
λ times those measured, λ ~ ν/χ²_ν a curve, and integrated out. As if λ were a factor of the priors of a and r as well,
the points are Student's given a shape, and λ ~ (ν + Q)/χ²_{ν+J−3}, Q being what the shape leaves of the J points.
Shapes judged as if the noise were known are told too sharply.

Where every rate to one side diverges, nothing is said beyond the last rate that trained.

Source: smoothing splines as posterior means, Wahba, Spline Models for Observational Data, 1990, chapter 1; the
restricted likelihood with a flat β, Harville 1974, doi 10.2307/2334370; the conjugate prior of a variance, Gelman et
al., Bayesian Data Analysis, 3rd edition, section 14.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from analysis.fits.parabola import bend, minimum
from analysis.fits.points import Frame, Knees, Points
from analysis.tables.arrays import Bools, Floats

TILTS = np.linspace(-1.5, 1.5, 13)  # b, looked through first
FINE_TILTS = 17  # then these many between those that are likely at all
LIKELY = 1e-3
ENOUGH = 8  # likely ones of a grid: steps of a normal density's standard deviation make 7.4, and sum it up rightly
MOST_ZOOMS = 8
ROUGHNESS = np.concatenate([[0.0], 2.0 ** np.arange(-3, 4)])  # κ
WALLS = np.array([0.0, 2.0, 8.0, 32.0])  # s
# Prior weights. b: normal. κ: half-Cauchy with scale 1 in the logarithm's grid, and an atom at 0. s: no wall as likely
# as one of the three sizes.
TILT_SCALE = 0.7
SMOOTH, NO_WALL = 2.0, 3.0
MEANS = 200  # draws that a mean curve is averaged over where none are asked for
QUIET = 1e-4  # standard deviation that losses are taken to have at least, in units of c


@dataclass(frozen=True)
class Valley:
    """A curve as read: nodes x (G,), the mean curve (G,), and drawn curves (R, G); None where noise is not known."""

    nodes: Floats
    mean: Floats
    draws: Floats | None

    @cached_property
    def bottom(self) -> tuple[Floats, Floats]:
        """log₂ lr* of the mean curve and the loss there, (1,) each."""
        return lowest(self.nodes, self.mean[None])

    @cached_property
    def bottoms(self) -> tuple[Floats, Floats] | None:
        """The same of the drawn curves, (R,) each."""
        return None if self.draws is None else lowest(self.nodes, self.draws)

    def optimum(self) -> float:
        """log₂ lr* of the mean curve."""
        return float(self.bottom[0][0])

    def optima(self) -> Floats | None:
        """log₂ lr* of the drawn curves (R,)."""
        return None if self.bottoms is None else self.bottoms[0]

    def excess(self, at: float) -> float:
        """Loss of the mean curve at log₂ lr minus that at its optimum; never negative. Beyond an end, the end's."""
        value = value_at(self.nodes, self.mean[None], np.array([at]))
        return float(np.maximum(value - self.bottom[1], 0.0)[0])

    def excesses(self, at: Floats) -> Floats | None:
        """The same of every drawn curve, each at its own rate (R,)."""
        if self.draws is None or self.bottoms is None:
            return None
        return np.asarray(np.maximum(value_at(self.nodes, self.draws, at) - self.bottoms[1], 0.0))

    def at_ends(self) -> tuple[float, float]:
        """Share of drawn curves whose optimum is the lowest rate, and the highest: beyond, they may go on falling."""
        if self.draws is None:
            return 0.0, 0.0
        best = np.argmin(self.draws, axis=1)
        return float(np.mean(best == 0)), float(np.mean(best == len(self.nodes) - 1))


def lowest(nodes: Floats, curves: Floats) -> tuple[Floats, Floats]:
    """Abscissa and value of the minimum of curves (R, G) on even nodes (G,), each (R,)."""
    at, best = minimum(nodes, curves)
    if len(nodes) < 3:
        return at, curves.min(axis=1)
    around = np.clip(best, 1, len(nodes) - 2)[:, None] + np.array([-1, 0, 1])
    curvature = bend(nodes[around], np.take_along_axis(curves, around, axis=1))
    return at, curves[np.arange(len(curves)), best] - curvature * (at - nodes[best]) ** 2


def value_at(nodes: Floats, curves: Floats, at: Floats) -> Floats:
    """Value of curves (R, G) on even nodes (G,), each at its own `at` (R,). Beyond an end, the end's."""
    if len(nodes) == 1:
        return curves[:, 0]
    # The parabola through the three nearest nodes: a straight line between two would miss it by more than rounding.
    place = (np.clip(at, nodes[0], nodes[-1]) - nodes[0]) / (nodes[1] - nodes[0])
    middle, rows = np.clip(np.rint(place).astype(int), 1, len(nodes) - 2), np.arange(len(curves))
    left, own, right = (curves[rows, middle + i] for i in (-1, 0, 1))
    step = place - middle
    return np.asarray(own + step * (right - left) / 2 + step**2 * (left - 2 * own + right) / 2)


def values_at(nodes: Floats, curves: Floats, at: Floats) -> Floats:
    """Values of all curves (R, G) on even nodes (G,) at several places `at` (n,), (R, n)."""
    return np.stack([value_at(nodes, curves, np.full(len(curves), each)) for each in at], axis=1)


def read_valleys(curves: Sequence[Points], count: int, rng: np.random.Generator) -> list[Valley]:
    """The valleys of a series, with `count` drawn curves each where the noise of all is known.

    One curve's draws are independent of another's but for the shape they share.
    """
    frames = [Frame(curve) for curve in curves]
    known = [curve.variance for curve in curves if curve.variance is not None]
    if len(known) < len(curves):
        return _without_noise(frames, rng)
    variances = [np.maximum(v, (QUIET * frame.curvature) ** 2) for v, frame in zip(known, frames, strict=True)]
    return _read(frames, variances, count, rng)


def _without_noise(frames: Sequence[Frame], rng: np.random.Generator) -> list[Valley]:
    """Mean curves at the standard deviation, in units of each curve's c, that makes all of them likeliest."""

    def variances(size: float) -> list[Floats]:
        return [np.full(len(frame.x), (size * frame.curvature) ** 2) for frame in frames]

    sizes = 2.0 ** np.arange(-8, 2)
    knees = [frame.knees for frame in frames]
    evidence = [logsumexp(_posterior(frames, variances(size), TILTS, knees).log) for size in sizes]
    found = _read(frames, variances(float(sizes[int(np.argmax(evidence))])), MEANS, rng)
    return [Valley(valley.nodes, valley.mean, None) for valley in found]


def _likelihoods(frame: Frame, variance: Floats, tilts: Floats, knees: Knees) -> Floats:
    """Logarithm of the restricted likelihood, with the size of the noise integrated out, times the prior of the knee;
    (tilts, roughness, walls, knees).
    """
    found = np.empty((len(tilts), len(ROUGHNESS), len(WALLS), len(knees.at)))
    rhs = np.concatenate([frame.y[:, None], frame.wall(frame.x, knees.at)], axis=1)
    _, bases = frame.tilted(tilts)
    scale = (WALLS**2)[:, None]
    for k, kappa in enumerate(ROUGHNESS):
        root = np.linalg.cholesky(kappa**2 * frame.kernel + np.diag(variance))
        white, q_white = np.linalg.solve(root, rhs), np.linalg.solve(root, bases)
        q, r = np.linalg.qr(q_white)
        walls, along = white[:, 1:], np.swapaxes(q, 1, 2) @ white
        y = white[:, 0] - (q @ along[:, :, :1])[:, :, 0]
        own = np.maximum(np.sum(walls**2, axis=0) - np.sum(along[:, :, 1:] ** 2, axis=1), 0.0)[:, None]
        shared = (y @ walls)[:, None]
        sizes = np.log(np.abs(np.diagonal(r, axis1=1, axis2=2))).sum(axis=1) + np.log(np.diag(root)).sum()
        # A wall is one more direction of known variance (Sherman and Morrison).
        misses = np.sum(y**2, axis=1)[:, None, None] - scale * shared**2 / (1 + scale * own)
        found[:, k] = -sizes[:, None, None] - np.log1p(scale * own) / 2 + _student(misses, frame)
    return found + knees.log_prior


def _student(misses: Floats, frame: Frame) -> Floats:
    """Logarithm of the density of points by sums of squares of what a shape leaves of them, in units of their
    variances: Student's, or Gauss' where the noise is known; but for a constant.
    """
    if np.isinf(frame.freedom):
        return -misses / 2
    return np.asarray(-(frame.freedom + frame.left) / 2 * np.log1p(np.maximum(misses, 0.0) / frame.freedom))


@dataclass(frozen=True)
class _Posterior:
    """Log posterior of (b, κ, s) at `tilts`, not normalized, from all curves; and each curve's log likelihoods
    (b, κ, s, t) at its own `knees`.
    """

    tilts: Floats
    knees: list[Knees]
    log: Floats
    own: list[Floats]


def _posterior(frames: Sequence[Frame], variances: Sequence[Floats], tilts: Floats, knees: list[Knees]) -> _Posterior:
    each = zip(frames, variances, knees, strict=True)
    own = [_likelihoods(frame, variance, tilts, places) for frame, variance, places in each]
    total = sum(logsumexp(part, axis=3) for part in own)
    rough = np.where(ROUGHNESS > 0, ROUGHNESS, 1.0)
    prior_rough = np.where(ROUGHNESS > 0, np.log(2 / np.pi * rough / (1 + rough**2)), np.log(SMOOTH))
    prior_wall = np.where(WALLS > 0, 0.0, np.log(NO_WALL))
    prior = -((tilts / TILT_SCALE) ** 2)[:, None, None] / 2 + prior_rough[:, None] + prior_wall
    return _Posterior(tilts, knees, np.asarray(total + prior), own)


def _fine_posterior(frames: Sequence[Frame], variances: Sequence[Floats]) -> _Posterior:
    """At b and knees as close together as the losses tell them.

    High up a steep valley or a wall quiet losses tell b and t to a thousandth; on a coarser grid none would fit, and
    what fits least badly would be taken for certain.
    """
    found = _posterior(frames, variances, TILTS, [frame.knees for frame in frames])
    for _ in range(MOST_ZOOMS):
        tilts = _likely_tilts(found)
        narrow = [_narrow(part) for part in found.own]
        if tilts is None and not any(chosen.any() for chosen in narrow):
            break
        knees = [places.split(chosen) for places, chosen in zip(found.knees, narrow, strict=True)]
        found = _posterior(frames, variances, found.tilts if tilts is None else tilts, knees)
    return found


def _likely_tilts(found: _Posterior) -> Floats | None:
    """A finer grid of b about those that are likely; None where theirs is fine enough.

    A grid that cuts off what is likely is moved.
    """
    tilts, step = found.tilts, found.tilts[1] - found.tilts[0]
    mass = logsumexp(found.log, axis=(1, 2))
    likely = tilts[mass > mass.max() + np.log(LIKELY)]
    first, last = max(likely[0] - step, TILTS[0]), min(likely[-1] + step, TILTS[-1])
    inside = first > tilts[0] - step / 2 and last < tilts[-1] + step / 2
    return None if inside and len(likely) >= ENOUGH else np.linspace(first, last, FINE_TILTS)


def _narrow(likelihoods: Floats) -> Bools:
    """Which knees (K,) are likely given some κ and s, where too few are, by log likelihoods (tilts, κ, s, K).

    Of every κ and s, and not only of the likely ones: those that no knee of the grid fits would never be.
    """
    walls = likelihoods[:, :, WALLS > 0]
    best = np.argmax(walls.max(axis=3), axis=0)
    rows = np.take_along_axis(walls, best[None, :, :, None], axis=0).reshape(-1, walls.shape[3])
    likely = rows > rows.max(axis=1, keepdims=True) + np.log(LIKELY)
    return np.asarray(likely[likely.sum(axis=1) < ENOUGH].any(axis=0))


def _read(
    frames: Sequence[Frame],
    variances: Sequence[Floats],
    count: int,
    rng: np.random.Generator,
) -> list[Valley]:
    posterior = _fine_posterior(frames, variances)
    # Shapes by weight, not by chance: mean curves do not depend on what is drawn.
    weights = np.cumsum(np.exp(posterior.log - posterior.log.max()).ravel())
    picks = np.searchsorted(weights, (np.arange(count) + 0.5) / count * weights[-1])
    tilt, kappa, wall = np.unravel_index(picks, posterior.log.shape)
    order, found = rng.permutation(count), []
    for frame, variance, places, own in zip(frames, variances, posterior.knees, posterior.own, strict=True):
        knee = places.at[_knees(own.reshape(-1, own.shape[3]), picks)]
        shape = _Shape(posterior.tilts, tilt, ROUGHNESS[kappa], WALLS[wall], knee)
        valley = _draw(frame, variance, shape, rng)
        # All curves of a draw share a shape; the knee, which follows from it by rank, is each curve's own.
        mixed = np.lexsort((rng.random(count), picks))[order]
        found.append(Valley(valley.nodes, valley.mean, None if valley.draws is None else valley.draws[mixed]))
    return found


def _knees(likelihoods: Floats, picks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices of the knees (R,) of draws whose other parts are row `picks` (R,), ascending, of log likelihoods
    (shapes, knees): by weight, too.
    """
    rows, counts = np.unique(picks, return_counts=True)
    chosen = likelihoods[rows]
    cumulated = np.cumsum(np.exp(chosen - chosen.max(axis=1, keepdims=True)), axis=1)
    each = zip(cumulated, counts, strict=True)
    return np.concatenate([np.searchsorted(row, (np.arange(n) + 0.5) / n * row[-1]) for row, n in each])


@dataclass(frozen=True)
class _Shape:
    """Draws of what curves are made of: which of the b in `tilts`, κ, s and t, (R,) each."""

    tilts: Floats
    tilt: NDArray[np.intp]
    kappa: Floats
    wall: Floats
    knee: Floats


def _draw(frame: Frame, variance: Floats, shape: _Shape, rng: np.random.Generator) -> Valley:
    """Curves drawn given their shapes and the measured points; and the mean over shapes of their expectations."""
    count = len(shape.kappa)
    nodes, points = (bases[shape.tilt] for bases in frame.tilted(shape.tilts))
    wall_nodes, wall_points = (frame.wall(at, shape.knee).T * shape.wall[:, None] for at in (frame.nodes, frame.x))
    rough = shape.kappa[:, None]
    noise, height = rng.standard_normal((count, frame.at_nodes.shape[1])) * rough, rng.standard_normal((count, 1))
    prior_nodes, prior_points = (
        noise @ at.T + height * wall for at, wall in ((frame.at_nodes, wall_nodes), (frame.at_points, wall_points))
    )

    def expectation(variances: Floats, told: Floats) -> tuple[Floats, Floats]:
        """What is told of the points (R, J) says about the nodes, (R, G), with β by generalized least squares; and the
        sum of squares that shapes leave of it, in units of the variances, (R,).
        """
        matrix = (
            rough[:, :, None] ** 2 * frame.kernel
            + wall_points[:, :, None] * wall_points[:, None, :]
            + variances[:, :, None] * np.eye(len(frame.x))
        )
        solved = np.linalg.solve(matrix, np.concatenate([told[:, :, None], points], axis=2))
        across = np.swapaxes(points, 1, 2) @ solved
        beta = np.linalg.solve(across[:, :, 1:], across[:, :, :1])
        weights = (solved[:, :, :1] - solved[:, :, 1:] @ beta)[:, :, 0]
        of_wall = np.sum(wall_points * weights, axis=1, keepdims=True) * wall_nodes
        at_nodes = rough**2 * (weights @ frame.cross.T) + of_wall + (nodes @ beta)[:, :, 0]
        return np.asarray(at_nodes), np.sum(weights * told, axis=1)

    measured = np.broadcast_to(variance, prior_points.shape)
    expected, left = expectation(measured, np.broadcast_to(frame.y, prior_points.shape))
    drawn = measured * _factors(frame, left, rng)[:, None]
    errors = rng.standard_normal(drawn.shape) * np.sqrt(drawn)
    corrected, _ = expectation(drawn, frame.y - prior_points - errors)
    return Valley(frame.nodes, expected.mean(axis=0), prior_nodes + corrected)


def _factors(frame: Frame, left: Floats, rng: np.random.Generator) -> Floats:
    """Draws of λ, (R,), given the sum of squares that shapes leave of the points."""
    if np.isinf(frame.freedom):
        return np.ones(len(left))
    return np.asarray((frame.freedom + left) / rng.chisquare(frame.freedom + frame.left, len(left)))

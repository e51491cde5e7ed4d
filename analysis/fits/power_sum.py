"""A floor and a sum of powers, fitted to losses: L = E + Σ cᵢ xᵢ^-αᵢ, with no E, cᵢ or αᵢ negative.

As Hoffmann et al. (arXiv 2203.15556, section 3.3) fit their law of two resources,

    minimize Σ Huber(log L̂ − log L), δ = 1e-3,    log L̂ = LSE(log E, log cᵢ − αᵢ log xᵢ)

with the gradient written out and the sum in units of δ²: where an optimizer stops on its small scale, the numbers are
biased, as those published first (Besiroglu et al., arXiv 2404.10102). Resources are divided by their geometric means
while fitting, which takes most of the correlation out of cᵢ and αᵢ. The optimizer is SLSQP: it reached the same optimum
from every start, where L-BFGS-B (the published one) stopped early from some, and `least_squares(loss="huber")`, which
minimizes the same sum, took four times as long.

At fixed exponents the law is linear in E and cᵢ. Starts are therefore a grid of exponents alone, each with the
non-negative least squares of the relative error; those with the lowest sums are run.

Profile intervals hold a parameter's values at which the least sum S of the others stays near the least of all,

    2 (S − S_min) · mean ψ′ / mean ψ² ≤ χ²₁        ψ the derivative of Huber's loss at the residuals over δ

the likelihood ratio of robust fits (Hampel et al. 1986, section 7.2); mean ψ′, the share of residuals within δ, is read
off a kernel density, as few of them may be.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq, minimize, nnls

from analysis.tables.arrays import Floats
from scionlab.errors import UserError

DELTA = 1e-3  # of Huber's loss, in the logarithm of the loss
STARTS = (0.1, 0.25, 0.5, 1.0)  # exponents
RUN = 8  # starts that are run
# Below, a power is a constant and a logarithm, and cannot be told from E; above, no loss has been seen to fall.
EXPONENTS = (0.01, 4.0)
SMALLEST = 1e-4  # share of the lowest loss: where E and a term (at the geometric mean) count as 0 in logarithms
SAME = 1.05  # values within this factor are one level: budgets are rounded to whole steps


@dataclass(frozen=True)
class PowerSum:
    """Points to fit: resources x (k, n) and losses (n,), finite and positive.

    Parameters are a vector (1 + 2k,) of E, the k coefficients and the k exponents. `floor` is a value that E is held
    at, below all losses; by default it is fitted.
    """

    x: Floats
    loss: Floats
    floor: float | None = None

    @property
    def n_parameters(self) -> int:
        """1 + 2k, one less where E is held."""
        return 1 + 2 * len(self.x) - (self.floor is not None)

    @cached_property
    def levels(self) -> NDArray[np.intp]:
        """Which of its distinct values every resource has at every point, (k, n)."""
        return np.array([levels(row) for row in self.x], dtype=np.intp).reshape(self.x.shape)

    @property
    def n_points(self) -> int:
        """Distinct points."""
        return _distinct(self.levels)

    @cached_property
    def centres(self) -> Floats:
        """Geometric mean of every resource, (k,)."""
        return np.asarray(np.exp(np.log(self.x).mean(axis=1)))

    @cached_property
    def _logs(self) -> Floats:
        """log x over its geometric mean."""
        return np.log(self.x / self.centres[:, None])

    def correlation(self) -> tuple[float, int]:
        """Largest multiple correlation of one resource's logarithm with the others', and that resource's index.

        For two resources it is the absolute value of their correlation; 0 for one.
        """
        found = [0.0]
        for i in range(len(self.x) if len(self.x) > 1 else 0):
            others = np.delete(self._logs, i, axis=0).T
            left = self._logs[i] - others @ np.linalg.lstsq(others, self._logs[i], rcond=None)[0]
            found.append(float(np.sqrt(max(0.0, 1 - left @ left / (self._logs[i] @ self._logs[i])))))
        worst = int(np.argmax(found))
        return found[worst], max(0, worst - 1)

    @cached_property
    def _bounds(self) -> list[tuple[float, float]]:
        low, high = np.log(self.loss.min()), np.log(self.loss.max())
        least, top = low + np.log(SMALLEST), high + 2.0
        k = len(self.x)
        floor = (least, high) if self.floor is None else (self._log_floor, self._log_floor)
        return [floor] + [(least, top)] * k + [EXPONENTS] * k

    @property
    def _log_floor(self) -> float:
        """The logarithm of the E that is held; of 0 that of the smallest that counts."""
        return float(np.log(max(self.floor or 0.0, SMALLEST * self.loss.min())))

    def fit(self) -> Floats:
        """Parameters of the best local optimum over the starts."""
        even = np.ones(len(self.loss))
        starts = sorted(self._starts(), key=lambda start: self._objective(start, even)[0])
        ends = [self._descend(start, even) for start in starts[:RUN]]
        return self._parameters(min(ends, key=lambda end: self._objective(end, even)[0]))

    def refit(self, parameters: Floats, weights: Floats) -> Floats:
        """Parameters of the local optimum near `parameters` with every point weighted, weights (n,)."""
        return self._parameters(self._descend(self._internal(parameters), weights))

    def resampled(self, parameters: Floats, count: int, rng: np.random.Generator) -> Floats | None:
        """Parameters (at most `count`, 1 + 2k) of resamples of the points, each fitted from `parameters`.

        Resamples that cannot determine the parameters are left out; None where those are more than half.
        """
        n = len(self.loss)
        drawn = [np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(count)]
        usable = [weights for weights in drawn if self._determined(weights)]
        if not usable or len(usable) < count / 2:
            return None
        return np.stack([self.refit(parameters, weights) for weights in usable])

    def _determined(self, weights: Floats) -> bool:
        """Whether the points that weigh anything are enough, and give every resource three levels."""
        drawn = self.levels[:, weights > 0]
        return _distinct(drawn) >= self.n_parameters and all(len(np.unique(row)) >= 3 for row in drawn)

    def _starts(self) -> Iterator[Floats]:
        least = SMALLEST * self.loss.min()
        for exponents in product(STARTS, repeat=len(self.x)):
            powers = np.exp(-np.array(exponents)[:, None] * self._logs)
            if self.floor is None:
                factors, _ = nnls((np.vstack([np.ones_like(self.loss), powers]) / self.loss).T, np.ones_like(self.loss))
            else:
                floor = np.exp(self._log_floor)
                factors = np.append(floor, nnls((powers / self.loss).T, 1 - floor / self.loss)[0])
            yield np.concatenate([np.log(np.maximum(factors, least)), exponents])

    def profile(self, parameters: Floats, index: int, level: float) -> tuple[float, float]:
        """Ends of a parameter's profile interval of so much confidence, about the optimum `parameters`.

        index: 0 for E, 1 + k and on for the exponents. An end at which the sum is still low is that of what is looked
        at: 0 for E, `EXPONENTS`.
        """
        best, even = self._internal(parameters), np.ones(len(self.loss))
        least, scale = self._objective(best, even)[0], self._ratio_per_sum(best)
        limit = float(stats.chi2.ppf(level, 1))
        ends = []
        for bound in self._bounds[index]:
            at = best.copy()

            def excess(value: float, at: Floats = at) -> float:
                at[:] = self._descend(at, even, {index: value})  # from where the last one ended
                return scale * (self._objective(at, even)[0] - least) - limit

            inside = excess(bound) <= 0
            at[:] = best
            ends.append(bound if inside else brentq(excess, best[index], bound, xtol=1e-6))
        low, high = (float(np.exp(end) if index == 0 else end) for end in ends)
        return (0.0 if index == 0 and ends[0] == self._bounds[0][0] else low), high

    def _ratio_per_sum(self, theta: Floats) -> float:
        """What a rise of the sum counts in a likelihood ratio: 2 · mean ψ′ / mean ψ² at the residuals."""
        residuals = self._residuals(theta)
        if np.ptp(residuals) == 0:
            return 2.0
        derivative = stats.gaussian_kde(residuals).integrate_box_1d(-1, 1)
        return float(2 * derivative / np.mean(np.clip(residuals, -1, 1) ** 2))

    def _descend(self, start: Floats, weights: Floats, held: Mapping[int, float] | None = None) -> Floats:
        """The local optimum near `start`, some of whose entries may be held at values."""
        bounds, start = list(self._bounds), start.copy()
        for index, value in (held or {}).items():
            bounds[index], start[index] = (value, value), value
        found = minimize(
            self._objective,
            start,
            (weights,),
            method="SLSQP",
            jac=True,
            bounds=bounds,
            options={"maxiter": 1000, "ftol": 1e-10},
        )
        return np.asarray(found.x)

    def _terms(self, theta: Floats) -> Floats:
        """Logarithms of E and of every term at every point, (1 + k, n)."""
        k = len(self.x)
        powers = theta[1 : k + 1, None] - theta[k + 1 :, None] * self._logs
        return np.vstack([np.full_like(self.loss, theta[0]), powers])

    def _residuals(self, theta: Floats) -> Floats:
        """log L̂ − log L in units of δ, (n,)."""
        return np.asarray((np.logaddexp.reduce(self._terms(theta), axis=0) - np.log(self.loss)) / DELTA)

    def _objective(self, theta: Floats, weights: Floats) -> tuple[float, Floats]:
        """Weighted sum of Huber's loss in units of δ², and its gradient."""
        terms = self._terms(theta)
        largest = terms.max(axis=0)
        powers = np.exp(terms - largest)
        total = powers.sum(axis=0)
        residuals = (largest + np.log(total) - np.log(self.loss)) / DELTA
        clipped = np.clip(residuals, -1, 1)  # the derivative of Huber's loss c (r − c/2), c the clipped r
        slopes = powers / total * (weights * clipped / DELTA)  # by every term's logarithm
        gradient = np.concatenate([slopes.sum(axis=1), -(slopes[1:] * self._logs).sum(axis=1)])
        return float(weights @ (clipped * (residuals - clipped / 2))), gradient

    def _parameters(self, theta: Floats) -> Floats:
        """From the logarithms of E and of every term at the geometric means, and the exponents."""
        k = len(self.x)
        exponents = theta[k + 1 :]
        return np.concatenate([np.exp(theta[:1]), np.exp(theta[1 : k + 1]) * self.centres**exponents, exponents])

    def _internal(self, parameters: Floats) -> Floats:
        """The inverse of `_parameters`."""
        k = len(self.x)
        exponents = parameters[k + 1 :]
        at_centre = parameters[1 : k + 1] * self.centres**-exponents
        floor = np.maximum(parameters[:1], SMALLEST * self.loss.min())  # an E held at 0 has no logarithm
        return np.concatenate([np.log(floor), np.log(at_centre), exponents])


def checked_points(
    names: Sequence[str], x: Sequence[ArrayLike], loss: ArrayLike, called: str = "loss"
) -> tuple[Floats, Floats]:
    """Resources (k, n) and losses (n,), n > 0; UserError if lengths differ or a value is not finite and positive.

    `called`: the name of what is fitted, where that is no loss.
    """
    columns = [np.asarray(column, dtype=float) for column in (*x, loss)]
    for name, column in zip((*names, called), columns, strict=True):
        if column.ndim != 1 or not 0 < len(column) == len(columns[-1]):
            several = "losses" if called == "loss" else f"values of {called}"
            raise UserError(f"{name}: has shape {column.shape}; there must be one value for each of the {several}")
        if not (np.isfinite(column) & (column > 0)).all():
            raise UserError(f"{name}: every value must be finite and positive")
    return np.stack(columns[:-1]), columns[-1]


def levels(values: Floats) -> NDArray[np.intp]:
    """Index (n,) of every value's level, ascending: a value within `SAME` of the next smaller one shares its level."""
    order = np.argsort(values)
    steps = np.diff(np.log(values[order]), prepend=np.log(values[order[0]])) > np.log(SAME)
    index = np.empty(len(values), dtype=np.intp)
    index[order] = np.cumsum(steps)
    return index


def _distinct(index: NDArray[np.intp]) -> int:
    """Number of distinct columns of (k, n)."""
    return np.unique(index, axis=1).shape[1]

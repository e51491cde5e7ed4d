"""The three regimes (arXiv 2603.21191, theorem 4.1), fitted to the profiled losses of all cells.

    P(T, BS) = E + ε(BS, T)          ε = M( a₁ BS/T , a₂ T^(−1/3) , a₃ (T² BS)^(−1/6) )
                                          starved     independent    noisy

M is the maximum, or the smooth maximum (Σ tᵖ)^(1/p) with p fitted. The coefficients stand for a₁ = L/μ²,
a₂ = (Lκ²σ⋆²/μ⁴)^(1/3), a₃ = κσ⋆/μ up to constants and logarithms, so all three are free. Their corners:

    BS₁ = (a₃/a₂)⁶              noise ends            BS₂ = (a₂/a₁) T^(2/3)     starvation begins: the BST point

With a free exponent q the starved term is a₁ BS T^(−q − 1/3), so that BS₂ ∝ T^q and the data may say what q is.

Where is the lowest loss? On the maximum, anywhere between the corners. On a smooth maximum with any p, setting the
derivative in BS to zero leaves t₁ᵖ = t₃ᵖ/6, hence BS^(7/6) ∝ T^(2/3): the lowest loss moves as T^(4/7) while the corner
BS₂ moves as T^(2/3). Both readings of "the best batch size" are therefore kept apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from analysis.fits.intervals import TAIL, Estimate
from analysis.fits.profile import Profile
from analysis.tables.arrays import Bools, Floats

Maximum = Literal["max", "smooth"]

RULE = 2 / 3
STARTS = 24
RESAMPLES = 200  # each is a fit of its own
# Nats. Losses farther than this from the surface pull like an absolute error: the regimes are asymptotic.
HUBER = 0.01
FLOOR = 1e-6  # nats: an E below is at its bound 0
SHARPNESS = (1.0, 40.0)  # bounds of p: at 40 the smooth maximum is within 3% of the maximum


@dataclass(frozen=True)
class Surface:
    """A fitted surface. Coefficients multiply tokens in units of the smallest budget's (`unit`), losses are nats.

    `exponent` is q, an estimate where it was fitted and 2/3 otherwise; `bs1` and `bs2` are in tokens, BS₂ at the
    smallest and the largest budget. `rms` is the root mean square residual in nats, and `misfit` the residuals'
    √(χ²/degrees of freedom) against the noise of the profiles: 1 where the surface describes the cells, None without
    a measure of noise. Where it exceeds 1 it is what the intervals of a noise-only bootstrap are widened by (Birge's
    ratio, as the Particle Data Group does). `at_bound`: E is 0, or BS₂ lies outside the batch sizes measured, so that
    starvation was not seen to begin. `cut_off`: so it is in more than 2.5% of the resamples.
    """

    form: Maximum
    free_exponent: bool
    floor: float
    coefficients: tuple[float, float, float]
    sharpness: float
    unit: float
    exponent: Estimate
    bs1: Estimate
    bs2_first: Estimate
    bs2_last: Estimate
    rms: float
    misfit: float | None
    at_bound: bool
    cut_off: bool

    def loss(self, tokens: Floats, batch_tokens: Floats) -> Floats:
        """P(T, BS) in nats, elementwise."""
        theta = self._theta()
        return _surface(theta, np.log(np.asarray(tokens) / self.unit), np.log(np.asarray(batch_tokens)), self.form)

    def _theta(self) -> Floats:
        return np.array([self.floor, *np.log(self.coefficients), self.exponent.value, self.sharpness])


def terms(theta: Floats, log_t: Floats, log_b: Floats) -> Floats:
    """Logarithms of the three terms, (3, cells). `theta` is (E, log a₁, log a₂, log a₃, q, p)."""
    _, a1, a2, a3, q, _ = theta
    return np.stack([a1 + log_b - (q + 1 / 3) * log_t, a2 - log_t / 3, a3 - log_t / 3 - log_b / 6])


def _surface(theta: Floats, log_t: Floats, log_b: Floats, form: Maximum) -> Floats:
    logs = terms(theta, log_t, log_b)
    if form == "max":
        return theta[0] + np.exp(logs.max(axis=0))
    return theta[0] + np.exp(np.logaddexp.reduce(theta[5] * logs, axis=0) / theta[5])


def _gradient(theta: Floats, log_t: Floats, log_b: Floats, form: Maximum) -> Floats:
    """Derivatives of the surface in its parameters, (cells, 6)."""
    logs, p = terms(theta, log_t, log_b), theta[5]
    if form == "max":
        total, in_sharpness = logs.max(axis=0), np.zeros_like(log_b)
        shares = (logs == total).astype(float)
    else:
        total = np.logaddexp.reduce(p * logs, axis=0) / p
        shares = np.exp(p * (logs - total))
        in_sharpness = ((shares * logs).sum(axis=0) - total) / p
    columns = [*shares, -shares[0] * log_t, in_sharpness]
    return np.stack([np.ones_like(log_b), *(np.exp(total) * column for column in columns)], axis=1)


def fit_surface(
    tokens: Floats,
    observed: Sequence[Profile],
    drawn: Sequence[Profile] | None,
    form: Maximum = "smooth",
    free_exponent: bool = False,
    seed: int = 0,
) -> tuple[Surface, Floats | None] | None:
    """Fit by Huber's loss from many starts; None with fewer cells than parameters + 2.

    `tokens` are the budgets, `observed` their profiles and `drawn` the resampled ones (None: no intervals). The second
    result are exponents q of the resamples, widened by the misfit, (RESAMPLES,); None without resamples.
    """
    log_b = np.log(2) * np.concatenate([p.x for p in observed])
    unit = float(min(tokens))
    log_t = np.log(np.repeat(np.asarray(tokens) / unit, [len(p.x) for p in observed]))
    losses = np.concatenate([p.loss[0] for p in observed])
    free = [True] * 4 + [free_exponent, form == "smooth"]
    if len(losses) < sum(free) + 2 or len(tokens) < 2:
        return None
    problem = _Problem(log_t, log_b, form, np.array(free))
    starts = problem.starts(losses, np.random.default_rng(seed))
    best = min((problem.solve(losses, start) for start in starts), key=lambda found: found[1])[0]
    best = problem.solve(losses, best)[0]  # a search that was cut short goes on
    last = float(np.log(max(tokens) / unit))
    residuals = losses - _surface(best, log_t, log_b, form)
    misfit = _misfit(residuals, drawn, sum(free))
    sample = _sample(problem, best, drawn, max(1.0, misfit or 1.0))
    at_bound = bool(_unseen(best[None], log_b, last)[0])
    moves = sample is not None and free_exponent and not at_bound and float(np.ptp(sample[:, 4])) > 0
    surface = Surface(
        form=form,
        free_exponent=free_exponent,
        floor=float(best[0]),
        coefficients=(float(np.exp(best[1])), float(np.exp(best[2])), float(np.exp(best[3]))),
        sharpness=float(best[5]),
        unit=unit,
        exponent=Estimate.of(best[4], sample[:, 4] if sample is not None and moves else None),
        **_corner_estimates(best, sample, last),
        rms=float(np.sqrt(np.mean(residuals**2))),
        misfit=misfit,
        at_bound=at_bound,
        cut_off=sample is not None and bool(_unseen(sample, log_b, last).mean() > TAIL),
    )
    return surface, None if sample is None else sample[:, 4]


def _misfit(residuals: Floats, drawn: Sequence[Profile] | None, n_free: int) -> float | None:
    if drawn is None:
        return None
    noise = np.concatenate([of.loss.std(axis=0) for of in drawn])
    return float(np.sqrt(np.sum((residuals / noise) ** 2) / (len(residuals) - n_free)))


def _corners(theta: Floats, log_t: Floats) -> tuple[Floats, Floats]:
    """log BS₁ (R,) and log BS₂ (R, len(log_t)) of parameters (R, 6)."""
    first = 6 * (theta[:, 3] - theta[:, 2])
    return first, (theta[:, 2] - theta[:, 1])[:, None] + theta[:, [4]] * log_t


def _unseen(theta: Floats, log_b: Floats, last: float) -> Bools:
    """Whether E is 0, or BS₂ lies outside the batch sizes measured at the first or the last budget, (R,)."""
    _, corner2 = _corners(theta, np.array([0.0, last]))
    outside = (corner2.min(axis=1) <= log_b.min()) | (corner2.max(axis=1) >= log_b.max())
    return np.asarray(outside | (theta[:, 0] < FLOOR))


def _corner_estimates(best: Floats, sample: Floats | None, last: float) -> dict[str, Estimate]:
    ends = np.array([0.0, last])
    at1, at2 = _corners(best[None], ends)
    drawn1, drawn2 = _corners(best[None] if sample is None else sample, ends)

    def estimate(value: float, draws: Floats) -> Estimate:
        with np.errstate(over="ignore"):
            return Estimate.of(np.exp(value), None if sample is None else np.exp(draws))

    return {
        "bs1": estimate(at1[0], drawn1),
        "bs2_first": estimate(at2[0, 0], drawn2[:, 0]),
        "bs2_last": estimate(at2[0, 1], drawn2[:, 1]),
    }


class _Problem:
    """The least-squares problem in the parameters that are free."""

    def __init__(self, log_t: Floats, log_b: Floats, form: Maximum, free: np.ndarray) -> None:
        self.log_t, self.log_b, self.form, self.free = log_t, log_b, form, free

    def starts(self, losses: Floats, rng: np.random.Generator) -> list[Floats]:
        """Random splits of the losses into a floor and three terms that matter somewhere on the grid."""
        found = []
        for _ in range(STARTS):
            floor = losses.min() * rng.uniform(0.0, 0.98)
            reach = np.log(losses.min() - floor + 0.05) + rng.normal(0, 0.3)
            starved = reach - rng.choice(self.log_b) + np.log(rng.uniform(0.3, 3))
            noisy = reach + rng.choice(self.log_b) / 6
            found.append(np.array([floor, starved, reach, noisy, RULE, rng.uniform(1.5, 8)]))
        return found

    def solve(self, losses: Floats, start: Floats) -> tuple[Floats, float]:
        """Parameters and cost of the local optimum from a start."""
        low = np.array([0.0, -40, -40, -40, -1, SHARPNESS[0]])
        # Noise known from few differences draws losses below 0, where there is no floor left to find.
        high = np.array([max(losses.min(), FLOOR), 40, 40, 40, 3, SHARPNESS[1]])
        theta = np.clip(start, low + 1e-9, high - 1e-9)

        def residuals(free: Floats) -> Floats:
            theta[self.free] = free
            return _surface(theta, self.log_t, self.log_b, self.form) - losses

        def jacobian(free: Floats) -> Floats:
            theta[self.free] = free
            return _gradient(theta, self.log_t, self.log_b, self.form)[:, self.free]

        found = least_squares(
            residuals,
            theta[self.free],
            jac=jacobian,
            bounds=(low[self.free], high[self.free]),
            loss="huber",
            f_scale=HUBER,
            x_scale=np.array([0.1, 1, 1, 1, 0.3, 3])[self.free],
            max_nfev=200,
        )
        theta[self.free] = found.x
        return theta.copy(), float(found.cost)


def _sample(problem: _Problem, best: Floats, drawn: Sequence[Profile] | None, widen: float) -> Floats | None:
    """Parameters fitted to resampled profiles, (RESAMPLES, 6), each started at the best fit."""
    if drawn is None:
        return None
    losses = np.concatenate([p.loss[:RESAMPLES] for p in drawn], axis=1)
    return best + widen * (np.stack([problem.solve(row, best)[0] for row in losses]) - best)

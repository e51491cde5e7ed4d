"""Log-linear laws of an optimum in network size and training tokens together.

    log₂ y* = c + a log₂(N/N₀) + b log₂(T/T₀) + …        least squares through the optima of n sizes and budgets

y* is a best learning rate, batch size or the like; N₀ and T₀ are geometric means of what was measured, so c is log₂ y*
in the middle. Width and depth may follow as further terms.

Intervals are Student's with n − p degrees of freedom, p coefficients, and the covariance HC3: optima of some sizes and
budgets may scatter more than others (MacKinnon and White 1985, doi 10.1016/0304-4076(85)90158-7; Long and Ervin 2000,
doi 10.1080/00031305.2000.10474549). A bootstrap of n rows would be too narrow: `benchmarks.coverage_joint` has the
numbers. Resamples are draws from the distribution whose quantiles these intervals are, so that predictions, which mix
the coefficients, have intervals of the same kind:

    β_r = β + √(ν/χ²_ν) L z,  L Lᵀ = HC3        a new optimum: + √(ν/χ²_ν) s z',  s the scatter about the law

Whether a term is needed is asked by F-test against the law without it (exact if optima scatter evenly and normally) and
by the term's interval, both at 95%: each errs where the other does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, TAIL, Estimate
from analysis.fits.power_sum import checked_points, levels
from analysis.laws.scaling_laws import COLLINEAR, ON_A_LINE, SPARE
from analysis.tables.arrays import Floats
from scionlab.errors import UserError, listed

LR, BATCH_TOKENS, MOMENTUM, DECAY = "lr", "batch_tokens", "momentum", "weight_decay"  # what may have a law
WORDS = {LR: "learning rate", BATCH_TOKENS: "batch size", MOMENTUM: "momentum", DECAY: "weight decay"}
MAIN, FURTHER = ("n_params", "tokens"), ("depth", "width")  # resources that every law may have, and some may
SYMBOLS = {LR: "lr", BATCH_TOKENS: "B·S", MOMENTUM: "α", DECAY: "λ", "n_params": "N", "tokens": "T"}
LOG2_RESAMPLES = 10  # 1024 draws: points of a Sobol sequence are so even that few do
DECIDES_ALONE = 1 - 1e-9  # leverage of an optimum without which a coefficient would not be known
ROUNDING = 1e-9  # octaves; scatter below it is that of the last digits
LEVEL = "level"
SCATTER = "scatter"


def symbol(name: str) -> str:
    """What formulas call a quantity or a resource; depth and width are called so."""
    return SYMBOLS.get(name, name)


@dataclass(frozen=True)
class Term:
    """log₂ of a `resource` over its `centre`, times an `exponent`. `p_value`: of the F-test against no such term."""

    resource: str
    centre: float
    exponent: Estimate
    p_value: float | None = None


@dataclass(frozen=True)
class Prediction:
    """y* by a law, and the 95% intervals of the law there and of a new optimum, which scatters about the law.

    In the unit of y and of the shape that was asked for; intervals are None where a law has none.
    """

    value: Floats
    low: Floats | None = None
    high: Floats | None = None
    new_low: Floats | None = None
    new_high: Floats | None = None


@dataclass(frozen=True)
class JointLaw:
    """A law of `quantity`, in `unit`, through `n_optima` optima.

    `level` is log₂ y at the centres. `scatter` is the standard deviation of optima about the law in octaves, None where
    there are as many coefficients as optima. `measured` has the smallest and the largest value of every resource, also
    of those without a term. `resampled` are draws of level and exponents in the order of `terms`, (R, 1 + terms), and
    `new` those of what an optimum is off the law, in octaves, (R,); None without intervals.
    """

    quantity: str
    unit: str
    level: Estimate
    terms: tuple[Term, ...]
    n_optima: int
    scatter: float | None
    measured: Mapping[str, tuple[float, float]]
    warnings: tuple[str, ...] = ()
    resampled: Floats | None = field(default=None, repr=False, compare=False)
    new: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the scatter."""
        return self.n_optima - 1 - len(self.terms)

    @property
    def constant(self) -> float:
        """K of y = K N^a T^b …, in the unit of y."""
        return float(2 ** (self.level.value - sum(t.exponent.value * np.log2(t.centre) for t in self.terms)))

    def formula(self) -> str:
        """K N^a T^b … as text."""
        powers = (f"{symbol(term.resource)}^{term.exponent.value:z.3f}" for term in self.terms)
        return " ".join([f"{self.constant:.3g}", *powers])

    def term(self, resource: str) -> Term | None:
        """The term of a resource, if it has one."""
        return next((term for term in self.terms if term.resource == resource), None)

    def predict(self, n_params: ArrayLike, tokens: ArrayLike, **further: ArrayLike) -> Prediction:
        """y* at numbers of parameters and of tokens, of shapes that broadcast.

        n_params, tokens: positive; one without a term does not matter. further: the other resources of the law, by
        their names. UserError for one that is missing, is not known, or is not positive.
        """
        given = {"n_params": n_params, "tokens": tokens, **further}
        if unknown := sorted(set(further) - set(self.measured)):
            raise UserError(f"{unknown[0]}: is no resource of this law, which has {listed(self.measured)}")
        if missing := [term.resource for term in self.terms if term.resource not in given]:
            raise UserError(f"{missing[0]}: is missing; the law of {self.quantity} has a term of it")
        values = {name: np.asarray(value, dtype=float) for name, value in given.items()}
        for name, value in values.items():
            if not (np.isfinite(value) & (value > 0)).all():
                raise UserError(f"{name}: every value must be finite and positive")
        shape = np.broadcast_shapes(*(value.shape for value in values.values()))
        columns = [np.broadcast_to(np.log2(values[t.resource] / t.centre), shape).ravel() for t in self.terms]
        design = np.stack([np.ones(int(np.prod(shape))), *columns], axis=1)
        value = 2 ** (design @ [self.level.value, *(term.exponent.value for term in self.terms)])
        if self.resampled is None or self.new is None:
            return Prediction(value.reshape(shape))
        drawn = self.resampled @ design.T
        sides = [2 ** np.quantile(of, (TAIL, 1 - TAIL), axis=0) for of in (drawn, drawn + self.new[:, None])]
        return Prediction(value.reshape(shape), *(end.reshape(shape) for side in sides for end in side))

    def reach(self, resource: str) -> float | None:
        """Octaves of y that the term of a resource makes over what was measured, at the far end of its interval.

        None without a term or without intervals.
        """
        term = self.term(resource)
        if term is None or term.exponent.low is None or term.exponent.high is None:
            return None
        low, high = self.measured[resource]
        return max(-term.exponent.low, term.exponent.high) * float(np.log2(high / low))

    def sure(self, resource: str) -> bool:
        """Whether a resource has a term that is not 0: by its interval and by the F-test, both."""
        term = self.term(resource)
        if term is None or term.exponent.low is None or term.exponent.high is None or term.p_value is None:
            return False
        return (term.exponent.low > 0 or term.exponent.high < 0) and term.p_value < 1 - CONFIDENCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON: complete, so that `from_dict` gives the law back, resamples to six digits."""
        names = [LEVEL, *(term.resource for term in self.terms), SCATTER]
        drawn = None
        if self.resampled is not None and self.new is not None:
            columns = np.column_stack([self.resampled, self.new]).T
            rounded = [[float(f"{value:.6g}") for value in column] for column in columns]
            drawn = dict(zip(names, rounded, strict=True))
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "constant": self.constant,
            "log2_at_centres": {"value": self.level.value, "low": self.level.low, "high": self.level.high},
            "terms": [
                {"resource": t.resource, "centre": t.centre, **t.exponent.columns("exponent"), "p_value": t.p_value}
                for t in self.terms
            ],
            "n_optima": self.n_optima,
            "degrees_of_freedom": self.freedom,
            "scatter_octaves": self.scatter,
            "measured": {name: list(ends) for name, ends in self.measured.items()},
            "warnings": list(self.warnings),
            "resamples": drawn,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """What `as_dict` made; KeyError or TypeError for something else."""
        level, drawn = entry["log2_at_centres"], entry["resamples"]
        terms = tuple(
            Term(
                str(each["resource"]),
                float(each["centre"]),
                Estimate(each["exponent"], each["exponent_low"], each["exponent_high"]),
                each["p_value"],
            )
            for each in entry["terms"]
        )
        names = [LEVEL, *(term.resource for term in terms)]
        return cls(
            quantity=str(entry["quantity"]),
            unit=str(entry["unit"]),
            level=Estimate(level["value"], level["low"], level["high"]),
            terms=terms,
            n_optima=int(entry["n_optima"]),
            scatter=entry["scatter_octaves"],
            measured={name: (float(low), float(high)) for name, (low, high) in entry["measured"].items()},
            warnings=tuple(entry["warnings"]),
            resampled=None if drawn is None else np.array([drawn[name] for name in names], dtype=float).T,
            new=None if drawn is None else np.array(drawn[SCATTER], dtype=float),
        )


def fit_joint(quantity: str, value: ArrayLike, resources: Mapping[str, ArrayLike], unit: str = "") -> JointLaw | None:
    """The law through n optima; None where they are fewer than its coefficients.

    quantity, unit: names of what is fitted and of its unit. value: (n,), positive. resources: n_params, tokens and
    further ones by their names, (n,) each and positive. Nothing is left to chance: resamples are the same every time.

    A resource with one value has no term, nor has one that goes with those before it: tokens come first, then n_params,
    then further ones in their order; `warnings` say so. UserError if lengths differ or a value is not positive.
    """
    x, y = checked_points(tuple(resources), tuple(resources.values()), value, quantity)
    named = dict(zip(resources, np.log2(x), strict=True))
    chosen, warnings = _terms(named)
    if len(y) < 1 + len(chosen):
        return None
    centres = {name: float(named[name].mean()) for name in chosen}
    design = np.stack([np.ones(len(y)), *(named[name] - centres[name] for name in chosen)], axis=1)
    solved = _solve(design, np.log2(y))
    if solved.alone:
        warnings = (*warnings, "one size and budget alone decides an exponent, so there are no intervals")
    return JointLaw(
        quantity=quantity,
        unit=unit,
        level=solved.estimates[0],
        terms=tuple(
            Term(name, float(2 ** centres[name]), solved.estimates[i], solved.p_values[i])
            for i, name in enumerate(chosen, start=1)
        ),
        n_optima=len(y),
        scatter=solved.scatter,
        measured={name: (float(of.min()), float(of.max())) for name, of in zip(resources, x, strict=True)},
        warnings=warnings,
        resampled=solved.resampled,
        new=solved.new,
    )


def _terms(logs: Mapping[str, Floats]) -> tuple[list[str], tuple[str, ...]]:
    """Resources that have a term of their own, in the order of `logs`, and why others have none."""
    chosen: list[str] = []
    warnings = []
    for name in sorted(logs, key=lambda name: (name != "tokens", name != "n_params")):
        if not levels(2 ** logs[name]).any():
            warnings.append(f"{name} has one value, and no term")
            continue
        r = _correlation(logs[name], [logs[other] for other in chosen])
        if r > (ON_A_LINE if name in MAIN else COLLINEAR):
            warnings.append(
                f"{name} goes with {' and '.join(chosen)} (multiple correlation {r:.3f} of the logarithms): it has no "
                "term of its own, and theirs hold it"
            )
            continue
        chosen.append(name)
    return [name for name in logs if name in chosen], tuple(warnings)


def _correlation(of: Floats, others: Sequence[Floats]) -> float:
    """Multiple correlation of one column (n,) with others."""
    if not others:
        return 0.0
    design = np.stack([other - other.mean() for other in others], axis=1)
    about = of - of.mean()
    left = about - design @ np.linalg.lstsq(design, about, rcond=None)[0]
    return float(np.sqrt(max(0.0, 1 - left @ left / (about @ about))))


@dataclass(frozen=True)
class _Solved:
    """Coefficients with intervals and p-values, the scatter in octaves, and draws; `alone`: a leverage is 1."""

    estimates: tuple[Estimate, ...]
    p_values: tuple[float | None, ...]
    scatter: float | None
    alone: bool
    resampled: Floats | None = None
    new: Floats | None = None


def _solve(design: Floats, y: Floats) -> _Solved:
    """Least squares of y (n,) on a design (n, p), n ≥ p."""
    n, p = design.shape
    inverse: Floats = np.asarray(np.linalg.pinv(design), dtype=float)
    found = inverse @ y
    rest = y - design @ found
    leverage = np.einsum("ij,ji->i", design, inverse)
    alone = bool((leverage > DECIDES_ALONE).any()) and n > p
    scatter = float(np.sqrt(rest @ rest / (n - p))) if n > p else None
    if scatter is None or n < p + SPARE or alone:
        return _Solved(tuple(Estimate(float(each)) for each in found), (None,) * p, scatter, alone)
    weighted = inverse * (rest / (1 - leverage))  # of HC3: what each optimum is off the law that is fitted without it
    covariance = weighted @ weighted.T
    half = stats.t.ppf(1 - TAIL, n - p) * np.sqrt(np.diag(covariance))
    resampled, new = _draws(found, covariance, scatter, n - p)
    return _Solved(
        tuple(Estimate(float(b), float(b - h), float(b + h)) for b, h in zip(found, half, strict=True)),
        tuple(_p_values(found, inverse, scatter, n - p)),
        scatter,
        False,
        resampled,
        new,
    )


def _p_values(found: Floats, inverse: Floats, scatter: float, freedom: int) -> list[float]:
    """Of F-tests, one term each: F = t² with 1 and n − p degrees of freedom."""
    if scatter < ROUNDING:
        return [float(abs(each) < ROUNDING) for each in found]
    squares = found**2 / (scatter**2 * np.sum(inverse**2, axis=1))
    return [float(each) for each in stats.f.sf(squares, 1, freedom)]


def _draws(found: Floats, covariance: Floats, scatter: float, freedom: int) -> tuple[Floats, Floats]:
    """Draws of the coefficients (R, p) and of what a new optimum is off the law (R,)."""
    p = len(found)
    points = stats.qmc.Sobol(p + 2, scramble=False).random_base2(LOG2_RESAMPLES)
    uniform = points + 0.5 / len(points)  # the middle of each point's cell, and never 0
    normal = stats.norm.ppf(uniform[:, : p + 1])
    factor = np.sqrt(freedom / stats.chi2.ppf(uniform[:, p + 1], freedom))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return found + factor[:, None] * (normal[:, :p] @ root.T), factor * scatter * normal[:, p]

"""Scaling laws of the loss in several resources: a floor, and a power of each resource that vanishes as it grows.

    L(N, T)    = E + A N^-a + B T^-b               Hoffmann et al., arXiv 2203.15556, section 3.3
    L(N, K, B) = E + A N^-a + C K^-c + D B^-d      Schaipp, arXiv 2607.01487: steps and batch apart

N are all parameters, with embeddings, T training tokens, K steps, B tokens a step, T = K B; losses are nats per token.
Both are fitted by `analysis.fits.power_sum`. What they say of the best allocation is an exponent of its own:

    N ∝ (N T)^(b/(a+b))     minimizes A N^-a + B T^-b at a fixed product; compute is about 6 N T
    B ∝ T^(c/(c+d))         minimizes C K^-c + D B^-d at fixed T; the BST rule has 2/3

Intervals are percentiles over resamples of the points, each fitted from the law of all points: of 60 simulated tables
of a law they covered the truth in 97 to 100%. Beside them stand profile intervals of E and of the exponents
(`PowerSum.profile`). Both hold if the law does. The held-out check does not suppose that: the law is fitted without the
largest budget, and its error there is in nats.

What a design cannot tell is said in `warnings`. A resource with one value has no term. One with two values has a term
whose coefficient and exponent cannot be told apart. Where the logarithms of the resources lie on a line, as with one
fixed number of tokens per parameter, neither can the terms (arXiv 2605.08541). An E whose interval reaches 0 is not
determined, and with it the exponents are not: it may then be held at a value that is known from elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.power_sum import DELTA, EXPONENTS, SMALLEST, PowerSum, checked_points, levels
from analysis.tables.arrays import Floats
from scionlab.errors import UserError

RESAMPLES = 200  # each is a fit of its own
COLLINEAR = 0.95  # multiple correlation of logarithms above which terms can hardly be told apart
# Above this one there is no interval: on a single ray of tokens per parameter 95% intervals covered 62 to 87%.
ON_A_LINE = 0.99
RATIOS = 3  # distinct tokens per parameter that it takes to tell N from T
SPARE = 2  # points beyond the number of parameters, below which there is no interval
NO_FLOOR = 0.01  # an E below this share of the lowest loss is at its bound, 0
LARGEST = 0.9  # share of the largest budget from which on points are held out: budgets are rounded to whole steps


@dataclass(frozen=True)
class Term:
    """A resource and the names of its coefficient and exponent."""

    resource: str
    coefficient: str
    exponent: str


@dataclass(frozen=True)
class Form:
    """A law. `allocation` holds the exponents p, q of the best allocation's, p/(p + q); `allocates` says of what."""

    name: str
    terms: tuple[Term, ...]
    allocates: str
    allocation: tuple[str, str]

    @property
    def resources(self) -> tuple[str, ...]:
        """In the order of the terms."""
        return tuple(term.resource for term in self.terms)


SIZE = Term("n_params", "A", "a")
CHINCHILLA = Form("chinchilla", (SIZE, Term("tokens", "B", "b")), "n_params with compute", ("b", "a"))
THREE_TERM = Form(
    "three-term", (SIZE, Term("steps", "C", "c"), Term("batch_tokens", "D", "d")), "batch with tokens", ("c", "d")
)


@dataclass(frozen=True)
class HeldOut:
    """Errors in nats at the points whose `budget` is at least `at`, of the law fitted without them.

    `error` is the mean of predicted minus measured loss, `rms` the root mean square.
    """

    budget: str
    at: float
    n_points: int
    error: float
    rms: float


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law with its points.

    `status`: "ok"; "E undetermined", its interval reaches 0; "collinear", terms can hardly be told apart;
    "undetermined", a resource has two values only, and there is no interval; "too few", nothing is fitted. `parameters`
    are those of the fitted terms, `allocation` is the exponent of the best allocation (None without both its terms),
    `rms` the residuals' root mean square in nats. `floor` is the value that E was held at, None where it was fitted.
    `resampled` has E, coefficients and exponents of every resample, (R, 1 + 2 terms).
    """

    form: Form
    status: str
    parameters: Mapping[str, Estimate]
    allocation: Estimate | None
    rms: float | None
    held_out: HeldOut | None
    warnings: tuple[str, ...]
    x: tuple[tuple[float, ...], ...]
    loss: tuple[float, ...]
    floor: float | None = None
    resampled: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Those that are fitted."""
        return tuple(term for term in self.form.terms if term.exponent in self.parameters)

    @cached_property
    def profiles(self) -> Mapping[str, Estimate]:
        """E, where it is fitted, and the exponents, with profile intervals; empty where there are no resamples."""
        if self.resampled is None:
            return {}
        rows = [self.form.resources.index(term.resource) for term in self.terms]
        problem = PowerSum(np.array(self.x)[rows], np.array(self.loss), self.floor)
        names = ["E", *(term.coefficient for term in self.terms), *(term.exponent for term in self.terms)]
        best = np.array([self.parameters[name].value for name in names])
        of = [*(["E"] if self.floor is None else []), *names[len(rows) + 1 :]]
        return {
            name: Estimate(float(best[i]), *problem.profile(best, i, CONFIDENCE))
            for i, name in enumerate(names)
            if name in of
        }

    def predict(self, *x: ArrayLike) -> Floats:
        """Loss in nats per token at values of the form's resources, in its order and of shapes that broadcast.

        A resource without a term does not matter. UserError if nothing was fitted.
        """
        if not self.parameters:
            raise UserError(f"scaling law {self.form.name!r}: nothing was fitted; {'; '.join(self.warnings)}")
        given = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in x))
        of = dict(zip(self.form.resources, given, strict=True))
        powers = [
            self.parameters[term.coefficient].value * of[term.resource] ** -self.parameters[term.exponent].value
            for term in self.terms
        ]
        return np.asarray(self.parameters["E"].value + sum(powers))

    def points(self) -> pd.DataFrame:
        """One row per point: its resources, `val_loss` and `predicted` (NaN if nothing was fitted)."""
        data = pd.DataFrame(dict(zip(self.form.resources, self.x, strict=True)))
        return data.assign(val_loss=self.loss, predicted=self.predict(*self.x) if self.parameters else np.nan)

    def frame(self) -> pd.DataFrame:
        """One row per parameter, and one for the exponent of the best allocation."""
        rows = dict(self.parameters)
        if self.allocation is not None:
            rows[self.form.allocates] = self.allocation
        return pd.DataFrame(
            {"law": self.form.name, "status": self.status, "parameter": name, **asdict(estimate)}
            for name, estimate in rows.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        about = asdict(replace(self, resampled=None))
        del about["resampled"]
        return {"confidence": CONFIDENCE, "huber_delta": DELTA, **about}


def fit_chinchilla(
    n_params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    seed: int = 0,
    resamples: int = RESAMPLES,
    floor: float | None = None,
) -> ScalingLaw:
    """L(N, T) from n points: parameters with embeddings, tokens, and nats per token, each (n,).

    `seed` and `resamples` are the bootstrap's. `floor`: a value in nats to hold E at, 0 or more; by default it is
    fitted. UserError if lengths differ, a value is not finite and positive, or the floor is not below all losses.
    """
    x, y = checked_points(CHINCHILLA.resources, (n_params, tokens), loss)
    if floor is not None and not 0 <= floor < y.min():
        raise UserError(
            f"floor: {floor!r} is not allowed; it must be 0 or more, and below the lowest loss, {y.min():.6g}"
        )
    law = _fit(CHINCHILLA, x, y, x[1], seed, resamples, floor)
    ratios = int(levels(x[1] / x[0]).max()) + 1
    if len(law.terms) < len(CHINCHILLA.terms) or ratios >= RATIOS:
        return law
    warning = f"distinct tokens per parameter: {ratios}, fewer than {RATIOS}; N and T can hardly be told apart"
    status = "collinear" if law.status == "ok" else law.status
    return replace(law, status=status, warnings=(*law.warnings, warning))


def fit_three_term(
    n_params: ArrayLike,
    steps: ArrayLike,
    batch_tokens: ArrayLike,
    loss: ArrayLike,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ScalingLaw:
    """L(N, K, B) from n points, with B in tokens a step; otherwise like `fit_chinchilla`."""
    x, y = checked_points(THREE_TERM.resources, (n_params, steps, batch_tokens), loss)
    return _fit(THREE_TERM, x, y, x[1] * x[2], seed, resamples)


def _fit(
    form: Form, x: Floats, loss: Floats, tokens: Floats, seed: int, resamples: int, floor: float | None = None
) -> ScalingLaw:
    """The law of all points with its held-out check; `tokens` (n,) are the points' budgets."""
    law = _fit_points(form, x, loss, seed, resamples, floor)
    if not law.parameters:
        return law
    budget, sizes = ("tokens", tokens) if levels(tokens).any() else ("n_params", x[0])
    out = sizes >= LARGEST * sizes.max()
    rest = _fit_points(form, x[:, ~out], loss[~out], seed, 0, floor) if not out.all() else law
    if out.all() or rest.terms != law.terms or rest.status == "undetermined":
        return replace(law, warnings=(*law.warnings, f"no held-out check: too few points have fewer {budget}"))
    errors = rest.predict(*x[:, out]) - loss[out]
    rms = float(np.sqrt(np.mean(errors**2)))
    held_out = HeldOut(budget, float(sizes[out].min()), int(out.sum()), float(errors.mean()), rms)
    return replace(law, held_out=held_out)


def _fit_points(form: Form, x: Floats, loss: Floats, seed: int, resamples: int, floor: float | None) -> ScalingLaw:
    varies = [bool(levels(row).any()) for row in x]
    terms = [term for term, many in zip(form.terms, varies, strict=True) if many]
    warnings = [
        f"{name} has one value: E holds its term" for name, many in zip(form.resources, varies, strict=True) if not many
    ]
    points = tuple(tuple(row) for row in x.tolist())
    nothing = ScalingLaw(
        form, "too few", {}, None, None, None, tuple(warnings), points, tuple(loss.tolist()), floor=floor
    )
    problem = PowerSum(x[varies], loss, floor)
    if not terms or problem.n_points < problem.n_parameters:
        return replace(nothing, warnings=(*warnings, f"nothing is fitted: {_few(problem)}"))
    best = problem.fit()
    status, found = _judge(problem, terms, best)
    enough = problem.n_points >= problem.n_parameters + SPARE and problem.correlation()[0] < ON_A_LINE
    usable = status != "undetermined" and enough and resamples > 0
    sample = problem.resampled(best, resamples, np.random.default_rng(seed)) if usable else None
    if usable and sample is None:
        found.append("fewer than half of the resamples determine the law: there is no interval")
    parameters = _named(terms, best, sample, floor)
    low = parameters["E"].low
    if low is not None and low < NO_FLOOR * loss.min():
        found.append(
            "E is not determined: its interval reaches 0, and the exponents go with it; hold it if it is known"
        )
        status = "E undetermined" if status == "ok" else status
    law = replace(
        nothing,
        status=status,
        parameters=parameters,
        allocation=_allocation(form, terms, best, sample),
        warnings=(*warnings, *found),
        resampled=sample,
    )
    return replace(law, rms=float(np.sqrt(np.mean((law.predict(*x) - loss) ** 2))))


def _few(problem: PowerSum) -> str:
    return f"distinct points: {problem.n_points}, parameters: {problem.n_parameters}"


def _judge(problem: PowerSum, terms: Sequence[Term], best: Floats) -> tuple[str, list[str]]:
    """Status of a fit, and what to warn of."""
    status, warnings = "ok", []
    correlation, worst = problem.correlation()
    if correlation > COLLINEAR:
        others = " and ".join(f"log {term.resource}" for i, term in enumerate(terms) if i != worst)
        warnings.append(
            f"log {terms[worst].resource} follows from {others} with correlation {correlation:.3f}, above {COLLINEAR}: "
            f"their terms can hardly be told apart{', and there is no interval' if correlation >= ON_A_LINE else ''}"
        )
        status = "collinear"
    for term, index in zip(terms, problem.levels, strict=True):
        if index.max() < 2:
            warnings.append(f"{term.resource} has two values: {term.coefficient} and {term.exponent} are undetermined")
            status = "undetermined"
    if problem.n_points < problem.n_parameters + SPARE:
        warnings.append(f"{_few(problem)}; there is no interval with fewer than {SPARE} points to spare")
    return status, warnings + _at_bounds(problem, terms, best)


def _at_bounds(problem: PowerSum, terms: Sequence[Term], best: Floats) -> list[str]:
    """What sits at a bound, where the law's form does not hold or the points do not determine it."""
    warnings, count = [], len(terms)
    if problem.floor is None and best[0] < NO_FLOOR * problem.loss.min():
        warnings.append(f"E is at its bound 0 ({best[0]:.2g}): the losses show no floor")
    shares = best[1 : count + 1] * problem.centres ** -best[count + 1 :] / problem.loss.min()
    for term, share, exponent in zip(terms, shares, best[count + 1 :], strict=True):
        if share < 2 * SMALLEST:
            warnings.append(f"the term of {term.resource} is at its bound 0: the loss does not fall with it")
        elif not EXPONENTS[0] * 1.01 < exponent < EXPONENTS[1] * 0.99:
            warnings.append(f"{term.exponent} is at its bound {exponent:.2g}: the losses do not determine it")
    return warnings


def _named(terms: Sequence[Term], best: Floats, sample: Floats | None, floor: float | None) -> dict[str, Estimate]:
    """Estimates of E and of every term's coefficient and exponent, from vectors as `PowerSum` orders them."""
    columns = {} if floor is not None else {"E": 0}
    for i, term in enumerate(terms, start=1):
        columns |= {term.coefficient: i, term.exponent: len(terms) + i}
    found = {name: Estimate.of(best[i], None if sample is None else sample[:, i]) for name, i in columns.items()}
    return found if floor is None else {"E": Estimate(floor)} | found


def _allocation(form: Form, terms: Sequence[Term], best: Floats, sample: Floats | None) -> Estimate | None:
    names = [term.exponent for term in terms]
    if not set(form.allocation) <= set(names):
        return None
    first, second = (len(terms) + 1 + names.index(name) for name in form.allocation)

    def share(of: Floats) -> Floats:
        return np.asarray(of[..., first] / (of[..., first] + of[..., second]))

    return Estimate.of(float(share(best)), None if sample is None else share(sample))

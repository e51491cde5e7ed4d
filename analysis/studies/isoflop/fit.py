"""How the best network size grows with operations, by the three approaches of Hoffmann et al. (arXiv 2203.15556)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.laws.compute_optimal import allocate
from analysis.laws.points import OPERATIONS, Points, points_of
from analysis.laws.scaling_laws import CHINCHILLA, ScalingLaw, fit_chinchilla
from analysis.studies.isoflop.result import AROUND, Design, Growth, Isoflop, SourceValleys, approach
from analysis.studies.isoflop.settings import IsoflopSettings
from analysis.studies.isoflop.valleys import FEWEST, Budget, Lowest, budgets_of, envelope, lowest, reread
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables

BEYOND = (3.0, 10.0)  # times the largest measured number of operations
ENOUGH = 3  # budgets for an interval: a line through two has no scatter


def fit_isoflop(tables: SweepTables, seed: int = 0) -> Isoflop:
    """Fit every method's or source's points (`analysis.laws.points`); `seed` is the bootstrap's of the law.

    UserError for runs without sizes.
    """
    settings = IsoflopSettings.parse(tables.settings)
    return Isoflop(tuple(_source(points, settings, seed) for points in points_of(tables.runs)))


def _source(points: Points, settings: IsoflopSettings, seed: int) -> SourceValleys:
    budgets = budgets_of(points.frame)
    found = {curve: [lowest(budget, curve) for budget in budgets] for curve in FEWEST}
    frame = points.frame
    law = fit_chinchilla(frame["n_params"], frame["tokens"], frame["val_loss"], seed, floor=settings.floor)
    growths = [
        _by_envelope(frame),
        *(_with_bias(_by_valleys(approach(curve), of), budgets, curve, law) for curve, of in found.items()),
        _by_law(law, float(frame["flops"].max())),
    ]
    known = tuple(growth for growth in growths if growth is not None)
    chosen = next((growth for growth in known if growth.approach == approach(settings.curve)), None)
    verdict, lacks = _verdict(chosen, found[settings.curve])
    flops = settings.flops or tuple(float(frame["flops"].max()) * factor for factor in BEYOND)
    return SourceValleys(
        name=points.name,
        curve=settings.curve,
        budgets=tuple(budgets),
        lowest=tuple(found[settings.curve]),
        growths=known,
        why_no_law="" if _determined(law) else "; ".join(law.warnings) or law.status,
        designs=tuple(_design(chosen, at) for at in sorted(flops)) if chosen is not None and not lacks.missing else (),
        left_out=points.left_out,
        verdict=verdict,
        lacks=lacks,
    )


def _by_valleys(name: str, found: Sequence[Lowest]) -> Growth | None:
    """A line in logarithms through the budgets whose lowest point counts; None for fewer than two."""
    kept = [each for each in found if not each.why]
    if len(kept) < 2:
        return None
    flops, n_params, tokens = np.array([(each.flops, each.n_params, each.tokens) for each in kept]).T
    size, intercept = _line(flops, n_params)
    return Growth(name, size, _line(flops, tokens)[0], intercept, len(kept), len(found))


def _line(flops: Floats, values: Floats) -> tuple[Estimate, float]:
    """The exponent with Student's interval from the scatter about the line, and log of the value at C = 1."""
    line = stats.linregress(np.log(flops), np.log(values))
    if len(flops) < ENOUGH:
        return Estimate(float(line.slope)), float(line.intercept)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(flops) - 2) * line.stderr)
    return Estimate(float(line.slope), float(line.slope - half), float(line.slope + half)), float(line.intercept)


def _by_envelope(points: pd.DataFrame) -> Growth | None:
    """Approach 1. It has no interval: neighbouring numbers of operations share their best size."""
    best = envelope(points)
    if best["n_params"].nunique() < ENOUGH:
        return None
    flops = best["flops"].to_numpy(float)
    size, intercept = _line(flops, best["n_params"].to_numpy(float))
    tokens, _ = _line(flops, best["tokens"].to_numpy(float))
    return Growth("1: envelope", Estimate(size.value), Estimate(tokens.value), intercept)


def _by_law(law: ScalingLaw, flops: float) -> Growth | None:
    """Approach 3."""
    if not _determined(law) or law.allocation is None:
        return None
    size, best = law.allocation, allocate(law, flops)
    intercept = float(np.log(best.n_params.value) - size.value * np.log(flops))
    return Growth("3: law", size, size.from_one(), intercept)


def _determined(law: ScalingLaw) -> bool:
    return law.status == "ok" and len(law.terms) == len(CHINCHILLA.terms)


def _with_bias(growth: Growth | None, budgets: Sequence[Budget], curve: str, law: ScalingLaw) -> Growth | None:
    """With the exponent that the curve finds in the law's own losses at the measured points, minus the law's."""
    if growth is None or not _determined(law) or law.allocation is None:
        return growth
    losses = [law.predict(np.exp(budget.log_n), np.exp(budget.log_t)) for budget in budgets]
    found = _by_valleys("", [lowest(budget, curve) for budget in reread(budgets, losses)])
    return growth if found is None else replace(growth, bias=found.size.value - law.allocation.value)


def _verdict(growth: Growth | None, found: Sequence[Lowest]) -> tuple[Outcome, Lacks]:
    if growth is not None and growth.size.low is not None:
        return Outcome.FOUND, SETTLED
    few = any(each.why for each in found)
    return Outcome.CANNOT_TELL, Lacks.of([Missing.SIZES] if few and len(found) >= ENOUGH else [Missing.BUDGETS])


def _design(growth: Growth, flops: float) -> Design:
    sizes = growth.best(flops) * np.array(AROUND)
    return Design(flops, tuple(sizes.tolist()), tuple((flops / (OPERATIONS * sizes)).tolist()))

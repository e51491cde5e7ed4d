"""Convergence: do methods on a problem with known constants reach the rates that theory promises, horizon by horizon?

Every arm (a method with its momentum schedule, on one kind of noise) is run to several horizons n, each with the step
size the theorem sets for it (arXiv 2502.07529, 2506.01913):

    momentum α       γ            noise    E ‖∇f(x̄)‖_* is O(·)
    constant         n^(−1/2)     none     n^(−1/2)
    constant         n^(−1/2)     some     n^(−1/2) + σ           a noise floor is allowed: may stall
    1/√k             n^(−3/4)     any      n^(−1/4)
    clipped, const.  constant     none     n^(−1/2), and f never rises
    ALMOND           any          some     averages LMOs, which are biased: stalls

with step sizes that stay the same over a run. x̄ is drawn evenly from the run; the left-hand side is measured as the
mean of ‖∇f‖_* over the watched steps, which are evenly spaced (the watched gradient has no noise). The start is left
out: it would stand for all steps up to the next watched one, most of which are nearer to the end of the way, and what
bounds the mean over a run in which ‖∇f‖_* falls bounds the mean over its later steps, too. Theorems on constrained
methods bound the Frank-Wolfe gap max_u ⟨∇f, x − u⟩ over the ball of radius ρ. For a convex f whose minimizer lies δ
inside it, δ ‖∇f‖_* ≤ gap ≤ 2ρ ‖∇f‖_*: they have the same rate, and ‖∇f‖_* is shown for all.

The exponent in n is the slope of `analysis.fits.trend`. A rate is an upper bound: steeper is fine.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate, student
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, all_of, record
from analysis.fits.seeds import more_seeds
from analysis.fits.trend import Trend, trend
from analysis.studies.convergence.arms import Arm, arms
from analysis.studies.convergence.settings import ConvergenceSettings
from analysis.tables import keys
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import refuse_repeated, watched
from scionlab.errors import UserError

TOLERANCE = 0.05  # how much flatter than its rate an exponent may be
# An arm stalls if over its last horizons the exponent lies within this: half of the slowest rate.
STALLED = 0.125
LAST = 4  # horizons at the end that say whether an arm stalls
ROUNDING = 1e-6  # of f at the start: a smaller rise of f is that of float32
RESOLVED = 1e-5  # of ‖∇f‖_* at the start: below it is what float32 leaves of a gradient that should be 0


@dataclass(frozen=True)
class Convergence:
    """An arm's exponent in n over all horizons and over the `LAST` of them, and ‖∇f‖_* at the longest (`level`).

    `converged`: there, it is below what float32 resolves, and exponents say nothing any more.
    """

    arm: Arm
    verdict: Outcome
    exponent: Estimate | None
    last: Estimate | None
    level: Estimate
    converged: bool
    horizons: tuple[int, ...]
    n_seeds: int
    n_diverged: int
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class Descent:
    """The largest rise of f between two logged points of any run without noise, as a share of f at the start.

    Runs of more steps than the curve has points log means over several; there, a rise of those is looked for.
    """

    arm: Arm
    verdict: Outcome
    rise: float
    horizon: int
    n_runs: int


@dataclass(frozen=True)
class ConvergenceFit:
    """All arms. `points` has a row per run: its horizon, rate and metric."""

    arms: tuple[Convergence, ...]
    descents: tuple[Descent, ...]
    points: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "confidence": CONFIDENCE,
            "tolerance": TOLERANCE,
            "stalled_within": STALLED,
            "resolved": RESOLVED,
            "arms": [record(arm) for arm in self.arms],
            "descents": [record(descent) for descent in self.descents],
        }

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "convergence": pd.DataFrame(map(_row, self.arms)),
            "descent": pd.DataFrame({**record(d), "arm": d.arm.name} for d in self.descents),
            "horizons": self.points,
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """One per arm, and one per arm without noise on its descent."""
        rates = [Judgement(found.arm.name, found.verdict, found.lacks) for found in self.arms]
        return (*rates, *(Judgement(f"{d.arm.name}: descent", d.verdict) for d in self.descents))

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per arm, as text."""
        tables = [("Convergence (exponents of the horizon n)", pd.DataFrame(map(texts, self.arms)))]
        if self.descents:
            rises = [
                {"arm": d.arm.name, "largest rise of f": f"{d.rise:.2g} f(W⁰)", "verdict": d.verdict}
                for d in self.descents
            ]
            tables.append(("Descent without noise", pd.DataFrame(rises)))
        return tables


def texts(found: Convergence) -> dict[str, str]:
    """An arm as a row of texts."""
    return {
        "arm": found.arm.name,
        "γ ∝": "–" if found.arm.lr_exponent is None else f"n^{found.arm.lr_exponent:+.2f}",
        "theory": found.arm.theory,
        "exponent": found.exponent.text("+.2f") if found.exponent else "–",
        f"of the last {LAST}": found.last.text("+.2f") if found.last else "–",
        "at the longest": found.level.text(".2g"),
        "verdict": found.verdict,
    }


def _row(found: Convergence) -> dict[str, Any]:
    row: dict[str, Any] = {**record(found.arm), "verdict": found.verdict}
    for name, estimate in (("exponent", found.exponent), ("last", found.last), ("level", found.level)):
        row |= (estimate or Estimate(np.nan)).columns(name)
    return row | {
        "converged": found.converged,
        "n_horizons": len(found.horizons),
        "n_seeds": found.n_seeds,
        "n_diverged": found.n_diverged,
    }


def fit_convergence(tables: SweepTables) -> ConvergenceFit:
    """Fit the finished runs that watched their layers; the sweep's settings are `ConvergenceSettings`.

    UserError if none did, if no arm has two horizons, if a horizon of an arm has runs that share a seed, or if settings
    name an arm that is not there.
    """
    settings = ConvergenceSettings.parse(tables.settings)
    seen, rows = watched(tables, ["grad_dual"], "convergence")
    runs = seen.assign(arm=keys.labels(seen, settings.series, "settings.series"))
    known = {arm.name: arm for arm in arms(runs, settings)}
    refuse_repeated(runs.assign(optimizer=runs["arm"]), ["steps", "seed"])
    if runs.groupby("arm")["steps"].nunique().max() < 2:
        raise UserError("runs: no arm has two horizons (numbers of steps); convergence compares several")
    points = runs.merge(mean_dual(rows), left_on="trial_id", right_index=True)
    points = points[["arm", "steps", "seed", "lr", "trial_id", "grad_dual", "start"]]
    points = points.sort_values(["arm", "steps", "seed"], ignore_index=True)
    found = tuple(
        _converge(arm, runs[runs["arm"] == name], points[points["arm"] == name]) for name, arm in known.items()
    )
    noiseless = [name for name, arm in known.items() if arm.noiseless]
    losses = losses_of(tables, runs.loc[runs["arm"].isin(noiseless), "trial_id"].tolist())
    descents = [_descent(known[name], runs[runs["arm"] == name], losses) for name in noiseless]
    return ConvergenceFit(found, tuple(d for d in descents if d), points)


def mean_dual(rows: pd.DataFrame) -> pd.DataFrame:
    """By trial: ‖∇f‖_*, the sum over layers, as its mean over the watched steps after the `start`, and there."""
    duals = rows[rows["grad_dual"].notna()].groupby(["trial_id", "step"], as_index=False)["grad_dual"].sum()
    by_trial = {True: "grad_dual", False: "start"}
    means = {
        name: duals[(duals["step"] > 0) == later].groupby("trial_id")["grad_dual"].mean()
        for later, name in by_trial.items()
    }
    return pd.DataFrame(means)


def _converge(arm: Arm, runs: pd.DataFrame, points: pd.DataFrame) -> Convergence:
    points = points[np.isfinite(points["grad_dual"])]
    horizons = tuple(int(n) for n in sorted(points["steps"].unique()))
    longest = points[points["steps"] == max(horizons, default=0)]
    converged = len(longest) > 0 and bool((longest["grad_dual"] <= RESOLVED * longest["start"]).all())
    positive = points[points["grad_dual"] > 0]
    end = positive[positive["steps"].isin(horizons[-LAST:])]
    whole, last = (trend(some["steps"], some["grad_dual"]) for some in (positive, end))
    last = last if last and len(horizons) > LAST else whole
    exponent, tail = whole.slope if whole else None, last.slope if last else None
    n_diverged = int((runs["status"] == "diverged").sum())
    outcome = verdict(arm, exponent, tail, n_diverged, converged)
    return Convergence(
        arm=arm,
        verdict=outcome,
        exponent=exponent,
        last=tail,
        level=_level(longest["grad_dual"]),
        converged=converged,
        horizons=horizons,
        n_seeds=int(runs["seed"].nunique()),
        n_diverged=n_diverged,
        lacks=_lacks(arm, whole, last, n_diverged, converged) if outcome.open else SETTLED,
    )


def _level(values: "pd.Series[float]") -> Estimate:
    """Geometric mean over seeds with Student's interval of the logarithms; 0 if one of them is."""
    if values.empty or (values == 0).any():
        return Estimate(np.nan if values.empty else 0.0)
    logs = student(pd.Series(np.log2(values.to_numpy(float)))) or Estimate(np.nan)
    low, high = (None if end is None else float(2**end) for end in (logs.low, logs.high))
    return Estimate(float(2**logs.value), low, high)


def verdict(
    arm: Arm, exponent: Estimate | None, last: Estimate | None, n_diverged: int = 0, converged: bool = False
) -> Outcome:
    """What the intervals of the exponents over all and over the last horizons allow to say.

    The last ones must not contradict a rate that all of them reach: a line that falls and then stalls reaches none. An
    arm that has converged, whatever its exponent on the way, has reached any rate.
    """
    if arm.rate is None and not arm.may_stall:
        return Outcome.NO_THEOREM
    if arm.rate is not None and converged:
        return Outcome.CANNOT_TELL if n_diverged else Outcome.REACHES
    ends = [(e.low, e.high) for e in (exponent, last) if e and e.low is not None and e.high is not None]
    if len(ends) < 2:
        return Outcome.CANNOT_TELL
    (_, high), (last_low, last_high) = ends
    if arm.rate is None:
        return _floor(last_low, last_high)
    if any(low > arm.rate + TOLERANCE for low, _ in ends):
        return Outcome.SLOWER
    reached = high <= arm.rate + TOLERANCE and not n_diverged
    return Outcome.REACHES if reached else Outcome.CANNOT_TELL


def _floor(low: float, high: float) -> Outcome:
    if high < -STALLED:
        return Outcome.FALLS
    if low > STALLED:
        return Outcome.RISES
    return Outcome.STALLS if low >= -STALLED and high <= STALLED else Outcome.CANNOT_TELL


def _lacks(arm: Arm, whole: Trend | None, last: Trend | None, n_diverged: int, converged: bool) -> Lacks:
    """What an arm lacks of which one cannot tell: runs that do not diverge, and what its lines lack.

    A rate is decided by the line over all horizons, a floor by that over the last.
    """

    def judge(slope: Estimate) -> Outcome:
        return verdict(arm, slope, slope)

    lacks = [Lacks.of([Missing.STABLE_RATES] if n_diverged else [])]
    deciding = last if arm.rate is None else whole
    for line in () if arm.rate is not None and converged else (whole, last):
        if line is None:
            lacks.append(Lacks.of([Missing.LONGER]))
        elif line.slope.low is None:
            lacks.append(more_seeds(line.n_seeds))
        elif line is deciding and judge(line.slope).open:
            seeds = None if line.bent else more_seeds(line.n_seeds, line.slope, judge, line.n_sizes)
            lacks.append(seeds or Lacks.of([Missing.LONGER]))
    return all_of(lacks)


def _descent(arm: Arm, runs: pd.DataFrame, curves: Mapping[str, "pd.Series[float]"]) -> Descent | None:
    """None if no curve of the arm is in the store."""
    found: list[tuple[float, int]] = []
    for run in runs[runs["status"] == "ok"].to_dict("records"):
        losses = curves.get(run["trial_id"])
        if losses is not None and len(losses) > 1:
            found.append((float(max(0.0, losses.diff().max() / losses.iloc[0])), int(run["steps"])))
    if not found:
        return None
    rise, horizon = max(found)
    outcome = Outcome.DESCENDS if rise <= ROUNDING else Outcome.RISES
    return Descent(arm, outcome, rise, horizon, len(found))


def losses_of(tables: SweepTables, trial_ids: Collection[str]) -> dict[str, "pd.Series[float]"]:
    """Logged losses by step of those of some trials that have any, by trial."""
    logged = tables.losses(trial_ids).dropna(subset="train_loss") if trial_ids else pd.DataFrame({"trial_id": []})
    return {
        str(trial): rows.set_index("step")["train_loss"].sort_index().astype(float)
        for trial, rows in logged.groupby("trial_id")
    }

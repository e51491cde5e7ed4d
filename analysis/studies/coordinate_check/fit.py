"""Coordinate check: do activations, and what training changes of them, keep their size as the network gets wider?

Feature learning wants ‖h‖_RMS and ‖Δh‖_RMS = ‖h − h⁰‖_RMS of every layer to be Θ(1) at every width (arXiv 2310.17813).
Every method is trained for a few steps at one learning rate, the same at all widths. After the last of them, of every
kind of layer (the same place in all blocks, their root mean square) and of the model's output, the logits:

    ‖h‖_RMS  ∝ width^a         ‖Δh‖_RMS ∝ width^b         slopes with their intervals: `analysis.fits.trend`

A slope is `within` if its whole interval lies in ±TOLERANCE, `beyond` if all of it lies outside. Both signs count: what
grows ends in divergence, what shrinks is a layer that stops to learn. One thing may shrink: ‖h‖ of the logits, because
an output that starts at 0, or in μP ∝ width^(−1/2), is meant to fade beside what is learnt. The head's raw output does
not count: some methods multiply it by a constant, and the logits are that product.

A method passes if every slope is within, fails if one is beyond; otherwise nobody can tell.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, all_of, record
from analysis.fits.seeds import more_seeds
from analysis.fits.trend import trend
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import LOGITS, kinds, module_of, refuse_repeated, watched
from scionlab.errors import UserError

# Exponents of the width are multiples of 1/2 in theory (1 where a step adds up coherently, ±1/2 where signs are
# random), so a slope within 1/4 is nearer to 0 than to any other. Over 10× the width it is less than a factor of 1.8.
TOLERANCE = 0.25

# What is measured of a layer, and how it is written.
QUANTITIES = {"output_rms": "‖h‖", "output_change_rms": "‖Δh‖"}


@dataclass(frozen=True)
class LayerSlope:
    """Slope of one quantity of one kind of layer; None, and `why`, where it has no logarithm at some width.

    `misfit` is how far the means lie from the line, in units of the seeds' scatter.
    """

    optimizer: str
    kind: str
    quantity: str
    slope: Estimate | None
    misfit: float | None
    verdict: Outcome
    why: str
    lacks: Lacks = SETTLED

    @property
    def may_shrink(self) -> bool:
        """Whether a negative slope is no complaint."""
        return _may_shrink(self.kind, self.quantity)

    @property
    def name(self) -> str:
        """What goes with the width."""
        return f"{QUANTITIES[self.quantity]} of {self.kind}"


@dataclass(frozen=True)
class MethodCheck:
    """A method's verdict. `worst` is the slope that decides it: of a method that fails the steepest that is beyond the
    tolerance, else the one whose interval reaches farthest. None if no slope is known.

    `widths` are those that trained; `step` is the last that was watched.
    """

    optimizer: str
    verdict: Outcome
    worst: LayerSlope | None
    slopes: tuple[LayerSlope, ...]
    lr: float
    step: int
    widths: tuple[int, ...]
    n_seeds: int
    n_diverged: int
    lacks: Lacks = SETTLED

    @property
    def unknown(self) -> tuple[LayerSlope, ...]:
        """Those without a slope."""
        return tuple(slope for slope in self.slopes if slope.slope is None)


@dataclass(frozen=True)
class CoordinateCheck:
    """All methods. `sizes` has a row per method, kind, width and seed: the quantities after the last step."""

    methods: tuple[MethodCheck, ...]
    sizes: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"confidence": CONFIDENCE, "tolerance": TOLERANCE, "methods": [record(m) for m in self.methods]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {"coordinate": pd.DataFrame(_row(s) for m in self.methods for s in m.slopes), "sizes": self.sizes}

    def judgements(self) -> tuple[Judgement, ...]:
        """One per method."""
        return tuple(Judgement(method.optimizer, method.verdict, method.lacks) for method in self.methods)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per method, as text."""
        title = f"Coordinate check (exponents of the width; tolerance ±{TOLERANCE:g})"
        return [(title, pd.DataFrame(texts(method) for method in self.methods))]


def texts(method: MethodCheck) -> dict[str, str]:
    """A method as a row of texts."""
    worst = method.worst
    return {
        "optimizer": method.optimizer,
        "widths": ", ".join(map(str, method.widths)),
        "lr": f"2^{np.log2(method.lr):.3g}",
        "steps": str(method.step),
        "worst": worst.name if worst else "–",
        "slope": worst.slope.text("+.2f") if worst and worst.slope else "–",
        "verdict": method.verdict,
    }


def _row(found: LayerSlope) -> dict[str, Any]:
    known = found.slope or Estimate(np.nan)
    return {
        "optimizer": found.optimizer,
        "kind": found.kind,
        "quantity": found.quantity,
        "slope": known.value,
        "slope_low": known.low,
        "slope_high": known.high,
        "misfit": found.misfit,
        "verdict": found.verdict,
        "why": found.why,
    }


def fit_coordinate(tables: SweepTables) -> CoordinateCheck:
    """Check the finished runs that watched their layers.

    UserError if none did, all diverged, or a method has several learning rates, or runs of one width and seed, or of
    different length, or no method has two widths.
    """
    runs, rows = watched(tables, [*QUANTITIES], "a coordinate check")
    refuse_repeated(runs, ["width", "seed"])
    if runs.groupby("optimizer")["width"].nunique().max() < 2:
        raise UserError(f"runs: all have width {runs['width'].iloc[0]}; a coordinate check compares several")
    sizes = layer_sizes(rows)
    methods = []
    for optimizer, mine in runs.groupby("optimizer", sort=True):
        if mine["lr"].nunique() > 1:
            rates = ", ".join(f"{rate:g}" for rate in sorted(mine["lr"].unique()))
            raise UserError(f"runs: lr of {optimizer!r} takes several values ({rates}); it must not change with width")
        methods.append(_method(str(optimizer), mine, _last(str(optimizer), sizes)))
    ends = pd.DataFrame({"optimizer": m.optimizer, "step": m.step} for m in methods)
    return CoordinateCheck(tuple(methods), sizes.merge(ends, on=["optimizer", "step"]))


def layer_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """Root mean square over the layers of a kind: a row per method, kind, width, seed and step.

    Kinds come in the network's order. A module's output is counted once, however many parameters it has; modules that
    hold the output layer are left out, and so are kinds that no run has an output of.
    """
    place = ["trial_id", "step"]
    rows = rows.assign(module=rows["layer"].map(module_of))
    heads = set(rows.loc[rows["role"] == "output", "module"])
    rows = rows[~rows["module"].isin(heads)].drop_duplicates([*place, "module"])
    rows = rows.assign(kind=kinds(rows), **{name: rows[name].astype(float) for name in QUANTITIES})
    order = {kind: i for i, kind in enumerate(dict.fromkeys(rows["kind"]))}
    keys = ["optimizer", "kind", "width", "seed", *place]
    found = rows.groupby(keys, as_index=False)[[*QUANTITIES]].agg(_root_mean_square)
    known = found.groupby("kind")["output_rms"].transform(lambda sizes: sizes.notna().any())
    found = found[known].assign(place=found["kind"].map(order))
    return found.sort_values(["optimizer", "place", "width", "seed", "step"], ignore_index=True).drop(columns="place")


def _root_mean_square(values: "pd.Series[float]") -> float:
    """NaN if one of them is."""
    return float(np.sqrt(np.mean(values.to_numpy(float) ** 2)))


def _last(optimizer: str, sizes: pd.DataFrame) -> pd.DataFrame:
    """The method's rows at the last step, the same for all of its runs; without any if all diverged."""
    mine = sizes[sizes["optimizer"] == optimizer]
    ends = mine.groupby("trial_id")["step"].max()
    if ends.nunique() > 1:
        steps = ", ".join(map(str, sorted(ends.unique())))
        raise UserError(f"runs: those of {optimizer!r} were last watched after different numbers of steps ({steps})")
    return mine[mine["step"] == ends.max()] if len(ends) else mine


def _method(optimizer: str, runs: pd.DataFrame, last: pd.DataFrame) -> MethodCheck:
    slopes = tuple(
        _slope(optimizer, str(kind), quantity, rows)
        for kind, rows in last.groupby("kind", sort=False)
        for quantity in QUANTITIES
    )
    n_diverged = int((runs["status"] == "diverged").sum())
    verdict = _verdict(slopes, n_diverged)
    beyond = [s for s in slopes if s.verdict == Outcome.BEYOND]
    worst = max(beyond, key=_steepness, default=None) or max((s for s in slopes if s.slope), key=_reach, default=None)
    return MethodCheck(
        optimizer=optimizer,
        verdict=verdict,
        worst=worst,
        slopes=slopes,
        lr=float(runs["lr"].iloc[0]),
        step=int(last["step"].max()) if len(last) else 0,
        widths=tuple(int(width) for width in sorted((last if len(last) else runs)["width"].unique())),
        n_seeds=int(runs["seed"].nunique()),
        n_diverged=n_diverged,
        lacks=_lacks(verdict, slopes, n_diverged),
    )


def _lacks(verdict: Outcome, slopes: tuple[LayerSlope, ...], n_diverged: int) -> Lacks:
    """What the slopes lack that keep a method from passing, and runs that do not diverge."""
    if not verdict.open:
        return SETTLED
    diverged = Lacks.of([Missing.STABLE_RATES] if n_diverged or not slopes else [])
    return all_of([diverged, *(slope.lacks for slope in slopes)])


def _slope(optimizer: str, kind: str, quantity: str, rows: pd.DataFrame) -> LayerSlope:
    values = rows[quantity]
    why, missing = "has one width", Missing.PLACES
    if not np.isfinite(values).all():
        why, missing = "was not measured in every run", Missing.RUNS
    elif (values <= 0).any():
        why, missing = "is 0 in some run: what is 0 has no exponent", Missing.LONGER
    found = trend(rows["width"], values) if missing == Missing.PLACES else None
    if found is None:
        return LayerSlope(optimizer, kind, quantity, None, None, Outcome.CANNOT_TELL, why, Lacks.of([missing]))
    may_shrink = _may_shrink(kind, quantity)
    says = judge(found.slope, may_shrink)
    lacks = Lacks.of([Missing.PLACES]) if says.open else SETTLED
    if says.open and not found.bent:
        lacks = more_seeds(found.n_seeds, found.slope, lambda slope: judge(slope, may_shrink), found.n_sizes)
    return LayerSlope(optimizer, kind, quantity, found.slope, found.misfit, says, "", lacks)


def _may_shrink(kind: str, quantity: str) -> bool:
    return kind == LOGITS and quantity == "output_rms"


def judge(slope: Estimate, may_shrink: bool = False) -> Outcome:
    """Whether the interval lies within the tolerance, beyond it, or across its edge."""
    if slope.low is None or slope.high is None:
        return Outcome.CANNOT_TELL
    if slope.low > TOLERANCE or (slope.high < -TOLERANCE and not may_shrink):
        return Outcome.BEYOND
    within = slope.high <= TOLERANCE and (may_shrink or slope.low >= -TOLERANCE)
    return Outcome.WITHIN if within else Outcome.CANNOT_TELL


def _steepness(found: LayerSlope) -> float:
    value = found.slope.value if found.slope else 0.0
    return value if found.may_shrink else abs(value)


def _reach(found: LayerSlope) -> float:
    """How far from 0 the interval goes, on the sides that count."""
    known = found.slope or Estimate(0.0)
    if known.low is None or known.high is None:
        return _steepness(found)
    return known.high if found.may_shrink else max(known.high, -known.low)


def _verdict(slopes: tuple[LayerSlope, ...], n_diverged: int) -> Outcome:
    """A slope beyond the tolerance is enough to fail. A run that diverged is in no slope: nothing passes with one."""
    says = {slope.verdict for slope in slopes}
    if Outcome.BEYOND in says:
        return Outcome.FAILS
    return Outcome.PASSES if says == {Outcome.WITHIN} and not n_diverged else Outcome.CANNOT_TELL

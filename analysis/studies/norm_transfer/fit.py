"""Norm transfer: at the best learning rate and batch size, is the output layer's norm the same at every scale?

Filatov et al. (arXiv 2510.03871) find that the optimal (γ, B) of every width and token budget T leaves the output layer
with the same ‖W‖_{RMS→∞} = √d_in max_i ‖row_i‖₂. Here, for every method, width and budget,

    (γ*, B*)     the best rate of every batch size, and the best batch (`analysis.fits.profile`)
    norm*        the norm after the last step there: straight in logarithms between the trained rates and batches
    log₂ norm* = c + a log₂ width + b log₂ T              least squares over the optima that their grid resolves

Intervals are percentiles of a bootstrap in which the seeds' noise of losses and norms is drawn anew and the optimum is
chosen anew, so they include the choice; where the optima miss the plane by more than that noise, they are widened by
the ratio. One seed has no noise to draw from, and no interval.

The norm "held" if the intervals of a and b lie within ±TOLERANCE, "did not hold" if one lies wholly beyond. Without
transfer the exponents would be multiples of 1/2: steps that add up give ‖W‖ ∝ K, those that do not √K. A constrained
method cannot leave its ball, so where ‖W‖ is close to ρ the ball fixes it, and not the optimum: `of_radius` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.cells import Budget, Cell, budgets_of, table_of_cells
from analysis.fits.intervals import CONFIDENCE, RESAMPLES, TAIL, Estimate, interval
from analysis.fits.open_ends import missing_around
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, record
from analysis.fits.profile import Profile, best_batch, drawn_profile, lr_along, profile, read_budgets
from analysis.fits.reading import Reading
from analysis.studies.norm_transfer.verdicts import TOLERANCE, lacks_of, verdict
from analysis.tables.arrays import Bools, Floats
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import refuse_repeated, watched
from scionlab.errors import UserError

NORM = "rms_to_max"


@dataclass(frozen=True)
class NormOptimum:
    """The optimum of one width and budget, and the output layer's norm there.

    `resolved`: it lies inside the grid, next to no divergence. `cut_off`: in more than 2.5% of the resamples it does
    not. `of_radius` is ‖W‖/ρ in the layer's own norm at the trained cell with the lowest loss; None without balls.
    """

    width: int
    tokens: float
    lr: float
    batch_size: float
    norm: Estimate | None
    loss: float
    of_radius: float | None
    resolved: bool
    cut_off: bool
    n_seeds: int
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class MethodTransfer:
    """A method's optima and the exponents of the norm there; None along an axis with one place.

    `misfit` is how far the optima lie from the plane, in units of their noise.
    """

    optimizer: str
    verdict: Outcome
    in_width: Estimate | None
    in_tokens: Estimate | None
    misfit: float | None
    optima: tuple[NormOptimum, ...]
    n_diverged: int
    lacks: Lacks = SETTLED

    @property
    def spread(self) -> float | None:
        """Largest norm over smallest among the resolved optima."""
        norms = [o.norm.value for o in self.optima if o.norm and o.resolved]
        return max(norms) / min(norms) if norms else None


@dataclass(frozen=True)
class NormTransfer:
    """All methods. `points` has a row per method, width, budget, batch and rate: means of loss and norm over seeds."""

    methods: tuple[MethodTransfer, ...]
    points: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        methods = [record(method) for method in self.methods]
        return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "tolerance": TOLERANCE, "methods": methods}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "norm_transfer": pd.DataFrame(_row(m.optimizer, o) for m in self.methods for o in m.optima),
            "norm_exponents": pd.DataFrame(map(_exponents, self.methods)),
            "norm_points": self.points,
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """One per method."""
        return tuple(Judgement(method.optimizer, method.verdict, method.lacks) for method in self.methods)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per method, as text."""
        title = f"Norm of the output layer at the optimum (exponents; tolerance ±{TOLERANCE:g})"
        return [(title, pd.DataFrame(map(texts, self.methods)))]


def texts(method: MethodTransfer) -> dict[str, str]:
    """A method as a row of texts."""
    return {
        "optimizer": method.optimizer,
        "norms": ", ".join(norm_text(optimum) for optimum in method.optima),
        "in width": method.in_width.text("+.2f") if method.in_width else "–",
        "in tokens": method.in_tokens.text("+.2f") if method.in_tokens else "–",
        "verdict": method.verdict,
    }


def norm_text(optimum: NormOptimum) -> str:
    """The norm in short, marked where the optimum is not resolved."""
    return f"{optimum.norm.value:.3g}{'' if optimum.resolved else '!'}" if optimum.norm else "–"


def _row(optimizer: str, optimum: NormOptimum) -> dict[str, Any]:
    row = {name: value for name, value in record(optimum).items() if name != "norm"}
    known = optimum.norm or Estimate(np.nan)
    return {"optimizer": optimizer, **row, "norm": known.value, "norm_low": known.low, "norm_high": known.high}


def _exponents(method: MethodTransfer) -> dict[str, Any]:
    row: dict[str, Any] = {"optimizer": method.optimizer, "verdict": method.verdict}
    for name, estimate in (("width", method.in_width), ("tokens", method.in_tokens)):
        known = estimate or Estimate(np.nan)
        row |= {f"in_{name}": known.value, f"in_{name}_low": known.low, f"in_{name}_high": known.high}
    return row | {"misfit": method.misfit, "n_diverged": method.n_diverged}


def fit_norm_transfer(tables: SweepTables, seed: int = 0) -> NormTransfer:
    """Fit the finished runs that watched their layers; `seed` is the bootstrap's.

    UserError if none did, if none has a matrix as output layer, if no method has two widths or two budgets, or if runs
    of one width, budget, batch size, rate and seed repeat.
    """
    runs, rows = watched(tables, [NORM, "norm", "radius"], "norm transfer")
    heads = rows[(rows["role"] == "output") & rows[NORM].notna()]
    if heads.empty:
        raise UserError(f"layers: no output layer has a {NORM}: there is no norm to compare")
    refuse_repeated(runs, ["width", "tokens_budget", "batch_size", "lr", "seed"])
    ends = heads.sort_values("step").groupby("trial_id").agg(
        norm=(NORM, "last"), own=("norm", "last"), radius=("radius", "last")
    )  # fmt: skip
    cells = table_of_cells(runs).merge(ends.reset_index(), on="trial_id", how="left").sort_values("trial_id")
    places = cells.groupby("optimizer")[["width", "budget"]].nunique()
    if int(places.to_numpy().max()) < 2:
        raise UserError("runs: all have one width and one token budget; norm transfer compares several of either")
    methods = tuple(
        _method(str(optimizer), mine, np.random.default_rng(seed))
        for optimizer, mine in cells.groupby("optimizer", sort=True)
    )
    keys = ["optimizer", "width", "budget", "batch_size", "lr"]
    ok = cells[(cells["status"] == "ok") & cells["norm"].notna()]
    means = ok.groupby(keys, as_index=False).agg(
        loss=("val_loss", "mean"), norm=("norm", "mean"), n_seeds=("seed", "nunique")
    )  # fmt: skip
    return NormTransfer(methods, means.rename(columns={"budget": "tokens"}))


def _method(optimizer: str, runs: pd.DataFrame, rng: np.random.Generator) -> MethodTransfer:
    by_width = [(int(rows["width"].iloc[0]), rows) for _, rows in runs.groupby("width", sort=True)]
    groups = [(width, budget, rows) for width, rows in by_width for budget in budgets_of(rows)]
    scatter = _scatter(runs)
    _, readings = read_budgets([budget for _, budget, _ in groups], RESAMPLES, rng, roughness=False)
    found = [
        _optimum(width, budget, rows, of_budget, scatter, rng)
        for (width, budget, rows), of_budget in zip(groups, readings, strict=True)
    ]
    in_width, in_tokens, misfit = _plane(found)
    optima = tuple(optimum for optimum, _ in found)
    outcome = verdict([in_width, in_tokens], optima)
    return MethodTransfer(
        optimizer=optimizer,
        verdict=outcome,
        in_width=in_width,
        in_tokens=in_tokens,
        misfit=misfit,
        optima=optima,
        n_diverged=int((runs["status"] == "diverged").sum()),
        lacks=lacks_of([in_width, in_tokens], optima, misfit) if outcome.open else SETTLED,
    )


def _scatter(runs: pd.DataFrame) -> Floats:
    """Single-seed noise of log₂ norm: the seeds' distances from their cell's mean, unbiased in variance."""
    logs = np.log2(runs["norm"].where(runs["status"] == "ok")).dropna()
    cells = logs.groupby([runs.loc[logs.index, name] for name in ("width", "budget", "batch_size", "lr")])
    counts = cells.transform("size")
    left = (logs - cells.transform("mean")) * np.sqrt(counts / (counts - 1).clip(lower=1))
    return left[counts > 1].to_numpy(float)


def _optimum(
    width: int,
    budget: Budget,
    runs: pd.DataFrame,
    readings: Sequence[Reading],
    scatter: Floats,
    rng: np.random.Generator,
) -> tuple[NormOptimum, Floats | None]:
    """The optimum, and log₂ of the norm there in resamples."""
    mine = runs[runs["budget"] == budget.tokens]
    norms = [_log_norms(cell, mine) for cell in budget.cells]
    at = profile(budget, readings)
    value, batch, inside = _norm_at(at, budget, norms)
    sample, cut_off = None, False
    lacks = SETTLED if inside[0] else Lacks.of(missing_around(at) or [Missing.RATES_CLOSER])
    drawn = drawn_profile(budget, readings)
    if drawn is not None and scatter.size:
        wobble = [rng.choice(scatter, (RESAMPLES, len(n), budget.n_seeds)).mean(axis=2) for n in norms]
        sample, _, ok = _norm_at(drawn, budget, [n + w for n, w in zip(norms, wobble, strict=True)])
        cut_off = float(np.mean(~ok)) > TAIL
        if cut_off:
            lacks = lacks | Lacks.of(missing_around(drawn) or [Missing.RATES_CLOSER])
        sample = sample if inside[0] else None
    means = mine[mine["status"] == "ok"].groupby(["batch_size", "lr"])[["val_loss", "own", "radius"]].mean()
    lowest = means.sort_values("val_loss").iloc[0]
    estimate = None
    if np.isfinite(value[0]):
        low, high = interval(sample)
        estimate = Estimate(float(2 ** value[0]), None if low is None else 2**low, None if high is None else 2**high)
    return NormOptimum(
        width=width,
        tokens=budget.tokens,
        lr=float(2 ** lr_along(at, batch)[0][0]),
        batch_size=float(2 ** batch[0]) / budget.cells[0].seq_len,
        norm=estimate,
        loss=float(lowest["val_loss"]),
        of_radius=None if pd.isna(lowest["radius"]) else float(lowest["own"] / lowest["radius"]),
        resolved=bool(inside[0]),
        cut_off=cut_off,
        n_seeds=budget.n_seeds,
        lacks=lacks,
    ), sample


def _log_norms(cell: Cell, runs: pd.DataFrame) -> Floats:
    """Mean over seeds of log₂ norm at every rate of a cell's curve, (J,); NaN where no run has one."""
    mine = runs[(runs["batch_size"] == cell.batch_size) & (runs["seq_len"] == cell.seq_len) & (runs["status"] == "ok")]
    means = np.log2(mine["norm"]).groupby(np.log2(mine["lr"])).mean()
    return means.reindex(cell.curve.x).to_numpy(float)


def _norm_at(of: Profile, budget: Budget, norms: Sequence[Floats]) -> tuple[Floats, Floats, Bools]:
    """log₂ of the norm at the best rate and batch of every resample, (R,), log₂ B*·S, and whether that is resolved.

    `norms` has log₂ norms (J,), or (R, J), of every cell. Straight between rates at every cell's own best rate, then
    straight between cells. With one batch size there is no best one to look for.
    """
    batch, inside = best_batch(of)
    columns = [
        _between(cell.curve.x, np.broadcast_to(norm, (len(batch), len(cell.curve.x))), of.lr[:, i])
        for i, (cell, norm) in enumerate(zip(budget.cells, norms, strict=True))
    ]
    value = _between(of.x, np.stack(columns, axis=1), batch)
    resolved = lr_along(of, batch)[1] & (inside if len(of.x) > 1 else True)
    return value, batch, resolved & np.isfinite(value)


def _between(x: Floats, y: Floats, at: Floats) -> Floats:
    """Value of every row of y (R, J) at its own abscissa `at` (R,), straight between x (J,); a point counts only if
    it has weight.
    """
    if len(x) == 1:
        return y[:, 0]
    rows = np.arange(len(at))
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    share = np.clip((at - x[left]) / (x[left + 1] - x[left]), 0, 1)
    low, high = y[rows, left], y[rows, left + 1]
    return np.where(share == 0, low, np.where(share == 1, high, (1 - share) * low + share * high))


def _plane(
    found: Sequence[tuple[NormOptimum, Floats | None]],
) -> tuple[Estimate | None, Estimate | None, float | None]:
    """Exponents of the norm in width and budget over the resolved optima, and Birge's ratio of their distances."""
    used = [(o, sample) for o, sample in found if o.resolved and o.norm]
    axes = np.array([[np.log2(o.width), np.log2(o.tokens)] for o, _ in used]).reshape(-1, 2)
    varied = [bool(np.ptp(column) > 0) if len(column) else False for column in axes.T]
    design = np.column_stack([np.ones(len(used)), axes[:, varied]])
    if not any(varied) or np.linalg.matrix_rank(design) < design.shape[1]:
        return None, None, None
    value = np.array([np.log2(o.norm.value) for o, _ in used if o.norm])
    solve = np.linalg.pinv(design)
    slopes = (solve @ value)[1:]
    drawn = [sample for _, sample in used if sample is not None]
    samples, misfit = None, None
    if len(drawn) == len(used):
        table = np.stack(drawn)
        misfit = _misfit(value - design @ (solve @ value), table.std(axis=1), len(used) - design.shape[1])
        samples = slopes[:, None] + max(1.0, misfit or 0.0) * ((solve @ table)[1:] - slopes[:, None])
    estimates = iter(Estimate.of(s, None if samples is None else samples[i]) for i, s in enumerate(slopes))
    in_width, in_tokens = (next(estimates) if vary else None for vary in varied)
    return in_width, in_tokens, misfit


def _misfit(left: Floats, noise: Floats, freedom: int) -> float | None:
    if freedom < 1 or not np.isfinite(noise).all() or (noise == 0).any():
        return None
    return float(np.sqrt(np.sum((left / noise) ** 2) / freedom))

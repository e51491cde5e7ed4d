"""The constants of the theory, from the probe rows of the curves table, and what they predict.

    L     mean over the late probes of ‖∇f(x⁺) − ∇f(x)‖_* / ‖x⁺ − x‖
    μ     slope of Huber's line of ‖∇f‖_* against the loss, over the late probes: ‖∇f‖_* ≥ μ(f − f⋆)
    κ     mean over the late probes of ‖g − ∇f‖_* / ‖g − ∇f‖₂, at the run's own batch size
    σ⋆²   B·S·E‖g − ∇f‖₂², likewise: the gradient's variance per token
    BS₂   (T μ κ σ⋆/L)^(2/3), in tokens, up to a constant                 (arXiv 2603.21191, theorem 4.1)

Where μ's line does not rise (its interval contains 0, or lies below), μ is read off the line through (E, 0) instead, E
being the floor of the fitted surface: the inequality with f⋆ = E. A probe is late when its loss has left the first half
of the way from the run's first probed loss to its last: the first steps have another curvature. Dual norms are those of
the network norm of `scionlab.geometry`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from analysis.fits.intervals import Estimate
from analysis.tables.arrays import Floats

PROBE = ("probe_batch_size", "probe_seq_len", "probe_loss", "grad_dual", "grad_variance", "norm_ratio", "smoothness")
RESAMPLES = 500
LATE = 0.5


@dataclass(frozen=True)
class RunConstants:
    """The constants measured during one run; None where its probes do not give one. `mu` in 1/norm, `noise` is σ⋆².

    `mu_at_floor` is μ of the line through the surface's floor; None where no floor is known.
    """

    trial_id: str
    tokens: float
    batch_size: float
    seq_len: float
    lr: float
    smoothness: float | None
    mu: Estimate | None
    mu_at_floor: float | None
    norm_ratio: float | None
    noise: float | None

    @property
    def drive(self) -> float | None:
        """μκσ⋆/L: what T is multiplied by in BS₂."""
        mu = self.mu.value if self.mu_rises and self.mu else self.mu_at_floor
        if mu is None or self.smoothness is None or self.norm_ratio is None or self.noise is None:
            return None
        # A slope that is not positive, or gradients that do not change, give no corner.
        if mu <= 0 or self.smoothness <= 0:
            return None
        return float(mu * self.norm_ratio * np.sqrt(self.noise) / self.smoothness)

    @property
    def mu_rises(self) -> bool:
        """Whether μ's line rises for sure: then it is the μ of `drive`."""
        return self.mu is not None and self.mu.low is not None and self.mu.low > 0


@dataclass(frozen=True)
class VarianceLaw:
    """E‖g − ∇f‖₂² = c · B^(−batch) · S^(−seq) by least squares in logarithms; independent tokens would have 1 and 1."""

    coefficient: float
    batch: Estimate
    seq: Estimate | None


@dataclass(frozen=True)
class Prediction:
    """BS₂(T) from one run's constants, times the one constant that fits it best to the measured batches.

    `error` is the root mean square distance in octaves that is left; `batch_tokens` are at `tokens`.
    """

    trial_id: str
    constant: float
    error: float
    tokens: tuple[float, ...]
    batch_tokens: tuple[float, ...]


@dataclass(frozen=True)
class Constants:
    """All probed runs of one optimizer, and the laws over them. κ ∝ B^(norm_ratio_exponent).

    `shared` holds every run's BS₂ at its own budget, from its own constants, against the measured batch there, with one
    constant for all: unlike a `Prediction` it also tests how the constants move from run to run.
    """

    runs: tuple[RunConstants, ...]
    mu: Estimate | None
    variance: VarianceLaw | None
    norm_ratio_exponent: Estimate | None
    predictions: tuple[Prediction, ...]
    shared: Prediction | None

    @property
    def kappa_batch_exponent(self) -> float | None:
        """For the rule with κ(B)."""
        return None if self.norm_ratio_exponent is None else self.norm_ratio_exponent.value


def probes_of(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The finite probe rows of some runs, with the run's tokens, batch_size, seq_len, lr and `late`."""
    if any(name not in curves for name in PROBE):
        return pd.DataFrame()
    rows = curves[curves["grad_dual"].notna()]
    budgets = runs.assign(budget=runs.get("budget", runs["tokens"]))  # as the sweep merged them, if it did
    named = budgets.loc[budgets["status"] == "ok", ["trial_id", "batch_size", "seq_len", "lr", "budget"]]
    rows = rows.drop(columns=["lr"]).merge(named, on="trial_id")
    values = rows[["probe_loss", "grad_dual", "grad_variance", "norm_ratio"]]
    rows = rows.loc[np.isfinite(values.to_numpy(float)).all(axis=1)]
    if rows.empty:
        return rows
    ordered = rows.sort_values(["trial_id", "step"])
    full = ordered[ordered["probe_seq_len"] == ordered["seq_len"]]
    # Windows cut short have higher losses: a probe is late, or not, with all its rows.
    loss = full.groupby(["trial_id", "step"])["probe_loss"].first()
    first, last = loss.groupby("trial_id").transform("first"), loss.groupby("trial_id").transform("last")
    late = (loss <= last + (1 - LATE) * (first - last)).rename("late")
    return ordered.join(late, on=["trial_id", "step"]).fillna({"late": False}).astype({"late": bool})


def fit_constants(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    measured: Mapping[float, float],
    floor: float | None = None,
    seed: int = 0,
) -> Constants | None:
    """From one optimizer's runs and their curves; None if nothing was probed.

    `measured` is the sweep's largest batch without loss, in tokens, by budget: what the prediction is held against.
    `floor` is the surface's E in nats.
    """
    probes = probes_of(runs, curves)
    if probes.empty:
        return None
    rng = np.random.default_rng(seed)
    found = tuple(_run(str(name), rows, floor, rng) for name, rows in probes.groupby("trial_id", sort=True))
    found = tuple(sorted(found, key=lambda run: (run.tokens, run.batch_size)))
    late = probes[probes["late"]]
    own = late[(late["probe_seq_len"] == late["seq_len"])]
    return Constants(
        runs=found,
        mu=_slope(_one_per_step(own), rng),
        variance=_variance_law(late, rng),
        norm_ratio_exponent=_norm_ratio_law(own, rng),
        predictions=tuple(p for run in found if (p := _predict(run, measured)) is not None),
        shared=_shared(found, measured),
    )


def _one_per_step(rows: pd.DataFrame) -> pd.DataFrame:
    """A step's probe has a row for every batch size, with one loss and one dual norm."""
    return rows.drop_duplicates(["trial_id", "step"])


def _run(name: str, rows: pd.DataFrame, floor: float | None, rng: np.random.Generator) -> RunConstants:
    head = rows.iloc[0]
    late = rows[rows["late"] & (rows["probe_seq_len"] == rows["seq_len"])]
    # The probed batch size closest to the run's own: probes stop at a quarter of their set.
    sizes = np.sort(late["probe_batch_size"].unique())
    own = sizes[np.argmin(np.abs(np.log(sizes / head["batch_size"])))] if len(sizes) else np.nan
    at_own = late[late["probe_batch_size"] == own]
    smoothness = late.loc[np.isfinite(late["smoothness"]), "smoothness"]
    once = _one_per_step(late)
    noise = at_own["grad_variance"] * at_own["probe_batch_size"] * at_own["probe_seq_len"]
    return RunConstants(
        trial_id=name,
        tokens=float(head["budget"]),
        batch_size=float(head["batch_size"]),
        seq_len=float(head["seq_len"]),
        lr=float(head["lr"]),
        smoothness=float(smoothness.mean()) if len(smoothness) else None,
        mu=_slope(once, rng),
        mu_at_floor=None if floor is None or once.empty else _slope_from(once, floor),
        norm_ratio=float(at_own["norm_ratio"].mean()) if len(at_own) else None,
        noise=float(noise.mean()) if len(at_own) else None,
    )


def huber_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and intercept by Huber's loss; residuals beyond 1.35 robust standard deviations count linearly."""
    start = np.polyfit(x, y, 1)
    spread = np.median(np.abs(y - np.polyval(start, x))) / 0.6745
    scale = 1.35 * spread if spread > 0 else 1.0

    def residuals(line: Floats) -> Floats:
        return np.polyval(line, x) - y

    found = least_squares(residuals, start, loss="huber", f_scale=scale)
    return float(found.x[0]), float(found.x[1])


def _slope(rows: pd.DataFrame, rng: np.random.Generator) -> Estimate | None:
    """μ with its interval over resampled probes; None with fewer than three different losses."""
    x, y = rows["probe_loss"].to_numpy(float), rows["grad_dual"].to_numpy(float)
    if len(np.unique(x)) < 3:
        return None
    slope, _ = huber_line(x, y)
    picks = rng.integers(len(x), size=(RESAMPLES, len(x)))
    sample = np.array([huber_line(x[pick], y[pick])[0] for pick in picks if len(np.unique(x[pick])) > 2])
    return Estimate.of(slope, sample)


def _slope_from(rows: pd.DataFrame, floor: float) -> float | None:
    """μ of the line through (floor, 0): the median of ‖∇f‖_*/(f − floor); None where a loss is not above the floor."""
    above = rows["probe_loss"].to_numpy(float) - floor
    return float(np.median(rows["grad_dual"].to_numpy(float) / above)) if (above > 0).all() else None


def _variance_law(rows: pd.DataFrame, rng: np.random.Generator) -> VarianceLaw | None:
    """Fitted within each probe (a run at a step has a level of its own); resampled by probe."""
    keep = rows[rows["grad_variance"] > 0]
    found = _within_probes(keep, "grad_variance", rng)
    if found is None:
        return None
    batch, seq, level = found
    return VarianceLaw(float(np.exp(level)), batch.times(-1), seq and seq.times(-1))


def _norm_ratio_law(rows: pd.DataFrame, rng: np.random.Generator) -> Estimate | None:
    found = _within_probes(rows[rows["norm_ratio"] > 0], "norm_ratio", rng)
    return found and found[0]


def _within_probes(
    rows: pd.DataFrame, column: str, rng: np.random.Generator
) -> tuple[Estimate, Estimate | None, float] | None:
    """Exponents of `column` in B and in S (None if S does not vary), and its mean log level at B = S = 1.

    Logarithms are centred within each probe, so that only ratios between batch sizes of one probe count.
    """
    logs = np.log(rows[["probe_batch_size", "probe_seq_len", column]].to_numpy(float))
    if len(logs) == 0:
        return None
    probe = rows.groupby(["trial_id", "step"]).ngroup().to_numpy()
    means = np.array([logs[probe == i].mean(axis=0) for i in range(probe.max() + 1)])
    centred = logs - means[probe]
    axes = [axis for axis in (0, 1) if np.ptp(centred[:, axis]) > 0]
    if 0 not in axes:
        return None
    # Normal equations of every probe: a resample of the probes is a sum of theirs.
    design, y = centred[:, axes], centred[:, 2]
    grams = np.array([design[probe == i].T @ design[probe == i] for i in range(len(means))])
    sides = np.array([design[probe == i].T @ y[probe == i] for i in range(len(means))])
    found = np.linalg.lstsq(grams.sum(axis=0), sides.sum(axis=0), rcond=None)[0]
    picks = rng.integers(len(means), size=(RESAMPLES, len(means)))
    drawn = np.array([np.linalg.lstsq(grams[p].sum(axis=0), sides[p].sum(axis=0), rcond=None)[0] for p in picks])
    estimates = [Estimate.of(found[i], drawn[:, i] if len(means) > 1 else None) for i in range(len(axes))]
    level = float(np.mean(means[:, 2] - means[:, axes] @ found))
    return estimates[0], estimates[1] if len(axes) > 1 else None, level


def _shared(runs: Sequence[RunConstants], measured: Mapping[float, float]) -> Prediction | None:
    known = [(run.tokens, (run.tokens * run.drive) ** (2 / 3)) for run in runs if run.drive and run.tokens in measured]
    if len(known) < 2:
        return None
    tokens, theory = np.array(known).T
    return _scaled("", tokens, theory, measured)


def _predict(run: RunConstants, measured: Mapping[float, float]) -> Prediction | None:
    if run.drive is None or not measured:
        return None
    tokens = np.array(sorted(measured))
    theory = (tokens * run.drive) ** (2 / 3)
    return _scaled(run.trial_id, tokens, theory, measured)


def _scaled(trial_id: str, tokens: Floats, theory: Floats, measured: Mapping[float, float]) -> Prediction:
    """Theory times the constant that brings it closest to what was measured."""
    off = np.log2([measured[t] for t in tokens]) - np.log2(theory)
    return Prediction(
        trial_id=trial_id,
        constant=float(2 ** off.mean()),
        error=float(np.sqrt(np.mean((off - off.mean()) ** 2))),
        tokens=tuple(map(float, tokens)),
        batch_tokens=tuple(map(float, theory * 2 ** off.mean())),
    )

"""Norm control: how large weights get in their own norms, and whether they stay within what theory allows.

In a layer's own norm, with radius ρ and step sizes γ_k, the triangle inequality bounds ‖W‖ by b, from b⁰ = ‖W⁰‖ on,

    constrained      b ← (1 − γ) b + γ ρ,        so ‖W‖ ≤ max(‖W⁰‖, ρ)       whatever the gradients are
    unconstrained    b ← b + γ ρ,                so ‖W‖ ≤ ‖W⁰‖ + ρ Σ γ_k     (arXiv 2502.07529)

and decoupled weight decay λ lies between them. The store has b as `bound`. These are statements about every layer at
every step, so they are judged by the largest ratio ‖W‖/b that was measured. It may exceed 1 by rounding, and where
Newton-Schulz stands in for the exact LMO by that method's band: its singular values reach BAND, and b is that much
looser.

Methods without balls have no bound. Of them, as of all, the growth is reported: ‖W‖ at the end over ‖W⁰‖.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.outcomes import Judgement, Outcome
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import refuse_repeated, watched

# The largest singular value five published quintic steps leave (scionlab/geometry/orthogonalize.py).
BAND = 1.21
ROUNDING = 1e-3  # relative, for norms of float32 weights after thousands of steps
COLUMNS = ("norm_name", "norm", "radius", "bound")
SETTING = ("width", "lr", "batch_size", "tokens_budget")


@dataclass(frozen=True)
class Peak:
    """Where ‖W‖ came closest to its limit: `ratio` is ‖W‖/bound, `limit` what it may be."""

    ratio: float
    limit: float
    layer: str
    norm_name: str
    step: int
    trial_id: str


@dataclass(frozen=True)
class Growth:
    """The norms of a role's layers over all runs of a method: geometric means at start and end, and the extremes of
    their ratio.

    `start` is 0 and the ratios are None where a layer starts at 0; `radius` is ρ, None for a method without balls.
    """

    role: str
    start: float
    end: float
    ratio: float | None
    lowest: float | None
    highest: float | None
    radius: float | None
    n_layers: int


@dataclass(frozen=True)
class MethodNorms:
    """A method's norms. `closest` is the peak nearest to its limit, `exact` that of layers without Newton-Schulz."""

    optimizer: str
    verdict: Outcome
    closest: Peak | None
    exact: Peak | None
    growths: tuple[Growth, ...]
    n_runs: int
    n_diverged: int
    n_layers: int
    n_broken: int


@dataclass(frozen=True)
class NormControl:
    """All methods."""

    methods: tuple[MethodNorms, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"newton_schulz_band": BAND, "rounding": ROUNDING, "methods": [asdict(m) for m in self.methods]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "norm_control": pd.DataFrame(_row(method) for method in self.methods),
            "norm_growth": pd.DataFrame(
                {"optimizer": method.optimizer, **asdict(growth)}
                for method in self.methods
                for growth in method.growths
            ),
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """One per method; a bound that was measured leaves nothing open."""
        return tuple(Judgement(method.optimizer, method.verdict) for method in self.methods)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per method, as text."""
        return [("Norms of the weights, in each layer's own norm", pd.DataFrame(map(texts, self.methods)))]


def texts(method: MethodNorms) -> dict[str, str]:
    """A method as a row of texts."""
    peak = method.closest
    return {
        "optimizer": method.optimizer,
        "largest ‖W‖/bound": f"{peak.ratio:.3f}" if peak else "–",
        "allowed": f"{peak.limit:.2f}" if peak else "–",
        "in": f"{peak.layer}, step {peak.step}" if peak else "–",
        "growth": "; ".join(f"{growth.role} {growth_text(growth)}" for growth in method.growths),
        "verdict": method.verdict,
    }


def growth_text(growth: Growth) -> str:
    """How a role's norms went, in short."""
    if growth.ratio is None:
        return f"0 → {growth.end:.3g}"
    return f"× {growth.ratio:.3g}"


def _row(method: MethodNorms) -> dict[str, Any]:
    row: dict[str, Any] = {"optimizer": method.optimizer, "verdict": method.verdict}
    for name, peak in (("closest", method.closest), ("exact", method.exact)):
        row |= {f"{name}_{key}": value for key, value in (asdict(peak) if peak else {}).items()}
    return row | {"n_runs": method.n_runs, "n_diverged": method.n_diverged, "n_broken": method.n_broken}


def fit_norm_control(tables: SweepTables) -> NormControl:
    """Follow the norms of the runs that trained to their end; UserError if none of them watched its layers."""
    runs, rows = weights(tables)
    refuse_repeated(runs, [*SETTING, "seed"])
    return NormControl(
        tuple(
            _method(str(optimizer), mine, rows[rows["optimizer"] == optimizer])
            for optimizer, mine in runs.groupby("optimizer", sort=True)
        )
    )


def weights(tables: SweepTables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs, and the layers' rows that have a norm, with its `ratio` to the bound and the `limit` that may have.

    A norm of 0 has the ratio 0, whatever its bound.
    """
    runs, rows = watched(tables, COLUMNS, "the control of norms")
    rows = rows[rows["norm"].notna()].astype({"norm": float, "bound": float, "radius": float})
    ratio = (rows["norm"] / rows["bound"].replace(0, np.nan)).where(rows["bound"] != 0, np.inf)
    ratio = ratio.where(rows["norm"] != 0, 0.0).where(rows["bound"].notna())
    band = rows["norm_name"].map(newton_schulz).map({True: BAND, False: 1.0}).astype(float)
    return runs, rows.assign(ratio=ratio, limit=band)


def newton_schulz(norm_name: str) -> bool:
    """Whether the LMO of the norm called that goes by Newton-Schulz: the spectral norms' and the convolutions' do."""
    name = norm_name.removeprefix("flat:")
    return name.startswith(("spectral", "conv")) and not name.endswith("-exact")


def _method(optimizer: str, runs: pd.DataFrame, rows: pd.DataFrame) -> MethodNorms:
    bounded = rows[rows["bound"].notna() & (rows["step"] > 0)]  # at the start every bound is the norm itself
    broken = bounded[~(bounded["ratio"] <= bounded["limit"] * (1 + ROUNDING))]
    verdict = Outcome.NO_BOUND if bounded.empty else Outcome.DID_NOT_HOLD if len(broken) else Outcome.HELD
    return MethodNorms(
        optimizer=optimizer,
        verdict=verdict,
        closest=_peak(bounded),
        exact=_peak(bounded[bounded["limit"] == 1]),
        growths=tuple(_growth(str(role), mine) for role, mine in rows.groupby("role", sort=False)),
        n_runs=rows["trial_id"].nunique(),
        n_diverged=int((runs["status"] == "diverged").sum()),
        n_layers=rows["layer"].nunique(),
        n_broken=broken["layer"].nunique(),
    )


def _peak(rows: pd.DataFrame) -> Peak | None:
    """The row nearest to its limit, or farthest beyond; the earliest of several."""
    if rows.empty:
        return None
    nearness = (rows["ratio"] / rows["limit"]).fillna(np.inf)  # a norm that is not finite is beyond any bound
    row = rows.assign(nearness=nearness).sort_values(["nearness", "step"], ascending=[False, True]).iloc[0]
    return Peak(
        ratio=float(row["ratio"]),
        limit=float(row["limit"]),
        layer=str(row["layer"]),
        norm_name=str(row["norm_name"]),
        step=int(row["step"]),
        trial_id=str(row["trial_id"]),
    )


def _growth(role: str, rows: pd.DataFrame) -> Growth:
    """From each run's first watched step to its last."""
    norms = rows.sort_values("step").groupby(["trial_id", "layer"])["norm"].agg(["first", "last"])
    n_layers = rows["layer"].nunique()
    radius = None if rows["radius"].isna().all() else float(rows["radius"].max())
    if (norms["first"] == 0).any():
        return Growth(role, 0.0, _geometric(norms["last"]), None, None, None, radius, n_layers)
    ratio = norms["last"] / norms["first"]
    return Growth(
        role=role,
        start=_geometric(norms["first"]),
        end=_geometric(norms["last"]),
        ratio=_geometric(ratio),
        lowest=float(ratio.min()),
        highest=float(ratio.max()),
        radius=radius,
        n_layers=n_layers,
    )


def _geometric(values: "pd.Series[float]") -> float:
    """Geometric mean; 0 if one of them is."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values).mean()))

"""Transfer regret: the zero-shot loss minus the directly tuned one, on the same fresh seeds.

    regret ± t · s/√n        s² = Σ SS / Σ (n − 1) over the cells

n seeds a cell, SS the sum of squares of a cell's paired differences about their mean, and t Student's quantile for the
pooled degrees of freedom. The pool has the cells whose differences are not all equal: where both ways found the same
values, their trials are the same, and the regret is exactly 0. The interval says how far the means over seeds can be
trusted. It does not hold the luck of the searches: with another search seed both ways would have found other values.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.studies.transfer.costs import cost
from analysis.studies.transfer.result import Cell, ProxyTransfer
from analysis.studies.transfer.settings import CellSettings, ProxySettings
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError


def fit_proxy(tables: SweepTables) -> ProxyTransfer:
    """Of a sweep made by `scionlab transfer`. UserError where no cell can be compared."""
    settings = ProxySettings.parse(tables.settings)
    runs = tables.runs.set_index("trial_id")
    tunings = tables.tunings({name for cell in settings.cells for name in (cell.proxy_search, cell.direct_search)})
    compared, skipped = [], []
    for cell in settings.cells:
        pairs = _pairs(cell, runs)
        if pairs.empty:
            skipped.append(f"{cell.method} at {cell.target}: no seed has been trained both ways.")
        else:
            compared.append((cell, pairs))
    if not compared:
        raise UserError("transfer: no method has been trained both ways at any target; run `scionlab transfer` again")
    differences = [(pairs["zero_shot"] - pairs["direct"]).to_numpy(float) for _, pairs in compared]
    noise, degrees = pooled(differences)
    cells = tuple(
        _cell(cell, pairs, runs, tunings, regret(values, noise, degrees))
        for (cell, pairs), values in zip(compared, differences, strict=True)
    )
    return ProxyTransfer(settings.rule, cells, noise, degrees, tuple(skipped))


def pooled(differences: Sequence[Floats]) -> tuple[float | None, int]:
    """Standard deviation of a paired difference, and its degrees of freedom, without cells of equal differences."""
    usable = [d for d in differences if np.isfinite(d).all() and len(d) > 1 and np.ptp(d) > 0]
    degrees = sum(len(d) - 1 for d in usable)
    if not degrees:
        return None, 0
    squares = sum(float(((d - d.mean()) ** 2).sum()) for d in usable)
    return float(np.sqrt(squares / degrees)), degrees


def regret(differences: Floats, noise: float | None, degrees: int) -> Estimate | None:
    """The mean of a cell's differences with its interval; None if a run diverged. Exactly 0 for the same trials."""
    if not np.isfinite(differences).all():
        return None
    mean = float(differences.mean())
    if not differences.any():
        return Estimate(0.0, 0.0, 0.0)
    if noise is None:
        return Estimate(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * noise / float(np.sqrt(len(differences)))
    return Estimate(mean, mean - half, mean + half)


def _pairs(cell: CellSettings, runs: pd.DataFrame) -> pd.DataFrame:
    """Losses of both ways, seed by seed, infinite where a run diverged; only seeds that have both."""
    return pd.DataFrame({"zero_shot": _losses(cell.zero_shot, runs), "direct": _losses(cell.direct, runs)}).dropna()


def _losses(ids: Sequence[str], runs: pd.DataFrame) -> "pd.Series[float]":
    mine = runs.reindex(list(ids)).dropna(subset=["status"])
    mine = mine[mine["status"] != "error"]
    return mine["val_loss"].where(mine["status"] == "ok", np.inf).set_axis(mine["seed"])


def _cell(
    cell: CellSettings, pairs: pd.DataFrame, runs: pd.DataFrame, tunings: pd.DataFrame, found: Estimate | None
) -> Cell:
    means = {way: float(pairs[way].mean()) for way in ("zero_shot", "direct")}
    mine = runs.reindex(list(cell.zero_shot))
    return Cell(
        method=cell.method,
        optimizer=cell.optimizer,
        target=cell.target,
        changes=cell.changes,
        zero_shot=means["zero_shot"] if np.isfinite(means["zero_shot"]) else None,
        direct=means["direct"] if np.isfinite(means["direct"]) else None,
        regret=found,
        n_seeds=len(pairs),
        same_values=cell.zero_shot == cell.direct,
        proxy=cost(tunings, cell.proxy_search),
        search=cost(tunings, cell.direct_search),
        run_flops=float(mine["flops"].mean()),
        run_seconds=float(mine["wall_time_s"].mean()),
    )

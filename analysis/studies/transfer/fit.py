"""Transfer regret: the zero-shot loss minus the directly tuned one, on the same fresh seeds.

    regret ± t · s/√n

n seeds a cell, s the standard deviation of the cell's paired differences, drawn towards that of the method's other
targets (`analysis.fits.moderation`), and t Student's quantile for the degrees of freedom it has then. Methods lend each
other none, as they differ in noise tenfold. Cells whose differences are all equal lend none either: where both ways
found the same values, their trials are the same, and the regret is exactly 0. The interval says how far the means over
seeds can be trusted. It does not hold the luck of the searches: with another search seed both ways would have found
other values.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.moderation import moderated
from analysis.studies.transfer.costs import cost
from analysis.studies.transfer.result import Cell, Noise, ProxyTransfer
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
    cells = tuple(
        _cell(cell, pairs, runs, tunings, values, noise)
        for (cell, pairs), values, noise in zip(
            compared, differences, noises(differences, [cell.method for cell, _ in compared]), strict=True
        )
    )
    return ProxyTransfer(settings.rule, cells, tuple(skipped))


def noises(differences: Sequence[Floats], methods: Sequence[str]) -> list[Noise]:
    """The noise of a paired difference in every cell.

    `differences` are the cells' (seeds,), nats, and `methods` the cells' methods, within each of which the variances
    are moderated (Smyth 2004, doi 10.2202/1544-6115.1027).
    """
    usable = [np.isfinite(d).all() and len(d) > 1 and np.ptp(d) > 0 for d in differences]
    squares = np.array([((d - d.mean()) ** 2).sum() if ok else 0.0 for d, ok in zip(differences, usable, strict=True)])
    freedoms = np.array([len(d) - 1.0 if ok else 0.0 for d, ok in zip(differences, usable, strict=True)])
    found = [Noise(None, 0.0)] * len(differences)
    for name in dict.fromkeys(methods):
        mine = [i for i, method in enumerate(methods) if method == name]
        if freedoms[mine].any():
            for i, variance, degrees in zip(mine, *moderated(squares[mine], freedoms[mine]), strict=True):
                found[i] = Noise(float(np.sqrt(variance)), float(degrees))
    return found


def regret(differences: Floats, noise: Noise) -> Estimate | None:
    """The mean of a cell's differences with its interval; None if a run diverged. Exactly 0 for the same trials."""
    if not np.isfinite(differences).all():
        return None
    mean = float(differences.mean())
    if not differences.any():
        return Estimate(0.0, 0.0, 0.0)
    if noise.sd is None:
        return Estimate(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, noise.degrees)) * noise.sd / float(np.sqrt(len(differences)))
    return Estimate(mean, mean - half, mean + half)


def _pairs(cell: CellSettings, runs: pd.DataFrame) -> pd.DataFrame:
    """Losses of both ways, seed by seed, infinite where a run diverged; only seeds that have both."""
    return pd.DataFrame({"zero_shot": _losses(cell.zero_shot, runs), "direct": _losses(cell.direct, runs)}).dropna()


def _losses(ids: Sequence[str], runs: pd.DataFrame) -> "pd.Series[float]":
    mine = runs.reindex(list(ids)).dropna(subset=["status"])
    mine = mine[mine["status"] != "error"]
    return mine["val_loss"].where(mine["status"] == "ok", np.inf).set_axis(mine["seed"])


def _cell(
    cell: CellSettings,
    pairs: pd.DataFrame,
    runs: pd.DataFrame,
    tunings: pd.DataFrame,
    differences: Floats,
    noise: Noise,
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
        regret=regret(differences, noise),
        noise=noise,
        n_seeds=len(pairs),
        same_values=cell.zero_shot == cell.direct,
        proxy=cost(tunings, cell.proxy_search),
        search=cost(tunings, cell.direct_search),
        run_flops=float(mine["flops"].mean()),
        run_seconds=float(mine["wall_time_s"].mean()),
    )

"""Transfer regret: the zero-shot loss minus the directly tuned one, on the same fresh seeds.

    regret ± t · s/√n

n seeds a cell, s the standard deviation of the cell's paired differences, drawn towards that of the other cells
(`analysis.fits.moderation`), since methods and targets differ in noise, and t Student's quantile for the degrees of
freedom it has then. Cells whose differences are all equal lend none: where both ways found the same values, their
trials are the same, and the regret is exactly 0. The interval says how far the means over seeds can be trusted. It does
not hold the luck of the searches: with another search seed both ways would have found other values.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.moderation import moderated, relative
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
    """The noise of a paired difference in every cell, from its differences (seeds,) and the cells' methods.

    A method's targets are drawn towards each other first, and what they have in common towards the other methods'.
    """
    usable = [np.isfinite(d).all() and len(d) > 1 and np.ptp(d) > 0 for d in differences]
    squares = [float(((d - d.mean()) ** 2).sum()) if ok else 0.0 for d, ok in zip(differences, usable, strict=True)]
    freedoms = [float(len(d) - 1) if ok else 0.0 for d, ok in zip(differences, usable, strict=True)]
    if not any(usable):
        return [Noise(None, 0.0)] * len(differences)
    names = list(dict.fromkeys(methods))
    of = np.array([names.index(method) for method in methods])
    sizes = np.ones(len(of))
    for i in range(len(names)):
        sizes[of == i] = relative(np.array(squares)[of == i], np.array(freedoms)[of == i])
    variances, degrees = moderated(*(np.bincount(of, part).astype(float) for part in (squares / sizes, freedoms)))
    return [Noise(float(np.sqrt(variances[i] * size)), float(degrees[i])) for i, size in zip(of, sizes, strict=True)]


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

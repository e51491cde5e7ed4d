"""Transfer regret: the zero-shot loss minus the directly tuned one, with the same search seed and the same fresh seed.

It is the mean over search seeds of the mean over fresh seeds, and its interval is Student's, with the standard error of
`noise`. With several search seeds that holds the luck of the searches, too: with other seeds both ways would have found
other values. With one search it holds the noise of seeds only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.studies.transfer.costs import cost
from analysis.studies.transfer.noise import Noise, noises, regret
from analysis.studies.transfer.result import Cell, ProxyTransfer, Searched, place
from analysis.studies.transfer.settings import CellSettings, ProxySettings, SearchSettings
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError


@dataclass(frozen=True)
class Pairs:
    """Losses (searches, seeds) of a cell's two ways, infinite where a run diverged; the same seeds in every search."""

    cell: CellSettings
    searches: tuple[SearchSettings, ...]
    zero_shot: Floats
    direct: Floats

    @property
    def differences(self) -> Floats:
        """Zero-shot minus direct; not a number where both diverged."""
        with np.errstate(invalid="ignore"):
            return self.zero_shot - self.direct


def fit_proxy(tables: SweepTables) -> ProxyTransfer:
    """Of a sweep made by `scionlab transfer`. UserError where no cell can be compared."""
    settings = ProxySettings.parse(tables.settings)
    runs = tables.runs.set_index("trial_id")
    compared, unpaired, skipped = [], [], []
    for cell in settings.cells:
        pairs, left_out = _pairs(cell, runs)
        skipped += left_out
        if pairs is None:
            unpaired.append(place(cell))
        else:
            compared.append(pairs)
    if not compared:
        raise UserError("transfer: no method has been trained both ways at any target; run `scionlab transfer` again")
    tunings = tables.tunings({name for pairs in compared for name in pairs.cell.studies})
    found = noises([pairs.differences for pairs in compared], [pairs.cell.method for pairs in compared])
    cells = tuple(_cell(pairs, runs, tunings, noise) for pairs, noise in zip(compared, found, strict=True))
    return ProxyTransfer(settings.rule, cells, tuple(skipped), tuple(unpaired))


def _pairs(cell: CellSettings, runs: pd.DataFrame) -> tuple[Pairs | None, list[str]]:
    """Of all searches with a pair the seeds that each of them has, and what is left out, in words."""
    found = {one: _losses(one, runs) for one in cell.searches}
    some = {one: losses for one, losses in found.items() if len(losses)}
    seeds = sorted(set.intersection(*(set(losses.index) for losses in some.values()))) if some else []
    where = place(cell)
    if not seeds:
        return None, [f"{where}: no seed has been trained both ways{' for every search' if some else ''}."]
    left_out = [
        f"{where}: no seed has been trained both ways with what search seed {one.seed} found, which is left out."
        for one in found
        if one not in some
    ]
    both = (np.array([losses.loc[seeds, way] for losses in some.values()], float) for way in ("zero_shot", "direct"))
    return Pairs(cell, tuple(some), *both), left_out


def _losses(one: SearchSettings, runs: pd.DataFrame) -> pd.DataFrame:
    """Losses of both ways, seed by seed; only seeds that have both."""
    return pd.DataFrame({"zero_shot": _of(one.zero_shot, runs), "direct": _of(one.direct, runs)}).dropna()


def _of(ids: Sequence[str], runs: pd.DataFrame) -> "pd.Series[float]":
    mine = runs.reindex(list(ids)).dropna(subset=["status"])
    mine = mine[mine["status"] != "error"]
    return mine["val_loss"].where(mine["status"] == "ok", np.inf).set_axis(mine["seed"])


def _cell(pairs: Pairs, runs: pd.DataFrame, tunings: pd.DataFrame, noise: Noise) -> Cell:
    cell, searches = pairs.cell, pairs.searches
    mine = runs.reindex(list(dict.fromkeys(trial_id for one in searches for trial_id in one.zero_shot)))
    return Cell(
        method=cell.method,
        optimizer=cell.optimizer,
        target=cell.target,
        changes=cell.changes,
        zero_shot=_mean(pairs.zero_shot),
        direct=_mean(pairs.direct),
        regret=regret(pairs.differences, noise),
        noise=noise,
        n_seeds=pairs.differences.shape[1],
        same_values=all(one.zero_shot == one.direct for one in searches),
        searches=tuple(
            Searched(
                seed=one.seed,
                zero_shot=_mean(pairs.zero_shot[i]),
                direct=_mean(pairs.direct[i]),
                difference=_mean(pairs.differences[i]),
                proxy=cost(tunings, one.proxy_search),
                direct_search=cost(tunings, one.direct_search),
            )
            for i, one in enumerate(searches)
        ),
        run_flops=float(mine["flops"].mean()),
        run_seconds=float(mine["wall_time_s"].mean()),
    )


def _mean(values: Floats) -> float | None:
    """None where a run diverged."""
    return float(values.mean()) if np.isfinite(values).all() else None

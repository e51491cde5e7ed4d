"""Scaling laws and the critical batch size of one optimizer's runs: at which cells they are read, and what with.

`profiled` makes the runs a table of cells, one at every N, T and B; the laws themselves know no runs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.cells import BATCH, budgets_of, table_of_cells
from analysis.fits.intervals import RESAMPLES
from analysis.fits.profile import read_budgets
from analysis.fits.valley import MEANS
from analysis.laws.critical_batch import CriticalBatch, fit_critical_batch
from analysis.laws.points import check_data, check_goals
from analysis.laws.scaling_laws import ScalingLaw, fit_chinchilla, fit_three_term
from analysis.tables import keys
from analysis.tables.arrays import Floats
from scionlab.errors import UserError

# Columns, where the table has them, of what tells settings of one optimizer apart; the best of them counts.
SETTING = ["model", "width", "depth", "head_dim", "tied", "residual", "momentum", "schedule"]
ONE = ["optimizer", "data_sha256"]  # what must not vary


def chinchilla_of_runs(runs: pd.DataFrame, seed: int = 0) -> ScalingLaw:
    """L(N, T) of one optimizer's runs: at every N and T the lowest loss over batch sizes, too (`profiled`)."""
    cells, warnings = profiled(runs)
    best = cells.loc[cells.groupby(["n_params", "budget"])["val_loss"].idxmin()]
    law = fit_chinchilla(best["n_params"], best["tokens"], best["val_loss"], seed)
    return replace(law, warnings=(*warnings, *law.warnings))


def three_term_of_runs(runs: pd.DataFrame, seed: int = 0) -> ScalingLaw:
    """L(N, K, B) of one optimizer's runs (`profiled`)."""
    cells, warnings = profiled(runs)
    steps = cells["tokens"] / cells["batch_tokens"]
    law = fit_three_term(cells["n_params"], steps, cells["batch_tokens"], cells["val_loss"], seed)
    return replace(law, warnings=(*warnings, *law.warnings))


def profiled(runs: pd.DataFrame, resamples: int = 0, seed: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """One row per N, T and B of one optimizer's runs, and what to know of them.

    `tokens` are those that the cell's runs were trained on, their median where whole steps round them differently, and
    `budget` what counts as one budget: laws take the former, as it is.
    `val_loss` is the loss at the best learning rate, as read (`analysis.fits.reading`), and the lowest over `SETTING`;
    `drawn` what the noise leaves open of it (resamples,), None where none is known. `resolved`: the best of `n_rates`
    has neighbours that train; `at_edge`: it ends them. Runs in stages have no single B and do not count. UserError for
    missing columns, several optimizers or texts, a table of tokens to a target, or settings that the columns do not
    tell apart.
    """
    if "n_params" not in runs:
        raise UserError("runs: the column n_params is missing")
    table = table_of_cells(runs[runs["stages"].isna()] if "stages" in runs else runs)
    for column in (column for column in ONE if column in table):
        if table[column].nunique() > 1:
            raise UserError(f"runs: {column} takes several values ({', '.join(sorted(table[column].unique()))})")
    check_data(table)
    check_goals(table)
    columns = [*SETTING, *(() if "spec" in table else keys.OF_IMPORTS)]
    setting = [column for column in columns if column in table]
    cell = ["n_params", *setting, "budget", "batch_size", "seq_len", "lr", "seed"]
    if table.duplicated(cell).any():
        raise UserError(f"runs: several runs share {', '.join(cell)}; fit each setting alone")
    rng = np.random.default_rng(seed)
    known = table[table["n_params"].notna()]
    groups = [group for _, group in known.groupby(["n_params", *setting], dropna=False)]
    cells = pd.DataFrame([row for group in groups for row in _rows(group, resamples, rng)])
    if cells.empty:
        raise UserError("runs: in every setting a seed diverged at every learning rate, or n_params is not known")
    best = cells.loc[cells.groupby(["n_params", "budget", "batch_tokens"])["val_loss"].idxmin()]
    edge = int((~best["resolved"]).sum())
    warning = f"the best learning rate ends its grid, or is beside one that diverges, in {edge} of {len(best)} cells"
    return best.reset_index(drop=True), [warning] if edge else []


def _rows(runs: pd.DataFrame, resamples: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    n_params, budgets, rows = float(runs["n_params"].iloc[0]), budgets_of(runs), []
    if not budgets:
        return []
    _, readings = read_budgets(budgets, resamples or MEANS, rng)
    trained = runs.groupby(["budget", *BATCH])["tokens"].median()
    for budget, of_budget in zip(budgets, readings, strict=True):
        for cell, reading in zip(budget.cells, of_budget, strict=True):
            tokens = float(trained[budget.tokens, cell.batch_size, cell.seq_len])
            row = {"n_params": n_params, "budget": budget.tokens, "tokens": tokens, "batch_tokens": cell.batch_tokens}
            row |= {"val_loss": reading.loss, "resolved": reading.resolved}
            row |= {"at_edge": cell.curve.at_edge, "n_rates": len(cell.curve.x), "n_seeds": cell.curve.n_seeds}
            rows.append({**row, "drawn": reading.losses if resamples else None})
    return rows


def critical_batch_of_runs(
    runs: pd.DataFrame, targets: Sequence[float] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> CriticalBatch:
    """From the runs of one optimizer and network size, with intervals from the noise of their seeds.

    `seed` and `resamples` are the bootstrap's; otherwise as in `profiled`.
    """
    cells, warnings = profiled(runs, resamples, seed)
    if cells["n_params"].nunique() > 1:
        raise UserError("runs: n_params takes several values; the critical batch size is that of one network")
    fit = fit_critical_batch(cells["budget"], cells["batch_tokens"], cells["val_loss"], targets, drawn_of(cells))
    return CriticalBatch(fit.targets, fit.reached, (*warnings, *fit.warnings))


def drawn_of(cells: pd.DataFrame) -> Floats | None:
    """The draws of rows of `profiled` (resamples, rows); None where the noise of one of them is not known."""
    return None if cells["drawn"].isna().any() else np.stack(list(cells["drawn"]), axis=1)

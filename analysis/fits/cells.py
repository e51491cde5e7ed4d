"""From a table of runs to budgets of cells.

A cell is what is trained with one token budget T and one batch of B·S tokens: a loss curve over learning rates. A
budget holds its cells in ascending order of B·S.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.lr_curve import LrCurve
from analysis.tables.arrays import Floats
from analysis.tables.same import same_budget, same_number, same_rate
from scionlab.errors import UserError
from scionlab.runs.store import FINISHED

COLUMNS = ("optimizer", "tokens", "batch_size", "seq_len", "lr", "seed", "status", "val_loss")
BATCH = ["batch_size", "seq_len"]


@dataclass(frozen=True)
class Cell:
    """One budget and batch: B `batch_size` sequences, S `seq_len` tokens, and the losses over learning rates."""

    tokens: float
    batch_size: float
    seq_len: float
    curve: LrCurve

    @property
    def batch_tokens(self) -> float:
        """B·S."""
        return self.batch_size * self.seq_len


@dataclass(frozen=True)
class Budget:
    """The cells of one token budget, ascending in B·S."""

    tokens: float
    cells: tuple[Cell, ...]

    @property
    def x(self) -> Floats:
        """log₂ of tokens a step, (C,)."""
        return np.log2([cell.batch_tokens for cell in self.cells])

    @property
    def n_seeds(self) -> int:
        """The most seeds that a cell has."""
        return max(cell.curve.n_seeds for cell in self.cells)


def table_of_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished runs with the column `budget`; UserError for missing columns, no finished run or doubled cells.

    Where several momenta were tried, `momentum` tells them apart; a table without it has one.
    """
    missing = [column for column in COLUMNS if column not in runs]
    if missing:
        raise UserError(f"runs: columns {', '.join(missing)} are missing; needed are {', '.join(COLUMNS)}")
    finished = runs[runs["status"].isin(FINISHED)].copy()
    if not (finished["status"] == "ok").any():
        raise UserError(f"runs: none of {len(runs)} trained to its end: there is nothing to fit")
    if "momentum" not in finished:
        finished["momentum"] = np.nan
    if finished["momentum"].isna().any() and finished["momentum"].notna().any():
        raise UserError("runs: momentum is given for some of them only; give it for all or for none")
    if "stages" in finished and finished["stages"].notna().any():
        raise UserError("runs: some are trained in stages, which have no one batch size: see `scionlab fit restarts`")
    asked = finished.get("tokens_budget", finished["tokens"])
    finished["budget"] = _budgets(asked.fillna(finished["tokens"]).astype(float), finished)
    for column in (*BATCH, "momentum"):
        finished[column] = same_number(finished[column].astype(float))
    sizes = [column for column in ("n_params", "width") if column in finished]
    finished["lr"] = same_rate(finished, ["optimizer", *sizes, "budget", *BATCH, "momentum"])
    return finished


def _budgets(tokens: "pd.Series[float]", runs: pd.DataFrame) -> "pd.Series[float]":
    """Budgets that whole steps have rounded as one: within a size, as those of two sizes have no cell in common."""
    if "n_params" not in runs or runs["n_params"].isna().all():
        return same_budget(tokens)
    return tokens.groupby(runs["n_params"], dropna=False).transform(same_budget)


def budgets_of(rows: pd.DataFrame) -> list[Budget]:
    """Budgets, ascending, of one optimizer's and one momentum's finished runs (`table_of_cells`).

    Where several (B, S) give the same B·S, the one with the lowest loss counts. A cell none of whose learning rates
    trains has nothing to say, and is left out.
    """
    found = []
    for _, table in rows.groupby("budget", sort=True):
        cells: dict[float, Cell] = {}
        for _, group in table.groupby(BATCH, sort=True):
            cell = _cell(group)
            if cell.curve.finite.any():
                cells[cell.batch_tokens] = _better(cells.get(cell.batch_tokens), cell)
        if cells:
            found.append(Budget(float(table["budget"].iloc[0]), tuple(cells[key] for key in sorted(cells))))
    return found


def _cell(rows: pd.DataFrame) -> Cell:
    first = rows.iloc[0]
    batch, seq = float(first["batch_size"]), float(first["seq_len"])
    return Cell(float(first["budget"]), batch, seq, LrCurve.of(rows, batch * seq))


def _better(old: Cell | None, new: Cell) -> Cell:
    return new if old is None or new.curve.mean.min() < old.curve.mean.min() else old


def all_cells(budgets: Iterable[Budget]) -> list[Cell]:
    """The cells of all budgets, in order."""
    return [cell for budget in budgets for cell in budget.cells]

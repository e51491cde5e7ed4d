"""Losses of every method and size at its own best settings, against tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.intervals import RESAMPLES
from analysis.fits.outcomes import Missing
from analysis.laws.loss_of_tokens import LossCurve, LossLaw, fit_loss_law
from analysis.laws.of_runs import profiled
from analysis.studies.token_efficiency.settings import TokenEfficiencySettings
from analysis.tables import keys
from scionlab.errors import UserError, listed

ONE = {"lr": 1.0, "batch_size": 1.0, "seq_len": 1.0, "n_params": 1.0}  # for what a table does not say of any run


@dataclass(frozen=True)
class MethodCurve:
    """A method's losses over tokens at one size, None where runs do not say it, and the law through them, if any.

    `untuned` says of each budget (n,) what is missing: its best setting ends a grid, or was the only one.
    """

    method: str
    n_params: float | None
    curve: LossCurve
    law: LossLaw | None
    untuned: tuple[tuple[Missing, ...], ...]
    n_seeds: int

    @property
    def missing(self) -> list[Missing]:
        """What is missing at any budget."""
        return [kind for kinds in self.untuned for kind in kinds]


def curves_of(runs: pd.DataFrame, settings: TokenEfficiencySettings, seed: int) -> list[MethodCurve]:
    """The curves of all methods and sizes, by the methods' names.

    UserError for runs that lack columns or are of several texts, for settings that columns do not tell apart, and what
    `reference_of` refuses: curves take their time.
    """
    missing = [column for column in ("optimizer", "tokens", "val_loss", "status", "seed") if column not in runs]
    if missing:
        raise UserError(f"runs: columns {', '.join(missing)} are missing")
    if "data_sha256" in runs and runs["data_sha256"].nunique() > 1:
        raise UserError("runs: methods were trained on several texts, so their losses cannot be compared")
    known = [column for column in ONE if column in runs and runs[column].notna().any()]
    table = runs.assign(optimizer=keys.labels(runs, settings.arms, "arms"))
    table = table.assign(**{column: value for column, value in ONE.items() if column not in known})
    reference_of(table["optimizer"].unique(), settings)
    found = []
    for i, (name, rows) in enumerate(table.groupby("optimizer", sort=True)):
        # Seeds of their own: noise that is drawn alike would cancel in a ratio.
        cells, _ = profiled(rows, RESAMPLES, seed + i)
        for _, mine in cells.groupby("n_params", sort=True):
            size = float(mine["n_params"].iloc[0]) if "n_params" in known else None
            found.append(_curve(str(name), size, mine, settings))
    return found


def _curve(name: str, n_params: float | None, cells: pd.DataFrame, settings: TokenEfficiencySettings) -> MethodCurve:
    budgets = [rows.sort_values("batch_tokens") for _, rows in cells.groupby("budget", sort=True)]
    lowest = [rows.nsmallest(1, "val_loss").iloc[0] for rows in budgets]
    draws = [_drawn(rows["drawn"]) for rows in budgets]
    known = [each for each in draws if each is not None]
    curve = LossCurve(
        np.array([float(best["tokens"]) for best in lowest]),
        np.array([float(best["val_loss"]) for best in lowest]),
        np.stack(known, axis=1) if len(known) == len(draws) else None,
    )
    untuned = tuple(_untuned(rows, best, settings) for rows, best in zip(budgets, lowest, strict=True))
    return MethodCurve(name, n_params, curve, fit_loss_law(curve, settings.floor), untuned, int(cells["n_seeds"].max()))


def _drawn(draws: Iterable[np.ndarray | None]) -> np.ndarray | None:
    """Of every draw the lowest over batch sizes, (R,)."""
    found = list(draws)
    return None if any(each is None for each in found) else np.min([each for each in found if each is not None], axis=0)


def _untuned(rows: pd.DataFrame, best: "pd.Series[float]", settings: TokenEfficiencySettings) -> tuple[Missing, ...]:
    """What is missing around the best setting of a budget; `rows` are its batch sizes, ascending."""
    single = best["n_rates"] == 1
    rates = not settings.optima if single else bool(best["at_edge"])
    batch = len(rows) > 1 and best["batch_tokens"] in (rows["batch_tokens"].iloc[0], rows["batch_tokens"].iloc[-1])
    return (*([Missing.RATES_BEYOND] if rates else []), *([Missing.BATCHES] if batch else []))


def reference_of(methods: Iterable[str], settings: TokenEfficiencySettings) -> str:
    """The method that others are compared with; UserError if there is none of that name, or no other."""
    names = sorted(set(methods))
    if len(names) < 2:
        raise UserError(f"runs: there is one method only ({listed(names)}), and nothing to compare it with")
    if settings.reference is not None and settings.reference not in names:
        raise UserError(f"settings.reference: {settings.reference!r} is not allowed; it must be one of {listed(names)}")
    return settings.reference or names[0]

"""Budgets of operations, and the network size of the lowest loss in each.

    parabola    loss against log N by least squares, of sizes within a factor of eight of the best one measured
                (Hoffmann et al., arXiv 2203.15556, approach 2): over wider ranges no valley is a parabola
    akima       Akima's curve through log loss against log N (as Porian et al., arXiv 2406.19146)

A lowest point counts if it lies between two measured sizes, and the curve opens upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from analysis.laws.points import OPERATIONS
from analysis.tables.arrays import Floats

SAME = 1.2  # operations within this factor of a budget's smallest are its: published ones are read off pictures
FEWEST = {"parabola": 3, "akima": 5}  # sizes of a budget; Akima's curve is cubic from five points on
NEAR = 8.0  # factor of size within which a parabola is fitted
STEPS = 4001  # where the lowest point of a curve is looked for


@dataclass(frozen=True)
class Budget:
    """Points of one budget, ascending in size: logarithms of N and T (n,), losses (n,); `flops` is its geometric mean.

    `spread` is the largest by the smallest number of operations in it, 1 where all are equal.
    """

    flops: float
    spread: float
    log_n: Floats
    log_t: Floats
    loss: Floats


@dataclass(frozen=True)
class Lowest:
    """The lowest point of a budget's curve: parameters, tokens and loss; `why` says what is wrong with one that does
    not count, and is empty for one that does.
    """

    flops: float
    n_params: float
    tokens: float
    loss: float
    n_points: int
    why: str = ""


def budgets_of(points: pd.DataFrame) -> list[Budget]:
    """Budgets (`SAME`) of points with the columns n_params, tokens, flops and val_loss; twice a size is its mean."""
    rows = points.sort_values("flops", ignore_index=True)
    found = []
    for _, mine in rows.groupby(_groups(rows["flops"].to_numpy(float))):
        logs = mine[["n_params", "tokens"]].transform(np.log).assign(loss=mine["val_loss"])
        sizes = logs.groupby(logs["n_params"].round(9)).mean()
        flops = mine["flops"].to_numpy()
        found.append(
            Budget(
                float(np.exp(np.log(flops).mean())),
                float(flops.max() / flops.min()),
                *(sizes[column].to_numpy(float) for column in ("n_params", "tokens", "loss")),
            )
        )
    return found


def _groups(flops: Floats) -> NDArray[np.intp]:
    """Which budget each of ascending operations (n,) belongs to."""
    index = np.zeros(len(flops), dtype=np.intp)
    first = 0
    for i, value in enumerate(flops):
        if value > SAME * flops[first]:
            first = i
        index[i] = first
    return index


def lowest(budget: Budget, curve: str) -> Lowest:
    """The lowest point by a parabola or by Akima's curve; NaN where there are too few sizes for one."""
    count = len(budget.log_n)
    if count < FEWEST[curve]:
        few = f"{count} sizes, and {FEWEST[curve]} are needed"
        return Lowest(budget.flops, np.nan, np.nan, np.nan, count, few)
    at, loss, why = (_parabola if curve == "parabola" else _akima)(budget)
    if not why and not budget.log_n[0] < at < budget.log_n[-1]:
        why = "the lowest point lies beyond the sizes measured"
    tokens = float(np.exp(np.interp(at, budget.log_n, budget.log_t)))
    return Lowest(budget.flops, float(np.exp(at)), tokens, loss, count, why)


def curve_of(budget: Budget, curve: str, log_n: Floats) -> Floats:
    """The curve's loss at logarithms of N (n,), for pictures; the budget has sizes enough."""
    if curve == "parabola":
        return np.asarray(np.polyval(_coefficients(budget), log_n - budget.log_n.mean()))
    return np.asarray(np.exp(Akima1DInterpolator(budget.log_n, np.log(budget.loss))(log_n)))


def _coefficients(budget: Budget) -> Floats:
    """Of the parabola in log N about its mean, highest power first."""
    kept = abs(budget.log_n - budget.log_n[np.argmin(budget.loss)]) <= np.log(NEAR)
    if kept.sum() < FEWEST["parabola"]:
        kept = np.ones_like(kept)
    return np.polyfit(budget.log_n[kept] - budget.log_n.mean(), budget.loss[kept], 2)


def _parabola(budget: Budget) -> tuple[float, float, str]:
    bend, slope, level = _coefficients(budget)
    if bend <= 0:
        i = int(np.argmin(budget.loss))
        return float(budget.log_n[i]), float(budget.loss[i]), "the losses do not bend upwards"
    return float(budget.log_n.mean() - slope / (2 * bend)), float(level - slope**2 / (4 * bend)), ""


def _akima(budget: Budget) -> tuple[float, float, str]:
    at = np.linspace(budget.log_n[0], budget.log_n[-1], STEPS)
    loss = curve_of(budget, "akima", at)
    i = int(np.argmin(loss))
    return float(at[i]), float(loss[i]), ""


def envelope(points: pd.DataFrame) -> pd.DataFrame:
    """Approach 1: numbers of operations, and the size whose curve over them is lowest there, n_params and tokens.

    A size's curve is linear between its points on logarithmic scales. Only operations count at which three sizes are
    measured, and of these neither the smallest nor the largest is the best. Empty where there are none.
    """
    curves = {
        n: rows.groupby("flops")["val_loss"].min()
        for n, rows in points.groupby("n_params")
        if rows["flops"].nunique() > 1
    }
    if len(curves) < 3:
        return pd.DataFrame(columns=["flops", "n_params", "tokens"])
    sizes = np.array(list(curves), dtype=float)
    ends = np.array([[curve.index.min(), curve.index.max()] for curve in curves.values()])
    flops = np.geomspace(ends[:, 0].min(), ends[:, 1].max(), STEPS // 10)
    losses = np.stack([_along(curve, flops) for curve in curves.values()])
    measured = np.isfinite(losses)
    best = np.argmin(np.where(measured, losses, np.inf), axis=0)
    rank = np.array([measured[: i + 1, j].sum() for j, i in enumerate(best)])  # of the best among those measured there
    kept = (measured.sum(axis=0) >= 3) & (rank > 1) & (rank < measured.sum(axis=0))
    return pd.DataFrame({"flops": flops, "n_params": sizes[best], "tokens": flops / (OPERATIONS * sizes[best])})[kept]


def _along(curve: "pd.Series[float]", flops: Floats) -> Floats:
    x, y = np.log(curve.index.to_numpy(float)), np.log(curve.to_numpy(float))
    return np.asarray(np.exp(np.interp(np.log(flops), x, y, left=np.nan, right=np.nan)))


def reread(budgets: Sequence[Budget], losses: Sequence[Floats]) -> list[Budget]:
    """The budgets with other losses."""
    return [
        Budget(budget.flops, budget.spread, budget.log_n, budget.log_t, loss)
        for budget, loss in zip(budgets, losses, strict=True)
    ]

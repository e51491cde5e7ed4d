"""The arms of a convergence study: how they are named, and what theory says of each."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.studies.convergence.settings import ConvergenceSettings
from analysis.tables import keys
from scionlab.errors import unknown

PROBLEM = "noise:"  # data of the quadratic: noise:none, noise:gaussian-S, noise:skewed-S
COVERED = ("scion", "uscion", "clipped-scion", "clipped-uscion")
CLIPPED, ALMOND = "clipped-", "almond"
NEAR = 0.05  # an exponent of the step sizes within this of a theorem's is the theorem's


@dataclass(frozen=True)
class Arm:
    """A method with its momentum schedule on one kind of noise.

    `rate` is the exponent theory promises, None if it promises none; `may_stall`, that it promises a noise floor alone.
    `lr_exponent` is that of the step sizes used; None if they follow no power of n.
    """

    name: str
    optimizer: str
    momentum_schedule: str
    data: str
    rate: float | None
    may_stall: bool
    lr_exponent: float | None

    @property
    def noiseless(self) -> bool:
        """Whether gradients are exact."""
        return noiseless(self.data)

    @property
    def clipped(self) -> bool:
        """Whether f is promised to fall at every step without noise."""
        return self.optimizer.startswith(CLIPPED) and self.noiseless

    @property
    def theory(self) -> str:
        """What theory says of its ‖∇f‖_*."""
        if self.rate is not None:
            return f"n^{self.rate:+.2f}"
        return "floor" if self.may_stall else "–"


def noiseless(data: str) -> bool:
    """Whether the data's name says that its gradients have no noise."""
    kind, _, sigma = data.removeprefix(PROBLEM).partition("-")
    return data.startswith(PROBLEM) and (kind == "none" or (sigma != "" and float(sigma) == 0))


def arms(runs: pd.DataFrame, settings: ConvergenceSettings) -> list[Arm]:
    """The arms of runs with the column `arm`, by name; UserError for settings on one that is not there."""
    names = sorted(runs["arm"].unique())
    for field, named in (("rates", settings.rates), ("floors", settings.floors)):
        for name in named:
            if name not in names:
                raise unknown(f"settings.{field}", name, names)
    momenta = keys.values(runs, "momentum_schedule", "settings.series")
    described = runs.assign(momentum_schedule=momenta.fillna("constant"))
    return [_arm(name, described[described["arm"] == name], settings) for name in names]


def _arm(name: str, runs: pd.DataFrame, settings: ConvergenceSettings) -> Arm:
    optimizer, momenta, data = (_joined(runs[column]) for column in ("optimizer", "momentum_schedule", "data"))
    lr_exponent = _lr_exponent(runs)
    rate, may_stall = None, False
    if _joined(runs["schedule"]) == "constant" and lr_exponent is not None:
        rate, may_stall = _theory(optimizer, momenta, noiseless(data), lr_exponent)
    if name in settings.rates:
        rate, may_stall = settings.rates[name], False
    if name in settings.floors:
        rate, may_stall = None, True
    return Arm(name, optimizer, momenta, data, rate, may_stall, lr_exponent)


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _lr_exponent(runs: pd.DataFrame) -> float | None:
    """Exponent of γ in n, if γ is one power of n; None otherwise, and for one horizon."""
    x, y = np.log2(runs["steps"].to_numpy(float)), np.log2(runs["lr"].to_numpy(float))
    if np.ptp(x) == 0:
        return None
    slope, level = np.polyfit(x, y, 1)
    return float(slope) if np.abs(y - level - slope * x).max() <= NEAR else None


def _theory(optimizer: str, momenta: str, exact: bool, lr_exponent: float) -> tuple[float | None, bool]:
    """The rate, and whether a floor is all that is promised, for constant step sizes ∝ n^lr_exponent."""
    if optimizer == ALMOND:
        return None, not exact
    if optimizer not in COVERED:
        return None, False
    if momenta == "vanishing":
        return (-1 / 4 if _near(lr_exponent, -3 / 4) else None), False
    if optimizer.startswith(CLIPPED) and exact and _near(lr_exponent, 0):
        return -1 / 2, False
    if not _near(lr_exponent, -1 / 2):
        return None, False
    return (-1 / 2, False) if exact else (None, True)


def _near(exponent: float, of: float) -> bool:
    return abs(exponent - of) <= NEAR

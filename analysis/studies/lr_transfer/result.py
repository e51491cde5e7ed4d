"""What a fit of learning-rate transfer gives (`analysis.studies.lr_transfer.fit`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, RESAMPLES, with_interval
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome, record
from analysis.studies.lr_transfer.settings import BY_OPTIMIZER, LrTransferSettings
from analysis.tables import keys
from scionlab.errors import UserError

# A drift within this many octaves per octave is called "stays put": over 10× the width the best learning rate
# then moves by less than a factor of 1.8, below what a grid of one octave resolves.
STAYS_PUT = 0.25


@dataclass(frozen=True)
class Optimum:
    """Best learning rate of one series at one place `at` of the axis; None where every rate diverged.

    `at_edge`: the best point ends the grid, so lr* may lie beyond. `resolved`: it does not, and no neighbour diverged.
    `val_loss_opt` is the best loss measured (mean over seeds that trained), not the curve's. `share_diverged` is the
    largest share of runs that diverged at the measured rates to either side of lr*.
    """

    series: str
    optimizer: str
    at: float
    lr_opt: float | None
    lr_opt_low: float | None
    lr_opt_high: float | None
    at_edge: bool
    resolved: bool
    val_loss_opt: float | None
    n_seeds: int
    n_diverged: int
    share_diverged: float


@dataclass(frozen=True)
class Transfer:
    """How one series' best learning rate moves along the axis. Regret is in nats.

    `resolved`: every optimum is. `cut_off`: an optimum, or more than 2.5% of its draws, ends its grid, so an interval
    ends where the grid does. `regret_diverges`: the first place's rate diverges at the last; the regret is infinite.
    """

    series: str
    optimizer: str
    verdict: Outcome
    drift: float | None
    drift_low: float | None
    drift_high: float | None
    transfer_regret: float | None
    regret_low: float | None
    regret_high: float | None
    regret_diverges: bool
    resolved: bool
    cut_off: bool
    n_seeds: int
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class LrTransfer:
    """The fit of one table of runs. In its tables `at` is called by the axis' name, and `series` is left out where it
    is the optimizer.
    """

    optima: tuple[Optimum, ...]
    transfers: tuple[Transfer, ...]
    settings: LrTransferSettings

    @property
    def axis(self) -> str:
        """The axis in words."""
        return keys.spoken(self.settings.axis)

    def of(self, series: str) -> list[Optimum]:
        """A series' optima along the axis."""
        return [o for o in self.optima if o.series == series]

    def cells(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Runs with the columns `series` and `at`, in the order of the fit."""
        order = {series: i for i, series in enumerate(dict.fromkeys(o.series for o in self.optima))}
        placed = place(runs, self.settings)
        known = placed[placed["series"].isin(list(order))]
        return known.sort_values(["series", "at", "lr"], key=lambda c: c.map(order) if c.name == "series" else c)

    def named(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with the columns `series`, `optimizer` and `at`, as it is written."""
        first = ["series", "optimizer", "at"]
        table = table[[*first, *(column for column in table if column not in first)]]
        if self.settings.series == BY_OPTIMIZER:
            table = table.drop(columns="series")
        return table.rename(columns={"at": self.settings.axis})

    def frame(self) -> pd.DataFrame:
        """One row per series and place, the series' transfer repeated in each."""
        optima = pd.DataFrame([record(o) for o in self.optima])
        transfers = pd.DataFrame([record(t) for t in self.transfers])
        return self.named(optima.merge(transfers.drop(columns=["optimizer", "n_seeds", "resolved"]), on="series"))

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its table, by the name of its CSV."""
        return {"lr_transfer": self.frame()}

    def judgements(self) -> tuple[Judgement, ...]:
        """One per series."""
        return tuple(Judgement(t.series, t.verdict, t.lacks) for t in self.transfers)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per series, as text for a terminal."""
        title = f"Learning-rate transfer (drift in octaves of lr per octave of {self.axis}, regret in nats)"
        return [(title, self._texts())]

    def _texts(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                ", ".join(keys.spoken(key) for key in self.settings.series): t.series,
                f"{self.axis}s": ", ".join(keys.plain(o.at) for o in self.of(t.series)),
                "log2 lr*": ", ".join(_exponent(o) for o in self.of(t.series)),
                "drift": with_interval(t.drift, t.drift_low, t.drift_high, "+.2f"),
                "regret": with_interval(t.transfer_regret, t.regret_low, t.regret_high, ".3f"),
                "verdict": t.verdict,
            }
            for t in self.transfers
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "stays_put_within": STAYS_PUT,
            "axis": self.settings.axis,
            "optima": [self._entry(o) for o in self.optima],
            "transfers": [self._entry(t) for t in self.transfers],
        }

    def _entry(self, of: Optimum | Transfer) -> dict[str, Any]:
        dropped = {"series"} if self.settings.series == BY_OPTIMIZER else set()
        return {self.settings.axis if k == "at" else k: v for k, v in record(of).items() if k not in dropped}


def _exponent(optimum: Optimum) -> str:
    if optimum.lr_opt is None:
        return "none"
    return f"{np.log2(optimum.lr_opt):.1f}{'' if optimum.resolved else '!'}"


def place(runs: pd.DataFrame, settings: LrTransferSettings) -> pd.DataFrame:
    """Runs with the columns `series` and `at`; UserError where a key is unknown or the axis is not above 0."""
    at = keys.values(runs, settings.axis, "axis")
    numbers = pd.to_numeric(at, errors="coerce")
    if not (numbers > 0).all():
        wrong = ", ".join(sorted({keys.plain(value) for value in at[~(numbers > 0)]}))
        raise UserError(
            f"axis: {settings.axis!r} is not allowed: it must be a number above 0 in every run, not {wrong}"
        )
    return runs.assign(series=keys.labels(runs, settings.series, "series"), at=numbers)

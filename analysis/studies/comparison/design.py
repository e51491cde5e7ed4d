"""From a table of runs to arms × places: a cell is one arm at one place, a curve of costs over learning rates.

Costs are what tuning makes small: losses as they are, accuracies with their sign turned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.lr_curve import LrCurve
from analysis.studies.comparison.settings import ComparisonSettings
from analysis.tables import keys
from scionlab.errors import UserError
from scionlab.runs.store import FINISHED

COLUMNS = ("optimizer", "lr", "seed", "status")
NEEDED = {"gap": ("val_loss", "train_loss"), "log2_loss": ("val_loss",)}
CHOICE = "chosen."  # before the keys of what is tuned, in the table of runs
HINT = "name what differs among arms or across, or give each setting a preset of its own"


@dataclass(frozen=True, eq=False)
class Arm:
    """`name` is what it is called, `aliases` what else it answers to; `values` are those of its keys."""

    name: str
    aliases: tuple[str, ...]
    optimizer: str
    values: dict[str, Any]

    @classmethod
    def of(cls, optimizer: str, values: dict[str, Any], labels: dict[str, str]) -> "Arm":
        """Called by its label, whether that is of the whole arm or of its values one by one."""
        raw = ", ".join(map(keys.plain, values.values()))
        full = ", ".join(keys.label(key, value) for key, value in values.items())
        parts = ", ".join(labels.get(keys.plain(v), keys.label(k, v)) for k, v in values.items())
        return cls(labels.get(raw) or labels.get(full) or parts, (raw, full), optimizer, values)

    def others(self, key: str) -> dict[str, Any]:
        """Its values but for one key's."""
        return {name: value for name, value in self.values.items() if name != key}


@dataclass(frozen=True)
class Design:
    """The arms and places of a sweep, in the order its grid names them; numbers in their own. One place is None."""

    settings: ComparisonSettings
    arms: tuple[Arm, ...]
    places: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        """Whether places are numbers."""
        return all(is_number(place) for place in self.places)

    @property
    def across(self) -> str:
        """The key of the places in words; empty where there is one place."""
        return "" if self.settings.across is None else keys.spoken(self.settings.across)

    @property
    def tuned(self) -> str:
        """What is tuned beside the rate, in words; empty where nothing is."""
        return " or ".join(map(keys.spoken, self.settings.tuned))

    def place(self, index: int) -> str:
        """A place as a value in words."""
        text = keys.plain(self.places[index])
        return self.settings.labels.get(text, text)

    def at(self, index: int) -> str:
        """A place with its key, such as "batch size 16"."""
        return f"{self.across} {self.place(index)}".strip() if self.settings.across else ""

    def arm(self, name: str) -> int | None:
        """The arm that a claim calls by its name or values; None if there is none."""
        return next((i for i, arm in enumerate(self.arms) if name in (arm.name, *arm.aliases)), None)

    def find_place(self, value: float | str) -> int | None:
        """The place that a claim calls so; None if there is none."""
        text = keys.plain(value)
        return next((i for i in range(len(self.places)) if text in (keys.plain(self.places[i]), self.place(i))), None)


@dataclass(frozen=True)
class Cell:
    """One arm at one place, with one choice of what is tuned beside the rate. `curve` is what is tuned, and `read` what
    is compared: the same curve, or of another metric the one rate that tuning finds best.

    `choice` are the values of what is tuned beside the rate, by key.
    """

    arm: int
    place: int
    curve: LrCurve
    read: LrCurve
    choice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether there is a learning rate that trains."""
        return bool(self.curve.finite.any())


def arrange(runs: pd.DataFrame, settings: ComparisonSettings, grid: Sequence[str]) -> tuple[Design, pd.DataFrame]:
    """The design of a table of runs, and its finished runs with the columns `arm` and `place`, as indices.

    `grid` are ids of trials in the order of the experiment. UserError for missing columns and unknown keys.
    """
    metric = NEEDED.get(settings.metric, (settings.metric,))
    missing = [column for column in (*COLUMNS, *metric) if column not in runs]
    if missing:
        raise UserError(f"runs: columns {', '.join(missing)} are missing; metric {settings.metric!r} needs them")
    finished = runs[runs["status"].isin(FINISHED)]
    ok = finished["status"] == "ok"
    if not ok.any():
        raise UserError(f"runs: none of {len(runs)} trained to its end: there is nothing to compare")
    for column in metric:
        if finished.loc[ok, column].isna().any():
            raise UserError(f"metric: {settings.metric!r} is not allowed: not every run has a {column}")
    if settings.metric == "log2_loss":
        finished = finished.assign(log2_loss=_octaves(finished["val_loss"]))
    order = _order(finished, grid)
    arm_of = arms_of(finished, settings)
    arms = tuple(dict.fromkeys(arm_of[order.sort_values(kind="stable").index]))
    if len({arm.name for arm in arms}) < len(arms):
        raise UserError("labels: two arms have the same name")
    places, at = _places(finished, settings, order)
    return Design(settings, arms, places), finished.assign(arm=arm_of.map(arms.index), place=at)


def _octaves(losses: "pd.Series[float]") -> "pd.Series[float]":
    if (losses <= 0).any():
        raise UserError(f"metric: 'log2_loss' is not allowed: a validation loss is {losses.min():g}, not above 0")
    return pd.Series(np.log2(losses.astype(float)), losses.index)


def arms_of(runs: pd.DataFrame, settings: ComparisonSettings) -> "pd.Series[Any]":
    """The arm of every run."""
    table = pd.DataFrame({key: keys.values(runs, key, "arms").astype(object) for key in settings.arms})
    found: dict[str, Arm] = {}
    rows = []
    for optimizer, row in zip(runs["optimizer"], table.to_dict("records"), strict=True):
        values = {str(key): value for key, value in row.items() if pd.notna(value)}
        rows.append(found.setdefault(repr(values), Arm.of(str(optimizer), values, settings.labels)))
    return pd.Series(rows, index=runs.index, dtype=object)


def _order(runs: pd.DataFrame, grid: Sequence[str]) -> "pd.Series[int]":
    """Where each run comes in the experiment's grid, or else in the table."""
    if "trial_id" not in runs or not len(grid):
        return pd.Series(np.arange(len(runs)), index=runs.index)
    return runs["trial_id"].map({trial: i for i, trial in enumerate(grid)})


def _places(
    runs: pd.DataFrame, settings: ComparisonSettings, order: "pd.Series[int]"
) -> tuple[tuple[Any, ...], "pd.Series[int]"]:
    if settings.across is None:
        return (None,), pd.Series(0, index=runs.index)
    at = keys.values(runs, settings.across, "across")
    if at.isna().any():
        without = ", ".join(sorted(set(runs.loc[at.isna(), "optimizer"])))
        raise UserError(f"across: {settings.across!r} is not allowed: runs of {without} have no such value")
    values = list(at.loc[order.sort_values(kind="stable").index].drop_duplicates())
    if all(is_number(value) for value in values):
        values.sort()
    index = {value: i for i, value in enumerate(values)}
    return tuple(map(_plain, values)), at.map(index)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def is_number(value: Any) -> bool:
    """Whether a value of a key is one; truth values are not."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def cells_of(placed: pd.DataFrame, design: Design) -> list[Cell]:
    """The cells of finished runs with `arm` and `place`; UserError where runs of an arm differ in anything else.

    One for every choice of what is tuned: of an arm and a place there may be several.
    """
    settings = design.settings
    chosen = [CHOICE + key for key in settings.tuned]
    placed = placed.assign(**{CHOICE + key: keys.values(placed, key, "tuned") for key in settings.tuned})
    varied = [*settings.arms, *settings.tuned, "lr", "seed", *([settings.across] if settings.across else [])]
    for _, rows in placed.groupby("arm"):
        name = design.arms[int(rows["arm"].iloc[0])].name
        for other, values in keys.different(rows, varied, ("optimizer", *keys.FIXED)).items():
            raise UserError(f"runs: {other} of {name!r} takes several values ({values}); {HINT}")
        if rows.duplicated(["place", *chosen, "lr", "seed"]).any():
            raise UserError(f"runs: several runs of {name!r} share place, lr and seed; {HINT}")
    found = []
    for _, rows in placed.groupby(["arm", "place", *chosen], dropna=False):
        tuned = read = _costs(rows, "val_loss" if settings.metric == "gap" else settings.metric)
        if settings.metric == "gap":
            best = rows["lr"] == np.sort(rows["lr"].unique())[int(np.argmin(tuned.mean))]
            read = _costs(rows[best], "gap")
        choice = {key: _plain(rows[CHOICE + key].iloc[0]) for key in settings.tuned}
        found.append(Cell(int(rows["arm"].iloc[0]), int(rows["place"].iloc[0]), tuned, read, choice))
    return found


def _costs(rows: pd.DataFrame, metric: str) -> LrCurve:
    cost = rows["val_loss"] - rows["train_loss"] if metric == "gap" else rows[metric] * sign(metric)
    return LrCurve.of(rows.assign(val_loss=cost), float(rows["place"].iloc[0]))


def sign(metric: str) -> float:
    """What turns the metric into a cost, and back."""
    return -1.0 if metric == "val_accuracy" else 1.0

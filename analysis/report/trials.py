"""The table of all trials on a page: what differs between them, how they ended, and the numbers they are sorted by."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.tables import keys
from scionlab.errors import UserError

MOST = 5000  # rows of the table; a page of more is slow to open
LISTED = 24  # different values of a column to choose from in a list; of more, one searches
ALWAYS = ("optimizer", "lr", "seed", "status", "val_loss", "wall_time_s")
SETTINGS = ("optimizer", "model", "width", "depth", "batch_size", "seq_len", "tokens", "lr", "momentum", "seed")
# What the rows of an import may say beyond.
OF_IMPORTS = ("run", "n_params", "flops", "checkpoint_step", *keys.OF_IMPORTS, "schedule", "data")
RESULTS = ("status", "error", "val_loss", "val_accuracy", "wall_time_s")
HEADINGS = {
    "batch_size": "batch", "seq_len": "length", "lr": "learning rate", "val_loss": "validation loss",
    "val_accuracy": "accuracy", "wall_time_s": "seconds",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value as a reader sees it, and the number it is sorted by; None of what is no number."""

    text: str
    order: float | None = None


@dataclass(frozen=True)
class Column:
    """A heading and its cells, in the order of the trials; `key` is that of `analysis.tables.keys`."""

    key: str
    name: str
    cells: list[Cell]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(cell.order is not None for cell in self.cells if cell.text)

    @property
    def listed(self) -> bool:
        """Whether its values are few enough for a list to choose from."""
        return len(self.values) <= LISTED

    @property
    def values(self) -> list[str]:
        """The different values in plain text, smallest first."""
        known = {cell.text: cell.order for cell in self.cells if cell.text}
        return sorted(known, key=lambda text: (known[text] or 0.0 if self.numeric else 0.0, text))


@dataclass(frozen=True)
class Trials:
    """The trials of a sweep: their ids, their columns, and how many there are when some are left out."""

    ids: list[str]
    columns: list[Column]
    total: int

    @property
    def caption(self) -> str:
        """What the table is called, and what is not in it."""
        if self.total == len(self.ids):
            return f"All {self.total:,} trials."
        return f"The first {len(self.ids):,} of {self.total:,} trials; `scionlab export` writes all of them."

    @property
    def rows(self) -> Iterator[tuple[str, tuple[Cell, ...]]]:
        """A trial's id and its cells."""
        return zip(self.ids, zip(*(column.cells for column in self.columns), strict=True), strict=True)

    def column(self, key: str) -> Column | None:
        """The column of a key, if there is one."""
        return next((column for column in self.columns if column.key == key), None)

    @property
    def varying(self) -> list[Column]:
        """Settings in which trials differ, but for the seed."""
        apart = (*RESULTS, "seed")
        return [column for column in self.columns if column.key not in apart and len(column.values) > 1]


def trials(runs: pd.DataFrame, most: int = MOST) -> Trials:
    """The first trials of a sweep's runs; columns that say the same of all of them are left out."""
    shown = runs.head(most)
    columns = [
        Column(key, HEADINGS.get(key, keys.spoken(key)), [_cell(key, value) for value in values])
        for key, values in _values(shown)
    ]
    return Trials(list(shown["trial_id"]), columns, len(runs))


def _values(runs: pd.DataFrame) -> Iterator[tuple[str, "pd.Series[Any]"]]:
    for key in (*SETTINGS, *_other_settings(runs), *RESULTS):
        try:
            values = runs[key] if key in RESULTS else keys.values(runs, key, "trials")
        except (KeyError, UserError):  # an import has only some of them
            continue
        if key in ALWAYS or values.nunique(dropna=False) > 1:
            yield key, values


def _other_settings(runs: pd.DataFrame) -> list[str]:
    """Other fields of the trials in which they differ, and options that differ within an optimizer."""
    if "spec" not in runs:
        return list(OF_IMPORTS)
    specs = pd.DataFrame(keys.specs(runs)).drop(columns=["optimizer", "options", *SETTINGS], errors="ignore")
    fields = specs.astype(str).nunique()
    options = pd.DataFrame([spec["options"] for spec in keys.specs(runs)]).astype(str)
    within = options.groupby(runs["optimizer"].to_numpy()).nunique().max()
    named = [name for name in fields[fields > 1].index if name not in (*keys.WITHOUT_EFFECT[:2], "device")]
    return named + [keys.OPTION + name for name in within[within > 1].index]


def _cell(key: str, value: Any) -> Cell:
    if isinstance(value, list | dict):
        value = json.dumps(value)
    if not isinstance(value, str) and pd.isna(value):
        return Cell("")
    if isinstance(value, str | bool):
        text = str(value).splitlines()[-1] if key == "error" and value else str(value)
        return Cell(text)
    number = float(value)
    if key == "lr" and number > 0 and math.log2(number).is_integer():
        return Cell(f"2^{math.log2(number):g}", number)
    shown = FORMATS.get(key)
    return Cell(shown(number) if shown else keys.plain(number), number)


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"


FORMATS: dict[str, Callable[[float], str]] = {
    "tokens": "{:,.0f}".format,
    "lr": "{:.4g}".format,
    "val_loss": _loss,
    "val_accuracy": "{:.4f}".format,
    "wall_time_s": "{:,.2f}".format,
}

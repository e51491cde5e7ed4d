"""Runs that watched their layers: the rows of the layers table, each with what its run varied.

A parameter is named by where it lies, `blocks.3.attention.q.weight`. What it is, its kind, is the same in every block:
`attention.q`. A kind is the name without the block's number and what comes before it, or without its last number where
nothing follows; a name that is nothing but numbers is called by its role.
"""

from collections.abc import Collection, Sequence

import pandas as pd

from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError
from scionlab.runs.store import FINISHED

LOGITS = "logits"
RUN = ("trial_id", "status", "optimizer", "width", "seed", "lr", "batch_size", "tokens_budget", "val_loss")
LAYER = ("trial_id", "step", "layer", "role")


def watched(tables: SweepTables, columns: Sequence[str], study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished runs that watched their layers, and the layers' rows of those that did not diverge.

    The rows have the runs' columns `RUN`, too. UserError if no run watched its layers, none trained to its end, or one
    of the layers table's `columns` is missing.
    """
    layers = tables.layers
    if layers.empty:
        raise UserError(f"runs: none of them watched its layers, which {study} is about; set watch in its trials")
    _require("layers", layers, [*LAYER, *columns])
    _require("runs", tables.runs, RUN)
    finished = tables.runs[tables.runs["status"].isin(FINISHED)]
    seen = finished[finished["trial_id"].isin(layers["trial_id"]) | (finished["status"] == "diverged")]
    ok = seen[seen["status"] == "ok"]
    if ok.empty:
        raise UserError(
            f"runs: none of those that watched their layers trained to its end ({len(seen)} diverged): "
            f"{study} has nothing to show"
        )
    kept = [*LAYER, *(name for name in columns if name not in LAYER)]
    return seen, layers[kept].merge(ok[list(RUN)], on="trial_id")


def _require(table: str, frame: pd.DataFrame, columns: Collection[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(f"{table}: columns {', '.join(missing)} are missing; needed are {', '.join(columns)}")


def refuse_repeated(runs: pd.DataFrame, cell: Sequence[str]) -> None:
    """UserError if two runs of an optimizer share all of `cell`: they differ in something that is not looked at."""
    again = runs[runs.duplicated(["optimizer", *cell])]
    if len(again):
        row = again.iloc[0]
        setting = ", ".join(f"{name} {row[name]:g}" for name in cell)
        raise UserError(
            f"runs: several runs of {row['optimizer']!r} have {setting}; give each setting a preset of its own "
            "(finished trials are reused)"
        )


def module_of(layer: str) -> str:
    """Name of the module a parameter belongs to; that of a parameter that belongs to no module is its own."""
    return layer.rpartition(".")[0] or layer


def kinds(rows: pd.DataFrame) -> "pd.Series[str]":
    """The kind of every row's `layer`; where one name would cover several roles the role is added to it."""
    pairs = rows[["layer", "role"]].drop_duplicates()
    named = pairs.assign(kind=[_kind(module_of(layer), role) for layer, role in pairs.itertuples(index=False)])
    several = named.groupby("kind")["role"].transform("nunique") > 1
    named["kind"] = named["kind"].where(
        ~several | (named["kind"] == named["role"]), named["kind"] + " (" + named["role"] + ")"
    )
    return rows[["layer", "role"]].merge(named, on=["layer", "role"], how="left")["kind"].set_axis(rows.index)


def _kind(module: str, role: str) -> str:
    parts = module.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return module
    inside = parts[numbers[-1] + 1 :]
    return ".".join(inside or [part for part in parts if not part.isdigit()]) or role

"""Tables of the run store for other tools: tidy, one row per observation, every field of a trial in a column.

`EXPORTS` is the one table of what there is. Options of a method, which differ from one to another, are the columns
`options.NAME`; they are null where a method has none of that name.
"""

import json
import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from scionlab.errors import UserError, unknown
from scionlab.runs.store import RunStore

# Of a trial, what a row of its curve or of its layers is found by. The rate is called `peak_lr`: a row has its own.
NAMES = ["experiment", "preset", "status", "optimizer", "model", "width", "depth"]
NAMES += ["batch_size", "seq_len", "lr", "momentum", "seed"]
FORMATS = (".csv", ".parquet")

Ids = Collection[str] | None


def _runs(store: RunStore, ids: Ids) -> pd.DataFrame:
    runs = store.runs(ids)
    specs = pd.json_normalize([json.loads(spec) for spec in runs["spec"]])
    more = specs[[name for name in specs.columns if name not in runs.columns]]
    return pd.concat([runs.drop(columns="spec"), more.set_index(runs.index)], axis="columns")


def _named(store: RunStore, rows: pd.DataFrame, ids: Ids) -> pd.DataFrame:
    """The rows of trials, with names and options of their trial in front."""
    runs = _runs(store, ids)
    options = [name for name in runs.columns if name.startswith("options.")]
    names = runs[["trial_id", *NAMES, *options]].rename(columns={"lr": "peak_lr"})
    return names.merge(rows.drop(columns="schema_version"), on="trial_id", how="inner")


def _sweeps(store: RunStore, ids: Ids) -> pd.DataFrame:
    """Without the trials of each, which are lists."""
    sweeps = store.sweeps()
    if ids is not None:
        sweeps = sweeps[sweeps["trial_ids"].map(lambda found: not set(found).isdisjoint(ids))]
    return sweeps.drop(columns=["trial_ids", "trial_costs"])


def _tunings(store: RunStore, ids: Ids) -> pd.DataFrame:
    """What was sampled is in columns of its own, params.NAME."""
    tunings = store.tunings()
    if ids is not None:
        tunings = tunings[tunings["trial_id"].isin(ids)].reset_index(drop=True)
    params = pd.json_normalize([json.loads(params) for params in tunings["params"]]).add_prefix("params.")
    return pd.concat([tunings.drop(columns="params"), params.set_index(tunings.index)], axis="columns")


EXPORTS: dict[str, Callable[[RunStore, Ids], pd.DataFrame]] = {
    "runs": _runs,
    "curves": lambda store, ids: _named(store, store.curves(ids), ids),
    "layers": lambda store, ids: _named(store, store.layers(ids), ids),
    "scores": lambda store, ids: _named(store, store.scores(ids), ids),
    "sweeps": _sweeps,
    "tunings": _tunings,
}


def export(store: RunStore, what: str, experiment: str | None = None, preset: str | None = None) -> pd.DataFrame:
    """One of EXPORTS, of all trials or of those that an experiment's or preset's sweeps asked for last.

    UserError for an unknown table, one without rows, and where the store has no such sweep.
    """
    if what not in EXPORTS:
        raise unknown("what", what, EXPORTS)
    ids = None if experiment is None and preset is None else _ids(store, experiment, preset)
    table = EXPORTS[what](store, ids)
    if table.empty:
        raise UserError(f"results: no {what} in {str(store)!r}: there is nothing to export")
    return table


def _ids(store: RunStore, experiment: str | None, preset: str | None) -> set[str]:
    sweeps = store.sweeps()
    for column, value in (("experiment", experiment), ("preset", preset)):
        if value is not None and value not in set(sweeps[column]):
            raise unknown(column, value, sweeps[column].unique())
        sweeps = sweeps if value is None else sweeps[sweeps[column] == value]
    if sweeps.empty:
        raise UserError(f"preset: no sweep of {experiment!r} with preset {preset!r} in {str(store)!r}")
    latest = sweeps.drop_duplicates(["experiment", "preset"], keep="last")
    return {trial for trials in latest["trial_ids"] for trial in trials}


def write_table(table: pd.DataFrame, file: Path, force: bool) -> None:
    """Write a .csv or .parquet file, whole or not at all. UserError for other names, and for one there is already."""
    if file.suffix not in FORMATS:
        raise UserError(f"output: {str(file)!r} is not allowed; it must end in {' or '.join(FORMATS)}, or be -")
    if file.exists() and not force:
        raise UserError(f"output: {str(file)!r} exists; --force replaces it")
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".scionlab-") as folder:
            temporary = Path(folder, file.name)
            if file.suffix == ".csv":
                table.to_csv(temporary, index=False)
            else:
                table.to_parquet(temporary, index=False)
            os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"output: cannot write {str(file)!r}: {error.strerror or error}") from None

"""The rows one report is about: the newest sweep of an experiment and preset, with its runs and curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scionlab.errors import UserError
from scionlab.store import FINISHED, RunStore


@dataclass(frozen=True)
class SweepTables:
    """`sweep` is a row of the sweeps table; `runs` and `curves` hold the trials of its grid that are in the store."""

    sweep: dict[str, Any]
    sweeps: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame

    @property
    def missing(self) -> int:
        """Trials of the grid that have no row yet."""
        return len(self.sweep["trial_ids"]) - len(self.runs)


def load_sweep(results: Path, experiment: str, preset: str) -> SweepTables:
    """Tables of the newest sweep; UserError if there is none, or if it has no finished trial."""
    store = RunStore(results / "runs")
    sweeps = store.sweeps()
    chosen = sweeps[(sweeps["experiment"] == experiment) & (sweeps["preset"] == preset)]
    hint = f"run it with `scionlab run EXPERIMENT --preset {preset} --results {results}` first"
    if chosen.empty:
        raise UserError(f"results: no sweep of {experiment!r} with preset {preset!r} in {str(store.root)!r}; {hint}")
    sweep = {str(name): value for name, value in chosen.iloc[-1].items()}
    ids = list(sweep["trial_ids"])
    runs = store.runs(ids)
    if not runs["status"].isin(FINISHED).any():
        raise UserError(f"results: the sweep of {experiment!r} has no finished trial in {str(store.root)!r}; {hint}")
    order = ["optimizer", "width", "lr", "seed"]
    return SweepTables(sweep, chosen, runs.sort_values(order, ignore_index=True), store.curves(ids))

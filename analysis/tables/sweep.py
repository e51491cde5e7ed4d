"""The rows one report is about: the newest sweep of an experiment and preset with its runs and curves, or an import."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.varied import grouped, study_of
from scionlab.errors import UserError, option, worded
from scionlab.runs.store import FINISHED, RunStore
from scionlab.runs.where import ResultsPlace, named

IMPORTED = "imported"
LOSSES = ["trial_id", "step", "tokens", "train_loss"]


@dataclass(frozen=True)
class SweepTables:
    """`sweep` is a row of the sweeps table; the others hold the trials of its grid that are in the store.

    Curves, layers and scores can be a thousand times as large as runs, and most fits do without: they are read from
    `store` when they are first asked for, unless they are given by hand.
    """

    sweep: dict[str, Any]
    sweeps: pd.DataFrame
    runs: pd.DataFrame
    given_curves: pd.DataFrame | None = None
    given_layers: pd.DataFrame | None = None
    store: RunStore | None = None
    given_tunings: pd.DataFrame | None = None
    given_scores: pd.DataFrame | None = None

    @cached_property
    def curves(self) -> pd.DataFrame:
        """All rows of the curves; `losses` and `probes` are cheaper."""
        if self.given_curves is not None or self.store is None:
            return pd.DataFrame() if self.given_curves is None else self.given_curves
        return self.store.curves(self._ids)

    def losses(self, trial_ids: Collection[str] | None = None) -> pd.DataFrame:
        """Training losses (nats per token) of some trials, by default of all: the curves' rows that are no probe's."""
        ids = self._ids if trial_ids is None else trial_ids
        if self.given_curves is None and self.store is not None:
            return self.store.losses(ids)
        logged = self.curves[~_is_probe(self.curves)]
        chosen = logged if trial_ids is None else logged[logged["trial_id"].isin(list(ids))]
        return chosen.reindex(columns=LOSSES)

    def validations(self, trial_ids: Collection[str]) -> pd.DataFrame:
        """Validation losses of some trials on their way (nats per token), as `val_loss` beside the same columns."""
        columns = [*LOSSES[:-1], "val_loss"]
        if self.given_curves is None and self.store is not None:
            curves = self.store.curves(trial_ids, columns)
        else:
            curves = self.curves.reindex(columns=columns)
            curves = curves[curves["trial_id"].isin(list(trial_ids))]
        return curves[curves["val_loss"].notna()]

    @cached_property
    def probes(self) -> pd.DataFrame:
        """The curves' rows that are a probe's."""
        if self.given_curves is None and self.store is not None:
            return self.store.probes(self._ids)
        return self.curves[_is_probe(self.curves)]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Empty unless some trials watched theirs."""
        if self.given_layers is not None or self.store is None:
            return pd.DataFrame() if self.given_layers is None else self.given_layers
        return self.store.layers(self._ids)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Empty unless some trials have groups to score, or measured their noise."""
        if self.given_scores is not None or self.store is None:
            return pd.DataFrame() if self.given_scores is None else self.given_scores
        return self.store.scores(self._ids)

    def tunings(self, studies: Collection[str]) -> pd.DataFrame:
        """The trials of some searches, by their names."""
        if self.given_tunings is not None or self.store is None:
            return pd.DataFrame() if self.given_tunings is None else self.given_tunings
        return self.store.tunings(studies)

    @property
    def with_curve(self) -> set[str]:
        """Ids of the trials that have a curve in the store."""
        if self.given_curves is None and self.store is not None:
            return self.store.with_curve(self._ids)
        return set(self.curves["trial_id"])

    @property
    def _ids(self) -> list[str]:
        return list(self.runs["trial_id"])

    @property
    def experiment(self) -> str:
        """Its name, which its files are kept under."""
        return named(str(self.sweep["experiment"]))

    @property
    def study(self) -> str | None:
        """The study the sweep was meant for; None in stores older than that column."""
        name = self.sweep.get("study")
        return name if isinstance(name, str) else None

    @property
    def settings(self) -> dict[str, Any]:
        """What the experiment tells its study; {} in stores older than that column."""
        text = self.sweep.get("settings")
        return dict(json.loads(text)) if isinstance(text, str) else {}

    @property
    def missing(self) -> int:
        """Trials of the grid that have no row yet."""
        return len(self.sweep["trial_ids"]) - len(self.runs)


def load_sweep(results: Path | ResultsPlace, experiment: str | None, preset: str | None = None) -> SweepTables:
    """Tables of the newest sweep, or of an import (preset "imported"); UserError if there is none, or it is empty.

    Without an experiment it is the sweep that was called last, of whatever experiment. Without a preset it is the one
    that was called last, of whatever preset; of an experiment without sweeps it is the import of that name.
    """
    store = ResultsPlace.of(results).store()
    if preset == IMPORTED:
        return _load_import(store, experiment)
    sweeps = store.sweeps()
    for column, asked in (("experiment", experiment), ("preset", preset)):
        sweeps = sweeps if asked is None else sweeps[sweeps[column] == asked]
    if sweeps.empty and preset is None and experiment in store.experiments():
        return _load_import(store, experiment)
    with_preset = f" --preset {preset}" if preset else ""
    hint = f"run it with `scionlab run EXPERIMENT{with_preset} --results {results}` first"
    if sweeps.empty:
        of, at = (f" of {experiment!r}" if experiment else ""), (f" with preset {preset!r}" if preset else "")
        imports = store.experiments() if not of and not at else []
        hint = f"name one of its imports: {', '.join(imports)}" if imports else hint
        if experiment is not None and not store.imports(named(experiment)).empty:
            hint = f"it is an import: leave the preset out, or ask for {IMPORTED}"
        raise UserError(f"results: no sweep{of}{at} in {str(store)!r}; {hint}")
    sweep = {str(name): value for name, value in sweeps.iloc[-1].items()}
    experiment = named(str(sweep["experiment"]))
    chosen = sweeps[(sweeps["experiment"] == experiment) & (sweeps["preset"] == sweep["preset"])]
    ids = list(sweep["trial_ids"])
    runs = store.runs(ids)
    if not runs["status"].isin(FINISHED).any():
        raise UserError(f"results: the sweep of {experiment!r} has no finished trial in {str(store)!r}; {hint}")
    order = ["optimizer", "width", "tokens_budget", "batch_size", "seq_len", "lr", "seed"]
    runs = runs.sort_values(order, ignore_index=True)
    return SweepTables(sweep, chosen, runs, store=store)


def _is_probe(curves: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are a probe's: none where the column is missing."""
    none = pd.Series(False, index=curves.index)
    return curves["probe_batch_size"].notna() if "probe_batch_size" in curves else none


def _load_import(store: RunStore, name: str | None) -> SweepTables:
    if name is None:
        raise UserError(f"experiment: is missing; name the import beside {option('preset', IMPORTED)}")
    runs = store.imports(named(name))
    if runs.empty:
        way = worded(f"`scionlab import FILE --name {name}`", f"import_table(…, name={name!r}, results=…)")
        hint = f"make one with {way}"
        raise UserError(f"results: no import called {name!r} in {str(store)!r}; {hint}")
    return replace(import_tables(name, runs), given_curves=None, sweeps=store.sweeps().iloc[:0], store=store)


def import_tables(name: str, imported: pd.DataFrame, curves: pd.DataFrame | None = None) -> SweepTables:
    """Tables of an import called `name`, of rows of the imports and curves tables that no store has."""
    runs = grouped(imported)
    choice = study_of(runs)
    sweep = {
        "sweep_id": f"import-{name}",
        "experiment": name,
        "preset": IMPORTED,
        "title": f"Imported runs: {name}",
        "question": f"What do {len(runs):,} runs of {runs['source'].iloc[0]} say about {choice.about}?",
        "study": choice.study,
        "settings": json.dumps(choice.settings),
        "trial_ids": list(runs["trial_id"]),
    }
    return SweepTables(sweep, pd.DataFrame(), runs, curves)


def run_tables(name: str, runs: pd.DataFrame) -> SweepTables:
    """Tables of rows of the runs table that somebody chose, called `name`; without curves and layers."""
    sweep = {"sweep_id": name, "experiment": name, "preset": "chosen", "trial_ids": list(runs["trial_id"])}
    return SweepTables(sweep, pd.DataFrame(), runs.reset_index(drop=True))

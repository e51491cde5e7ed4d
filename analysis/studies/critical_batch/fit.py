"""Critical batch sizes of every method or source of a table, by size and target, and their power laws.

Two kinds of tables have them: of tokens to a target, where every row's loss is the goal (`analysis.tables.goals`), and
of final losses, where tokens to a target are read between the budgets of every batch size (`analysis.laws.of_runs`).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.fits.intervals import RESAMPLES
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.seeds import more_seeds
from analysis.laws.critical_batch import AtTarget, at_targets
from analysis.laws.linear_regime import at_goal, exceeds
from analysis.laws.of_runs import drawn_of, profiled
from analysis.laws.points import check_data
from analysis.studies.critical_batch.growth import growths
from analysis.studies.critical_batch.result import CriticalBatches, Source
from analysis.studies.critical_batch.settings import CriticalBatchSettings
from analysis.studies.critical_batch.target import Target
from analysis.tables.goals import of_goals
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError

NO_RATES = "no learning rates are known: every loss is taken to be that of the best one"


def fit_critical_batches(tables: SweepTables, seed: int = 0) -> CriticalBatches:
    """Fit every method or source of the runs; `seed` is the bootstrap's.

    UserError for runs without batch sizes, and where no batch size has two budgets and none a goal.
    """
    settings = CriticalBatchSettings.parse(tables.settings)
    runs = tables.runs
    if "batch_size" not in runs or runs["batch_size"].isna().all():
        raise UserError("runs: none has a batch size (batch_size, and seq_len), so there is no critical one")
    found = [_source(str(name), rows, settings, seed) for name, rows in runs.groupby("optimizer", sort=True)]
    if not any(source.targets for source in found):
        raise UserError(
            "runs: no batch size has losses at two budgets, and no loss is a goal that three batch sizes come to: "
            "there are no tokens to a target"
        )
    return CriticalBatches(settings, tuple(found))


def _source(name: str, runs: pd.DataFrame, settings: CriticalBatchSettings, seed: int) -> Source:
    check_data(runs)
    rows = runs[runs["batch_size"].notna()]
    rows = rows.assign(seq_len=rows["seq_len"].fillna(1.0)) if "seq_len" in rows else rows.assign(seq_len=1.0)
    sized = "n_params" in rows and rows["n_params"].notna().any()
    rows = rows if sized else rows.assign(n_params=1.0)
    goals, notes = of_goals(rows), list[str]()
    read = _of_goals(rows, settings, seed) if goals else _of_losses(rows, settings, seed, notes)
    seq_len = float(rows["seq_len"].iloc[0]) if rows["seq_len"].nunique() == 1 else None
    linear = settings.linear * float(rows["seq_len"].median())
    n_seeds = 0 if goals else int(rows["seed"].nunique())
    targets = []
    for n_params, at in read:
        notes += [f"{n_params:,.0f} parameters: {text}" if sized else text for text in at.warnings]
        verdict, lacks = _verdict(at, n_seeds)
        above = exceeds(at, linear, settings.share)
        targets.append(Target(n_params if sized else None, at, above, verdict, lacks))
    return Source(name, goals, seq_len, tuple(targets), tuple(growths(targets)), tuple(notes))


def _of_goals(rows: pd.DataFrame, settings: CriticalBatchSettings, seed: int) -> Iterator[tuple[float, AtTarget]]:
    rng = np.random.default_rng(seed)
    came = rows[(rows["status"] == "ok") & rows["val_loss"].notna()]
    for _, group in came.groupby(["n_params", "val_loss"], sort=True):
        n_params, goal = (float(group[column].iloc[0]) for column in ("n_params", "val_loss"))
        if not settings.targets or goal in settings.targets:
            batch = (group["batch_size"] * group["seq_len"]).to_numpy(float)
            yield n_params, at_goal(goal, batch, group["tokens"].to_numpy(float), RESAMPLES, rng)


def _of_losses(
    rows: pd.DataFrame, settings: CriticalBatchSettings, seed: int, notes: list[str]
) -> Iterator[tuple[float, AtTarget]]:
    if "lr" not in rows or rows["lr"].isna().all():
        rows = rows.assign(lr=1.0)
        notes.append(NO_RATES)
    cells, warnings = profiled(rows, RESAMPLES, seed)
    notes += warnings
    for _, mine in cells.groupby("n_params", sort=True):
        columns = mine["budget"], mine["batch_tokens"], mine["val_loss"]
        found, more = at_targets(*columns, settings.targets or None, drawn_of(mine))
        notes += more
        yield from ((float(mine["n_params"].iloc[0]), at) for at in found)


def _verdict(at: AtTarget, n_seeds: int) -> tuple[Outcome, Lacks]:
    """Whether B_crit is known with an interval, and what is missing otherwise; `n_seeds` is 0 for a table of goals."""
    fit = at.fit
    if fit.status != "ok" or fit.cut_off:
        few = fit.status == "too few" and n_seeds > 0  # more budgets let more batch sizes reach the target
        return Outcome.CANNOT_TELL, Lacks.of([Missing.BATCHES, *([Missing.LONGER] if few else [])])
    if fit.batch_crit is None or fit.batch_crit.low is None:
        return Outcome.CANNOT_TELL, more_seeds(n_seeds) if n_seeds else Lacks.of([Missing.BATCHES])
    return Outcome.FOUND, SETTLED

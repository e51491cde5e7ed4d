"""The scaling laws beside a batch-scaling fit: each optimizer's loss over size, tokens, steps and batch."""

import pandas as pd

from analysis.laws.of_runs import chinchilla_of_runs, three_term_of_runs
from analysis.studies.batch_scaling.result import OptimizerLaw


def laws_of_optimizers(cells: pd.DataFrame, seed: int) -> list[OptimizerLaw]:
    """L(N, T) and L(N, K, B) of every optimizer whose runs say how large their networks are."""
    if "n_params" not in cells:
        return []
    known = cells[cells["n_params"].notna()]
    groups = [(str(name), rows) for name, rows in known.groupby("optimizer", sort=True)]
    laws = (chinchilla_of_runs, three_term_of_runs)
    return [OptimizerLaw(name, law(rows, seed)) for name, rows in groups for law in laws]

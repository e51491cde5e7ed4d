"""Any study of the analysis by its name, of a table or of stored runs, without files."""

import os
from typing import Any

import numpy as np

from analysis.pipeline import choose_study
from analysis.studies.table import Fit
from scionlab.api.tables import Runs, stored_tables, tables_of
from scionlab.errors import UserError
from scionlab.own.packages import own_analysis


def fit(
    study: str | None = None,
    runs: Runs | None = None,
    *,
    results: str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    preset: str | None = None,
    **settings: Any,
) -> Fit:
    """Fit a study to runs: what `scionlab fit` does, with nothing written.

    `study`       its name: "lr-transfer", "batch-scaling", "scaling-law", "isoflop", "comparison", …; by default what
                  the runs are for: an experiment's own, or by what varies in an import
    `runs`        what `import_table` gave, or takes without a map; or rows of `RunStore.runs()`, which have no curves
                  and layers: for studies of these name `results`
    `results`     in place of `runs`: a results folder or s3://bucket/prefix
    `experiment`  an experiment or import in `results`; by default the last one run
    `preset`      of that experiment; by default that of its last sweep
    `settings`    the study's: `floor=1.69` (nats), `curve="akima"`, `axis="depth"`, …; by default the experiment's

    The result is the study's own frozen class, with named fields. All have `summaries()`, titled frames to print;
    `frames()`, the tables of its CSV files by name; `as_dict()`, for JSON; and `judgements()`, what was decided and
    what is missing where nothing was. UserError for an unknown study or setting, and for runs that
    the study cannot be asked of.

        found = fit("isoflop", import_table("points.csv"), curve="akima")
        found.frames()["isoflop"]
    """
    if runs is not None and results is not None:
        raise UserError("runs: results are given, too; give one of them")
    if results is None and (experiment is not None or preset is not None):
        raise UserError(f"experiment: {experiment or preset!r} chooses among the runs of results, which is not given")
    with own_analysis():  # a study's modules are imported when it is asked for
        tables = stored_tables(results, experiment, preset) if runs is None else tables_of(runs)
        chosen, tables = choose_study(tables, study, {name: _plain(value) for name, value in settings.items()})
        fitted: Fit = chosen.fit(tables)
    return fitted


def _plain(value: Any) -> Any:
    """Of NumPy's numbers and arrays Python's, as settings are kept as JSON."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value

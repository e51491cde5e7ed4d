"""What tests write to a store, and what they compare of two."""

import pandas as pd
from synthetic import curve_rows, run_row

from scionlab.runs.schema import LAYERS
from scionlab.runs.store import RunStore

# What differs between two runs of the same trial, and nothing else may.
CIRCUMSTANCES = [
    "wall_time_s",
    "tokens_per_s",
    "started_at",
    "experiment",
    "preset",
    "git_commit",
    "stack",
    "stem_steps",
    "compile_s",
]


def numbers(store: RunStore) -> pd.DataFrame:
    return store.runs().drop(columns=CIRCUMSTANCES).sort_values("trial_id", ignore_index=True)


def layer(step):
    known = {"step": step, "tokens": step, "layer": "w", "role": "hidden"}
    return dict.fromkeys(name for name in LAYERS.schema.names if name not in ("trial_id", "schema_version")) | known


def write(store, trial_id, status="ok", loss=2.0, rows=3, layers=2):
    row = run_row(trial_id, "adam", 32, 2**-5, 0, loss if status == "ok" else None)
    error = "RuntimeError: boom" if status == "error" else None
    curve = [point | {"train_loss": loss} for point in curve_rows(loss)[:rows]]
    store.write_run(row | {"status": status, "error": error}, curve, [layer(i) for i in range(layers)])

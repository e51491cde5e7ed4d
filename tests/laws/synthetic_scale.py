"""Stores as large as wanted, written in the compacted layout at once: for what must stay fast and small at scale."""

import hashlib
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from synthetic import SLOPES, run_row, sweep_row

from scionlab.runs.schema import CURVES, RUNS, SCHEMA_VERSION
from scionlab.runs.store import RunStore
from scionlab.runs.store.compaction import ROW_GROUP
from scionlab.runs.store.folder import COMPACTED

RATES, SEEDS = range(-11, 0), 10


def transfer_rows(n_trials):
    """Rows of the runs table: parabolas in log₂ lr whose optimum drifts along the width, as in `synthetic.fill`."""
    rng = np.random.default_rng(0)
    widths = 16 * np.arange(1, 2 + n_trials // (len(SLOPES) * len(RATES) * SEEDS))
    grid = itertools.product(SLOPES, widths, RATES, range(SEEDS))
    for name, width, exponent, seed in itertools.islice(grid, n_trials):
        best = -4.5 + SLOPES[name] * np.log2(width / 32) / 4
        loss = 2 + 0.06 * (exponent - best) ** 2 + rng.normal(0, 0.01)
        yield run_row(trial_id(name, width, exponent, seed), name, int(width), 2.0**exponent, seed, loss)


def comparison_rows(n_trials):
    """Rows of an arm per optimizer across many batch sizes."""
    for row in transfer_rows(n_trials):
        spec = json.loads(row["spec"]) | {"batch_size": row["width"], "width": 32}
        yield row | {"batch_size": row["width"], "width": 32, "spec": json.dumps(spec)}


def batch_rows(n_trials):
    """Rows of one optimizer over budgets × batch sizes × learning rates × seeds; the optimum moves along both."""
    rng, seeds = np.random.default_rng(0), max(2, n_trials // (8 * 12 * len(RATES)))
    grid = itertools.product(range(8), range(12), RATES, range(seeds))
    for budget, b, exponent, seed in itertools.islice(grid, n_trials):
        loss = 2 - 0.1 * budget + 0.02 * (b - 3 - budget / 2) ** 2 + 0.06 * (exponent + 6 - b / 2 + budget / 2) ** 2
        row = run_row(trial_id(budget, b, exponent, seed), "scion", 32, 2.0**exponent, seed, loss + rng.normal(0, 0.01))
        own = {"tokens": 2 ** (18 + budget), "batch_size": 2**b, "seq_len": 8}
        spec = json.dumps(json.loads(row["spec"]) | own)
        yield row | own | {"tokens_budget": own["tokens"], "spec": spec}


def trial_id(*values):
    """As long and as random as a real one."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def write_large(root, rows, curve_rows, **sweep):
    """A compacted store with one sweep of the rows, a curve of `curve_rows` each."""
    ids = [row["trial_id"] for row in rows]
    ordered = sorted(rows, key=lambda row: row["trial_id"])
    with writer(root, RUNS) as file:
        for start in range(0, len(rows), ROW_GROUP):
            stamped = [{"schema_version": SCHEMA_VERSION, **row} for row in ordered[start : start + ROW_GROUP]]
            file.write_table(pa.Table.from_pylist(stamped, RUNS.schema))
    with writer(root, CURVES) as file:
        at_once = max(1, 16 * ROW_GROUP // curve_rows)
        for start in range(0, len(rows), at_once):
            some = [row["trial_id"] for row in ordered[start : start + at_once]]
            file.write_table(curves(some, curve_rows), row_group_size=ROW_GROUP)
    store = RunStore(root)
    store.write_sweep(sweep_row(ids) | sweep)
    return store


def writer(root, table):
    """A compacted file of the table, to be filled."""
    (root / table.name).mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(root / table.name / COMPACTED, table.schema, compression="zstd")


def curves(ids, rows):
    """Curves that fall as 1/step; no two are equal."""
    step = np.tile(np.arange(1, rows + 1), len(ids))
    noise = np.random.default_rng(len(ids)).normal(0, 0.01, len(step))
    known = {
        "trial_id": pa.array(ids).take(pa.array(np.repeat(np.arange(len(ids)), rows))),
        "schema_version": np.full(len(step), SCHEMA_VERSION, np.int16),
        "step": step, "tokens": 1024 * step, "lr": np.full(len(step), 0.1), "train_loss": 2 + 3 / step + noise,
    }  # fmt: skip
    columns = [
        pa.array(known[field.name], field.type) if field.name in known else pa.nulls(len(step), field.type)
        for field in CURVES.schema
    ]
    return pa.Table.from_arrays(columns, schema=CURVES.schema)

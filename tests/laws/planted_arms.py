"""Tables of runs of several arms with known tuned losses, for comparisons: nothing is trained."""

import json

import numpy as np
import pandas as pd

from analysis.tables.sweep import SweepTables

RATES = range(-8, -1)


def arm_runs(
    levels, *, noise=0.0, offset=0.0, common=0.0, seeds=2, rates=RATES, best=-5.3, curvature=0.05, across="batch_size",
    seed=0, **fixed,
):  # fmt: skip
    """Runs of arms {optimizer: {place: tuned loss}}: parabolas in log₂ lr, with noise of every run in nats.

    `offset` is that of a seed in its cell, `common` that of a seed everywhere; `best` may be {optimizer: log₂ lr*}.
    """
    rng, rows = np.random.default_rng(seed), []
    everywhere = common * rng.standard_normal(seeds)
    for optimizer, places in levels.items():
        top = best[optimizer] if isinstance(best, dict) else best
        for place, level in places.items():
            offsets = everywhere + offset * rng.standard_normal(seeds)
            for exponent in rates:
                for s in range(seeds):
                    loss = level + curvature * (exponent - top) ** 2 + offsets[s] + noise * rng.standard_normal()
                    where = {} if across is None else {across: place}
                    rows.append(
                        {
                            "trial_id": f"t{len(rows)}", "optimizer": optimizer, **where, "lr": 2.0**exponent,
                            "seed": s, "status": "ok", "val_loss": loss, "train_loss": loss - 0.1, **fixed,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def told(runs, **settings):
    """The tables of a sweep of these runs with these settings."""
    sweep = {"settings": json.dumps(settings), "trial_ids": list(runs.get("trial_id", ())), "experiment": "arms"}
    return SweepTables(sweep, pd.DataFrame(), runs, pd.DataFrame())


def diverge(runs, where):
    """The runs, some of which diverged."""
    return runs.assign(status=runs["status"].where(~where, "diverged"), val_loss=runs["val_loss"].where(~where))

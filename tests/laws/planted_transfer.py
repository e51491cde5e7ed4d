"""Sweeps of `scionlab transfer` with known regrets and known luck of the searches: nothing is trained."""

import json

import numpy as np
import pandas as pd
from synthetic import WHEN, run_row

from analysis.tables.sweep import SweepTables

REGRETS = {("adam", "wider"): 0.30, ("adam", "deeper"): 0.0, ("scion", "wider"): 0.005, ("scion", "deeper"): -0.001}
SEEDS = (1, 2, 3, 4)
SEARCH_SEEDS = (0, 7, 8)
LUCK = {0: -0.03, 7: 0.01, 8: 0.02}  # nats that the values of a search lose more than the mean of all
PROXY_FLOPS, DIRECT_FLOPS = 1e9, 4e9  # of a whole trial


def searched(method, target, seed, same=False):
    """What the searches of one seed found; those of seed 0 have the names of before."""
    own = "" if seed == 0 else f"-{seed}"
    ids = {way: [f"{method}-{target}-{way}{own}-{fresh}" for fresh in SEEDS] for way in ("zero_shot", "direct")}
    if same:
        ids["direct"] = ids["zero_shot"]
    return {
        "seed": seed, "proxy_search": f"{method}.proxy{own}", "direct_search": f"{method}.{target}{own}", **ids,
    }  # fmt: skip


def cell_of(method, target, same=False, seeds=(0,)):
    searches = [searched(method, target, seed, same) for seed in seeds]
    return {
        "method": method, "optimizer": method, "target": target, "changes": f"{target} (16)", "searches": searches
    }  # fmt: skip


def runs_of(cells, noise=0.002, rng=None, luck=LUCK):
    """Losses have an offset that a seed shares between the ways, and noise of their own; zero-shot ones also luck."""
    rng = rng or np.random.default_rng(0)
    rows = {}
    for cell in cells:
        offsets = rng.normal(0, 0.1, len(SEEDS))
        for one in cell["searches"]:
            lost = REGRETS[cell["method"], cell["target"]] + (luck[one["seed"]] if len(cell["searches"]) > 1 else 0.0)
            for way, more in (("direct", 0.0), ("zero_shot", lost)):
                for trial_id, seed, offset in zip(one[way], SEEDS, offsets, strict=True):
                    loss = 2.0 + offset + more + rng.normal(0, noise / np.sqrt(2))
                    rows[trial_id] = run_row(trial_id, cell["optimizer"], 64, 2.0**-5, seed, loss) | {"flops": 2e9}
    return pd.DataFrame(list(rows.values()))


def tunings_of(cells):
    """Searches of four trials: the second is pruned after a quarter of its steps, the third is the best."""
    rows = []
    for name, (seed, flops) in {
        **{one["proxy_search"]: (one["seed"], PROXY_FLOPS) for cell in cells for one in cell["searches"]},
        **{one["direct_search"]: (one["seed"], DIRECT_FLOPS) for cell in cells for one in cell["searches"]},
    }.items():
        for number, loss in enumerate([2.5, None, 2.1, 2.3]):
            rows.append(
                {
                    "study": name, "experiment": "transfer", "preset": "laptop", "method": name.split(".")[0],
                    "optimizer": name.split(".")[0], "place": name.split(".")[1], "seed": seed, "number": number,
                    "state": "pruned" if loss is None else "complete", "error": None,
                    "params": json.dumps({"lr": 0.01 * (number + 1)}), "val_loss": loss,
                    "trial_id": None if loss is None else f"{name}-{number}", "steps_done": 8 if loss is None else 32,
                    "flops": flops / 4 if loss is None else flops, "wall_time_s": flops / 1e9, "started_at": WHEN,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def tables_of(cells, runs=None, tunings=None):
    runs = runs_of(cells) if runs is None else runs
    sweep = {"trial_ids": list(runs["trial_id"]), "settings": json.dumps({"rule": "bst", "cells": cells})}
    found = tunings_of(cells) if tunings is None else tunings
    return SweepTables(sweep, pd.DataFrame(), runs, pd.DataFrame(), given_tunings=found)

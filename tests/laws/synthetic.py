"""A store filled with made-up runs of a known law, for figures, report and fits: nothing is trained."""

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from planted import Law, planted_runs

from scionlab.runs.store import RunStore

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
SLOPES = {"adam": -1.0, "scion": 0.0, "mine": 0.3}


def fill(root, optimizers=("adam", "scion"), widths=(32, 64, 128), seeds=2, exponents=range(-9, -2)):
    """Parabolas in log₂ lr whose optimum drifts by SLOPES; the highest rate of "adam" diverges, one trial failed."""
    store, rng, ids = RunStore(root), np.random.default_rng(0), []
    for name in optimizers:
        for width in widths:
            for exponent in exponents:
                for seed in range(seeds):
                    trial_id = f"{name}-{width}-{exponent}-{seed}"
                    ids.append(trial_id)
                    best = -4.5 + SLOPES[name] * np.log2(width / 32)
                    loss = 2 - 0.05 * np.log2(width / 32) + 0.06 * (exponent - best) ** 2 + rng.normal(0, 0.01)
                    diverged = name == "adam" and exponent == max(exponents) and width > 32
                    row = run_row(trial_id, name, width, 2.0**exponent, seed, None if diverged else loss)
                    store.write_run(row, curve_rows(loss))
    failed = run_row("failed", optimizers[0], widths[0], 2.0 ** min(exponents), 99, None)
    store.write_run(failed | {"status": "error", "error": "RuntimeError: boom"}, [])
    store.write_sweep(sweep_row([*ids, "failed", "never-trained"]))
    return store


DEPTH_SLOPES = {("adam", "1"): -1.0, ("adam", "1/L"): -0.5, ("scion", "1"): -0.4, ("scion", "1/L"): 0.0}


def fill_depth(root, depths=(2, 4, 8), seeds=2, data="sotu"):
    """Parabolas in log₂ lr whose optimum drifts with the depth by DEPTH_SLOPES, for two residual factors."""
    store, rng, ids = RunStore(root), np.random.default_rng(0), []
    for (name, residual), drift in DEPTH_SLOPES.items():
        for depth in depths:
            for exponent in range(-9, -2):
                for seed in range(seeds):
                    ids.append(f"{name}-{residual.replace('/', '')}-{depth}-{exponent}-{seed}")
                    best = -4.5 + drift * np.log2(depth / 2)
                    loss = 2 + 0.06 * (exponent - best) ** 2 + rng.normal(0, 0.01)
                    row = run_row(ids[-1], name, 32, 2.0**exponent, seed, loss)
                    own = {"depth": depth, "residual": residual}
                    store.write_run(
                        row | own | {"data": data, "spec": json.dumps(json.loads(row["spec"]) | own)}, curve_rows(loss)
                    )
    settings = {"axis": "depth", "series": ["optimizer", "residual"]}
    about = {
        "experiment": "depth",
        "title": "Transfer across depth",
        "sweep_id": "depth",
        "settings": json.dumps(settings),
    }
    store.write_sweep(sweep_row(ids) | about)
    return store


ARMS = {
    "adam": {8: 1.95, 16: 2.0, 64: 2.3},
    "scion": {8: 2.0, 16: 1.9, 64: 1.95},
    "muon": {8: 2.01, 16: 1.91, 64: 1.96},
}
CLAIMS = [
    {"kind": "flatter", "of": "scion", "than": "adam", "text": "Scion <tolerates> larger batches than Adam"},
    {"kind": "better", "of": "muon", "than": "scion", "at": 64},
]


def fill_comparison(root, name="arms", arms=None, rates=range(-8, -2), seeds=2, noise=0.004, data="sotu", **settings):
    """Arms {optimizer: {batch size: tuned loss}} with parabolas in log₂ lr; adam's highest rate diverges at 64."""
    store, rng, ids = RunStore(root), np.random.default_rng(0), []
    for optimizer, places in (arms or ARMS).items():
        for batch, level in places.items():
            for exponent in rates:
                for seed in range(seeds):
                    ids.append(f"{name}-{optimizer}-{batch}-{exponent}-{seed}")
                    loss = level + 0.05 * (exponent + 5.3) ** 2 + 0.02 * seed + noise * rng.normal()
                    gone = optimizer == "adam" and batch == 64 and exponent == max(rates) and len(rates) > 1
                    row = run_row(ids[-1], optimizer, 32, 2.0**exponent, seed, None if gone else loss)
                    spec = json.loads(row["spec"]) | {"batch_size": batch}
                    own = {"batch_size": batch, "experiment": name, "data": data, "spec": json.dumps(spec)}
                    store.write_run(row | own | {"val_accuracy": None if gone else 1 - loss / 10}, curve_rows(loss))
    told = {"across": "batch_size", "claims": CLAIMS} | settings
    about = {"study": "comparison", "title": "Arms", "settings": json.dumps(told)}
    store.write_sweep(sweep_row(ids) | about | {"experiment": name, "sweep_id": name})
    return store


def fill_batch(root, seeds=2, name="batch", momenta=(0.05, 0.2)):
    """A batch-scaling sweep of a planted law; one cell has other momenta, two runs were probed, a third diverged."""
    store, ids = RunStore(root), []
    runs = planted_runs(Law(), seeds=seeds)
    cell = runs[(runs["tokens"] == 2**16) & (runs["batch_size"] == 4)]
    for momentum in momenta:
        worse = cell["val_loss"] + 0.02 * np.log2(momentum / 0.1) ** 2
        runs = pd.concat([runs, cell.assign(momentum=momentum, val_loss=worse)], ignore_index=True)
    for i, row in enumerate(runs.to_dict("records")):
        ids.append(f"{name}-{i}")
        diverged = i == 0
        full = run_row(ids[-1], "scion", 32, row["lr"], int(row["seed"]), None if diverged else row["val_loss"])
        own = {
            "tokens": int(row["tokens"]), "tokens_budget": int(row["tokens"]), "seq_len": 8,
            "batch_size": int(4 * row["batch_size"]), "momentum": row["momentum"], "experiment": name,
        }  # fmt: skip
        spec = json.loads(full["spec"]) | {k: own[k] for k in ("tokens", "batch_size", "seq_len", "momentum")}
        probes = probe_rows(own) if i in (7, 150) else []
        store.write_run(full | own | {"spec": json.dumps(spec)}, curve_rows(row["val_loss"]) + probes)
    about = {"experiment": name, "study": "batch-scaling", "title": "Batch size and token budget", "sweep_id": name}
    store.write_sweep(sweep_row(ids) | about)
    return store


def probe_rows(run, probes=8):
    """Probes whose dual norm falls in a line with the loss, and whose variance falls as 1/(bs)."""
    rows = []
    for k in range(1, probes + 1):
        loss = 2 + 3 / k
        for s in (8, 4):
            for b in (1, 2, 4, 8):
                rows.append(
                    {
                        "step": 4 * k, "tokens": 4096 * k, "lr": 0.1, "train_loss": None, "probe_batch_size": b,
                        "probe_seq_len": s, "probe_loss": loss, "grad_dual": 5 * (loss - 1.5),
                        "grad_variance": 40 / (b * s) * (1 + 0.01 * k), "norm_ratio": 9.0 * b**-0.02,
                        "smoothness": 30.0 if b == 1 and s == 8 else None,
                    }
                )  # fmt: skip
    return rows


def fill_restarts(root):
    """Five ways of two seeds; the restarted ones are better by a tenth of a nat."""
    store, ids = RunStore(root), []
    base, large = {"batch_size": 4, "lr": 2**-7}, {"batch_size": 16, "lr": 2**-8}
    stage = [{"from_tokens": 8192, "seq_len": 16, **large}]
    ways = [(base, stage), (base, stage * 1 + [{**stage[0], "from_tokens": 16384}]), (base, None),
            ({**large, "lr": 2**-7}, None), (large, None)]  # fmt: skip
    for i, (setting, stages) in enumerate(ways):
        for seed in range(2):
            ids.append(f"restarts-{i}-{seed}")
            loss = 2.0 + 0.01 * i + 0.002 * seed - (0.1 if stages else 0)
            row = run_row(ids[-1], "scion", 32, setting["lr"], seed, loss)
            own = {"batch_size": setting["batch_size"], "seq_len": 16, "stages": stages and json.dumps(stages)}
            store.write_run(row | own | {"experiment": "restarts"}, curve_rows(loss))
    about = {"experiment": "restarts", "study": "restarts", "title": "Restarts", "sweep_id": "restarts"}
    store.write_sweep(sweep_row(ids) | about)
    return store


def curve_rows(loss):
    steps = range(1, 33)
    return [{"step": s, "tokens": 1024 * s, "lr": 0.1, "train_loss": loss + 3 / s} for s in steps]


def run_row(trial_id, optimizer, width, lr, seed, loss):
    spec = {"optimizer": optimizer, "options": {"beta2": 0.95}, "width": width, "lr": lr, "seed": seed, "depth": 2}
    return {
        "trial_id": trial_id, "experiment": "width", "preset": "laptop", "error": None, "optimizer": optimizer,
        "status": "diverged" if loss is None else "ok", "model": "gpt", "width": width, "depth": 2, "head_dim": 16,
        "tied": False, "residual": "1/sqrt(2L)", "n_params": 24 * width**2, "n_params_hidden": 24 * width**2,
        "vocab_size": 256, "batch_size": 16, "seq_len": 64, "tokens": 32768, "tokens_budget": 32768, "steps": 32,
        "steps_done": 32, "epochs": 0.1, "lr": lr, "momentum": 0.1, "schedule": "linear", "seed": seed,
        "initial_loss": 5.5, "val_loss": loss, "train_loss": 2.0, "wall_time_s": 1.0, "tokens_per_s": 32768.0,
        "flops": 1e9, "device": "cpu", "dtype": "float32", "val_tokens": 1024, "data": "sotu", "data_sha256": "ab" * 32,
        "scionlab_version": "0.1.0", "git_commit": None, "torch_version": "2.13.0", "machine": "Linux x86_64",
        "started_at": WHEN, "spec": json.dumps(spec),
    }  # fmt: skip


def sweep_row(ids):
    return {
        "sweep_id": "20260101T000000-abcdef", "experiment": "width", "preset": "laptop", "status": "done",
        "title": "Learning-rate transfer across width", "question": "Does <it> transfer?", "executor": "ray",
        "workers": 2, "n_trials": len(ids), "n_trained": len(ids), "trial_seconds": 100.0, "wall_time_s": 60.0,
        "machine": "Linux x86_64, 2 cores", "scionlab_version": "0.1.0", "git_commit": None, "started_at": WHEN,
        "trial_ids": ids,
    }  # fmt: skip

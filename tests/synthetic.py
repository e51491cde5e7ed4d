"""A store filled with made-up runs of a known law, for figures, report and fits: nothing is trained."""

import json
from datetime import UTC, datetime

import numpy as np

from scionlab.store import RunStore

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

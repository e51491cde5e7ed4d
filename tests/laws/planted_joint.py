"""Tables of runs with known joint laws of the best rate and batch in network size and tokens: valleys and noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SIZES = 2.0 ** np.array([24.0, 25.3, 26.4, 28.0])
RATIOS = (8, 30, 110, 300)  # tokens per parameter


@dataclass(frozen=True)
class JointPlan:
    """log₂ lr* = x + a log₂(N/2²⁶) + b log₂(T/2³¹), log₂ B* = y + c log₂(N/2²⁶) + d log₂(T/2³¹), `at` (x, y).

    Losses are a law of N and T, and a valley of `bend` nats an octave² in either direction, which lean on each other.
    """

    lr: tuple[float, float] = (-0.7, 0.3)
    batch: tuple[float, float] = (0.0, 0.6)
    bend: float = 0.02
    lean: float = 0.01
    at: tuple[float, float] = (-8.13, 17.21)  # nothing on a grid

    def optimum(self, n_params, tokens):
        """log₂ lr* and log₂ B*."""
        n, t = np.log2(n_params) - 26, np.log2(tokens) - 31
        return self.at[0] + self.lr[0] * n + self.lr[1] * t, self.at[1] + self.batch[0] * n + self.batch[1] * t

    def loss(self, n_params, tokens, lr, batch):
        """At log₂ lr and log₂ B."""
        best_lr, best_batch = self.optimum(n_params, tokens)
        u, v = lr - best_lr, batch - best_batch
        lowest = 1.8 + 480 * n_params**-0.35 + 2100 * tokens**-0.37
        return lowest + self.bend * (u**2 + v**2) - self.lean * u * v


def runs_of_depths(depths, exponent, **options):
    """Runs of every depth, whose best rate goes as depth^exponent beside the plan's law of N and T."""
    plans = {depth: JointPlan(at=(-8.13 + exponent * np.log2(depth / 8), 17.21)) for depth in depths}
    runs = pd.concat([joint_runs(plan, depth=float(depth), **options) for depth, plan in plans.items()])
    return runs.assign(trial_id=[f"t{i}" for i in range(len(runs))])


def joint_runs(
    plan, noise=0.002, seeds=1, seed=0, sizes=SIZES, ratios=RATIOS, rates=3, batches=2, quiet=1.0, scatter=0.0, **fixed
):
    """Rates and batch sizes an octave apart around every place's best ones.

    noise: of a run's loss, in nats, at the smallest size; the largest has `quiet` times that. rates, batches: to either
    side. scatter: standard deviation of a place's optimum about the law, in octaves.
    """
    rng, rows = np.random.default_rng(seed), []
    for i, n_params in enumerate(sizes):
        sd = noise * quiet ** (i / max(1, len(sizes) - 1))
        for tokens in n_params * np.array(ratios, dtype=float):
            off = scatter * rng.standard_normal(2)
            best = np.array(plan.optimum(n_params, tokens)) + off
            lr, batch = (round(each) + np.arange(-k, k + 1) for each, k in zip(best, (rates, batches), strict=True))
            grid = [(x, y) for y in batch for x in lr]
            for s in range(seeds):
                for x, y in grid:
                    loss = plan.loss(n_params, tokens, x - off[0], y - off[1]) + sd * rng.standard_normal()
                    rows.append((n_params, tokens, 2.0 ** (y - 11), 2.0**x, s, loss))
    columns = ["n_params", "tokens", "batch_size", "lr", "seed", "val_loss"]
    runs = pd.DataFrame(rows, columns=columns).assign(seq_len=2048.0, optimizer="planted", status="ok", **fixed)
    return runs.assign(trial_id=[f"t{i}" for i in range(len(runs))])

"""Tables of runs with a known law: the three-regime surface of arXiv 2603.21191, a learning-rate valley, and noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Law:
    """loss = E + M(t₁, t₂, t₃) + valley·(log₂ γ − log₂ γ*)², with BS₂ ∝ T^q and γ* = γ₀·BS/T in the reference's units.

    `sharpness` is p of the smooth maximum; None is the maximum itself. Terms are in units of `level` nats at the
    reference budget, where noise ends at BS₁ = 2^corner1 and starvation begins at BS₂ = 2^corner2 tokens a step.
    """

    q: float = 2 / 3
    sharpness: float | None = 2.0
    floor: float = 1.2
    level: float = 0.8
    corner1: float = 7.0
    corner2: float = 7.0
    valley: float = 0.05
    reference: float = 2.0**16
    log2_lr: float = -7.0

    def loss(self, tokens, batch_tokens):
        """The profiled loss, over learning rates."""
        t, b = np.log2(np.asarray(tokens) / self.reference), np.log2(batch_tokens)
        middle = -t / 3 + 0 * b
        terms = np.stack([b - self.corner2 - (self.q + 1 / 3) * t, middle, middle - (b - self.corner1) / 6])
        if self.sharpness is None:
            return self.floor + self.level * 2 ** terms.max(axis=0)
        smooth = np.logaddexp2.reduce(self.sharpness * terms, axis=0) / self.sharpness
        return self.floor + self.level * 2**smooth

    def best_lr(self, tokens, batch_tokens):
        """γ*, 2^log2_lr at the reference budget and 128 tokens a step, ∝ BS/T; as far off an octave grid everywhere."""
        return 2.0**self.log2_lr * (batch_tokens / 128) / (tokens / self.reference)

    def best_batch(self, tokens):
        """Where the profiled loss is lowest, by brute force; the middle where it is flat."""
        b = 2 ** np.linspace(0, 16, 16001)
        loss = self.loss(tokens, b)
        return 2 ** np.log2(b[loss <= loss.min() + 1e-12]).mean()


def planted_runs(
    law, seed=0, noise=0.005, offset=0.005, seeds=2, budgets=(16, 17, 18, 19), half=2, batches=6, centre=7.0
):
    """Runs over budgets 2^budgets, `batches` octaves of batch around the law's, 2·half + 1 rates around the best one.

    `noise` is the standard deviation of a run's loss, `offset` that of a seed within its cell, in nats.
    """
    rng, rows = np.random.default_rng(seed), []
    for exponent in budgets:
        tokens = 2.0**exponent
        middle = round(centre + law.q * (exponent - 16))
        for b in range(middle - batches // 2, middle + (batches + 1) // 2):
            batch = 2.0**b
            best = np.log2(law.best_lr(tokens, batch))
            offsets = rng.normal(0, offset, seeds)
            for x in range(round(best) - half, round(best) + half + 1):
                for s in range(seeds):
                    loss = law.loss(tokens, np.array([batch]))[0] + law.valley * (x - best) ** 2
                    rows.append(
                        {
                            "optimizer": "planted", "tokens": tokens, "batch_size": batch / 32, "seq_len": 32,
                            "lr": 2.0**x, "momentum": 0.1, "seed": s, "status": "ok",
                            "val_loss": loss + offsets[s] + rng.normal(0, noise),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)

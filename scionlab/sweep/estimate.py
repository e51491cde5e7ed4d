"""How long a plan will take: from the store where it has trained the same shape, else from a few steps thrown away."""

import math
import time
from collections.abc import Sequence

import pandas as pd

from scionlab.data import load
from scionlab.sweep.plan import Cell
from scionlab.training import train

PROBE_STEPS = 3
# A probe step is cut down to about this much work, and skipped if one sequence exceeds it.
PROBE_FLOPS = {"cpu": 2e10, "cuda": 2e13}

# What decides the speed of a trial, apart from its number of tokens.
SHAPE = ["optimizer", "model", "width", "depth", "head_dim", "batch_size", "seq_len", "device", "dtype"]


def estimate_seconds(cells: Sequence[Cell], runs: pd.DataFrame) -> float:
    """Sum over the cells of each one's training seconds on one worker.

    `runs` are earlier trials (of any experiment). Shapes too large to probe take the FLOP rate of the largest probed.
    """
    known = runs[runs["status"] == "ok"].groupby(SHAPE)["tokens_per_s"].median().to_dict()
    speeds: dict[tuple[object, ...], float] = {}
    for cell in sorted(cells, key=lambda cell: cell.flops):
        shape = _shape(cell)
        if shape not in speeds:
            speeds[shape] = known.get(shape) or _probe(cell) or _extrapolate(cell, speeds, cells)
    return sum(c.trial.exact_tokens / speeds[_shape(c)] for c in cells)


def _shape(cell: Cell) -> tuple[object, ...]:
    return tuple(getattr(cell.trial, name) for name in SHAPE)


def _probe(cell: Cell) -> float | None:
    """Tokens a second of a cut-down trial of this shape, or None if that would take too long."""
    trial = cell.trial
    flops_per_sequence = cell.flops / trial.exact_tokens * trial.seq_len
    batch_size = min(trial.batch_size, math.floor(PROBE_FLOPS[trial.device] / flops_per_sequence))
    if batch_size < 1:
        return None
    tokens = PROBE_STEPS * batch_size * trial.seq_len
    probe = trial.replace(batch_size=batch_size, tokens=tokens, val_tokens=trial.val_seq_len)
    train(probe.replace(tokens=batch_size * trial.seq_len), load(trial.data))  # warm-up
    began = time.perf_counter()
    train(probe, load(trial.data))
    return tokens / (time.perf_counter() - began)


def _extrapolate(
    cell: Cell, speeds: dict[tuple[object, ...], float], cells: Sequence[Cell], fallback: float = 2e10
) -> float:
    """Tokens a second at the FLOP rate of the largest shape already timed, else `fallback` FLOP/s."""
    rates = [
        speeds[shape] * other.flops / other.trial.exact_tokens for other in cells if (shape := _shape(other)) in speeds
    ]
    return (max(rates) if rates else fallback) * cell.trial.exact_tokens / cell.flops

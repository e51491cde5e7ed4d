"""How long a plan will take: from the store where it has trained the same shape, else from a few steps thrown away.

`seconds_by_store` times nothing: what the store has not trained takes as long for its cost as what it has.
"""

import json
import math
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pandas as pd

from scionlab.spec.trial import MEASURED
from scionlab.sweep.plan import STEP_OVERHEAD_FLOPS, Cell
from scionlab.training import train
from scionlab.training.prepare import data_of, train_flops

TIMED_STEPS = 3
# A timed step is cut down to about this much work, and skipped if one sequence exceeds it.
TIMED_FLOPS = {"cpu": 2e10, "cuda": 2e13}

# What decides the speed of a trial of one stage without probes, apart from its number of tokens.
SHAPE = ["optimizer", "model", "width", "depth", "head_dim", "batch_size", "seq_len", "device", "dtype"]


def estimate_seconds(
    cells: Sequence[Cell], runs: pd.DataFrame, shares: Mapping[str, float] = MappingProxyType({})
) -> float:
    """Sum over the cells of each one's training seconds on one worker.

    `runs` are earlier trials (of any experiment). `shares` says by id what share of a cell's steps is trained, where it
    is not all (`scionlab.sweep.stems`). Shapes too large to time take the FLOP rate of the largest timed.
    Every stage is a shape of its own, and probes add their share of the cost.
    """
    stages = [stage for cell in cells for stage in _stages(cell)]
    speeds: dict[Hashable, float] = {}
    known = _known(runs)
    for stage in sorted(stages, key=lambda stage: stage.flops):
        shape = _shape(stage)
        if shape not in speeds:
            speeds[shape] = known.get(shape) or _timed(stage) or _extrapolate(stage, speeds, stages)
    return sum(_seconds(cell, speeds) * shares.get(cell.trial_id, 1.0) for cell in cells)


def seconds_by_store(cells: Sequence[Cell], runs: pd.DataFrame) -> list[float | None]:
    """Each cell's training seconds on one worker, as earlier trials tell: trains and times nothing.

    None where none of them is of its shape, or ran on its device.
    """
    speeds, paces = _known(runs), _paces(runs)

    def seconds(cell: Cell) -> float | None:
        if all(_shape(stage) in speeds for stage in _stages(cell)):
            return _seconds(cell, speeds)
        pace = paces.get(cell.trial.device)
        return None if pace is None else pace * cell.cost

    return list(map(seconds, cells))


def _seconds(cell: Cell, speeds: Mapping[Hashable, float]) -> float:
    training = sum(stage.trial.exact_tokens / speeds[_shape(stage)] for stage in _stages(cell))
    return training * cell.cost / (cell.cost - cell.probe_cost)


def _paces(runs: pd.DataFrame) -> dict[Hashable, float]:
    """By device, Σ seconds ÷ Σ cost of the trials that went to their end, without compiling, and the cost of probes."""
    whole = runs[runs["status"] == "ok"]
    taken = whole["tokens_per_s"] * whole["wall_time_s"] / whole["tokens"]  # the row's share of a stem's steps
    share = taken.where(whole["stem_steps"].fillna(0) > 0, 1.0)
    cost = share * (whole["flops"] + STEP_OVERHEAD_FLOPS * whole["steps"])
    seconds = whole["wall_time_s"] - whole["compile_s"].fillna(0.0)
    sums = whole.assign(cost=cost, seconds=seconds).groupby("device")[["seconds", "cost"]].sum()
    return (sums["seconds"] / sums["cost"]).to_dict()


def _stages(cell: Cell) -> Iterator[Cell]:
    """Each stage of the cell as a cell with this stage alone, and without probes."""
    for stage in cell.trial.plan:
        sizes = {"batch_size": stage.batch_size, "seq_len": stage.seq_len, "tokens": stage.tokens}
        alone = cell.trial.replace(**sizes, stages=(), **dict.fromkeys(MEASURED, 0))
        yield replace(cell, trial=alone, flops=train_flops(alone, data_of(alone).shape))


def _known(runs: pd.DataFrame) -> dict[Hashable, float]:
    """Tokens a second of shapes that were trained, as one stage and without probes."""
    specs = runs["spec"].map(json.loads)
    plain = specs.map(lambda spec: not any(map(spec.get, ("stages", "probe", "noise_probe")))).astype(bool)
    return runs[plain & (runs["status"] == "ok")].groupby(SHAPE)["tokens_per_s"].median().to_dict()


def _shape(cell: Cell) -> tuple[object, ...]:
    return tuple(getattr(cell.trial, name) for name in SHAPE)


def _timed(cell: Cell) -> float | None:
    """Tokens a second of a cut-down trial of this shape, or None if that would take too long."""
    trial = cell.trial
    flops_per_sequence = cell.flops / trial.exact_tokens * trial.seq_len
    batch_size = min(trial.batch_size, math.floor(TIMED_FLOPS[trial.device] / flops_per_sequence))
    if batch_size < 1:
        return None
    tokens = TIMED_STEPS * batch_size * trial.seq_len
    short = trial.replace(batch_size=batch_size, tokens=tokens, val_tokens=trial.val_seq_len)
    train(short.replace(tokens=batch_size * trial.seq_len), data_of(short))  # warm-up
    began = time.perf_counter()
    train(short, data_of(short))
    return tokens / (time.perf_counter() - began)


def _extrapolate(cell: Cell, speeds: Mapping[Hashable, float], cells: Sequence[Cell], fallback: float = 2e10) -> float:
    """Tokens a second at the FLOP rate of the largest shape already timed, else `fallback` FLOP/s."""
    rates = [
        speeds[shape] * other.flops / other.trial.exact_tokens for other in cells if (shape := _shape(other)) in speeds
    ]
    return (max(rates) if rates else fallback) * cell.trial.exact_tokens / cell.flops

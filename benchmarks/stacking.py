"""Trials trained together as one model: seconds of a step for each trial, alone and in stacks.

The cases on a CPU are from small to large: an MLP on digits, a tiny GPT, and the GPT of the laptop presets. "automatic"
is what a sweep does, which times the sizes itself; its ratio is that of the size it chose.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Row
from scionlab.problems.data import load
from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.sweep import plan_sweep
from scionlab.sweep.stacking import stack_sizes
from scionlab.training import seconds_per_step

SIZES, QUICK_SIZES = (1, 4, 16, 64), (1, 4)
STEPS, ROUNDS = 10, 3
MLP = {"model": "mlp", "data": "digits", "batch_size": 32, "seq_len": 1, "val_seq_len": 1, "val_tokens": 320}
CASES: dict[str, dict[str, Any]] = {
    "mlp, width 64, 32 digits": {**MLP, "width": 64},
    "gpt, width 16, depth 1, 2 × 16": {"width": 16, "depth": 1, "batch_size": 2, "seq_len": 16},
    "gpt, width 32, 16 × 64": {"width": 32},
}
CUDA_CASES: dict[str, dict[str, Any]] = {"gpt, width 64, 16 × 64": {"width": 64}}


def measure(quick: bool) -> list[Row]:
    """Milliseconds a step and trial by size of the stack, and the automatic choice."""
    cases = [(name, fields, "cpu") for name, fields in CASES.items()]
    if torch.cuda.is_available():
        cases += [(name, fields, "cuda") for name, fields in CUDA_CASES.items()]
    sizes, rounds = (QUICK_SIZES, 1) if quick else (SIZES, ROUNDS)
    return [row for case in (cases[1:2] if quick else cases) for row in _case(*case, sizes, rounds)]


def _case(name: str, fields: dict[str, Any], device: str, sizes: tuple[int, ...], rounds: int) -> list[Row]:
    given = {"optimizer": "scion", "lr": 2**-6, "device": device, "tokens": 2**17, **fields}
    trials = tuple(Trial(**given, seed=seed) for seed in range(max(sizes)))
    with tempfile.TemporaryDirectory() as folder:
        cells = plan_sweep(_experiment(trials), "bench", RunStore(Path(folder, "runs"))).cells
        chosen = max([1, *stack_sizes(cells, 1, Path(folder, "stacks.json")).values()])
    corpus, resolved = load(trials[0].data), [cell.trial for cell in cells]
    each: dict[int, float] = {size: float("inf") for size in sizes}
    for _ in range(rounds):  # in turns; the best of the rounds, as other work on the machine only adds
        for size in sizes:
            each[size] = min(each[size], seconds_per_step(resolved[:size], corpus, STEPS) / size)
    rows = [_row(f"{name}, {device}", "alone" if size == 1 else f"stack of {size}", each, size) for size in sizes]
    size = max(size for size in sizes if size <= chosen)
    return [*rows, {**_row(f"{name}, {device}", "automatic", each, size), "note": f"chose {chosen}"}]


def _row(case: str, variant: str, each: dict[int, float], size: int) -> Row:
    ratio = None if variant == "alone" else each[1] / each[size]
    against = None if ratio is None else "alone"
    return {
        "case": case,
        "variant": variant,
        "value": 1e3 * each[size],
        "unit": "ms",
        "ratio": ratio,
        "against": against,
    }


def _experiment(trials: tuple[Trial, ...]) -> Experiment:
    return Experiment(name="bench", title="", question="", presets={"bench": Preset(trials=trials)})

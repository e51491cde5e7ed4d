"""How do the best batch size and the best learning rate move with the token budget?

Every budget is trained at six or seven batch sizes an octave apart and, at each, at learning rates an octave apart.
Both grids follow where two pilot sweeps trained well (one seed at 2^16 and 2^19 tokens; two seeds at all four budgets,
seven and five rates a cell), and the report flags every optimum that lies at an edge: the best rate grew with the batch
and fell with the budget, and in every cell it lay at the grid's centre or within an octave above. A third axis, the
momentum, is swept at two budgets near the best batch, and a few cells measure the theory's constants while they train
(`probe`).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scionlab.grid import log2_range, named_for, trials
from scionlab.spec import Experiment, Preset, Trial

# log2 of the learning rate a grid is centred on at the reference cell (2^16 tokens, 128 tokens a step), and how many
# octaves it reaches below and above. Scion's is from the pilots; the others', from the width sweep, are less certain.
Reach = tuple[int, int]
CENTRES: dict[str, tuple[int, Reach]] = {
    "adam": (-5, (3, 3)),
    "adam-mup": (-5, (3, 3)),
    "muon": (-4, (3, 3)),
    "scion": (-7, (1, 2)),
    "uscion": (-7, (2, 3)),
}
UNKNOWN: tuple[int, Reach] = (-7, (4, 4))
REFERENCE = (16, 7)  # log2 of tokens and of tokens a step at the reference cell
# Octaves by which the centre moves with an octave of tokens a step, and of budget.
WITH_BATCH, WITH_BUDGET = 0.75, -0.7
MOMENTA = (0.025, 0.05, 0.2)  # beside the default, 0.1
PROBES = 12  # times a probed run measures the constants

Batches = Mapping[int, Iterable[int]]  # budget → its batch sizes


def rates(optimizer: str, tokens: int, batch_tokens: int, reach: Reach | None = None) -> list[float]:
    """Learning rates, an octave apart, of one cell; `reach` overrides the optimizer's own."""
    centre, usual = CENTRES.get(optimizer, UNKNOWN)
    below, above = reach or usual
    budget, batch = math.log2(tokens) - REFERENCE[0], math.log2(batch_tokens) - REFERENCE[1]
    middle = round(centre + WITH_BUDGET * budget + WITH_BATCH * batch)
    return log2_range(middle - below, min(0, middle + above))


def octaves(first: int, count: int = 6) -> list[int]:
    """`count` sizes, each twice the one before."""
    return [first * 2**i for i in range(count)]


def grid(
    optimizer: str, batches: Batches, seeds: Iterable[int], reach: Reach | None = None, **fixed: Any
) -> tuple[Trial, ...]:
    """Every budget × batch size × learning rate of `rates` × seed. `fixed` must name the seq_len."""
    return tuple(
        trial
        for tokens, sizes in batches.items()
        for size in sizes
        for trial in trials(
            {"optimizer": optimizer, "tokens": tokens, "batch_size": size, **fixed},
            lr=rates(optimizer, tokens, size * fixed["seq_len"], reach),
            seed=list(seeds),
        )
    )


def probed(grid: Iterable[Trial], batches: Batches, probes: int = PROBES) -> tuple[Trial, ...]:
    """The grid, measuring the constants in some of it: seed 0 at two inner batch sizes of a budget, a middle rate."""
    grid = list(grid)
    of_cell: dict[tuple[int, int], set[float]] = {}
    for trial in grid:
        of_cell.setdefault((trial.tokens, trial.batch_size), set()).add(trial.lr)

    def chosen(trial: Trial) -> bool:
        sizes = list(batches[trial.tokens])
        around = sorted(of_cell[trial.tokens, trial.batch_size])
        inner = (sizes[len(sizes) // 3], sizes[2 * len(sizes) // 3])
        return trial.seed == 0 and trial.batch_size in inner and trial.lr == around[(len(around) - 1) // 2]

    return tuple(trial.replace(probe=probes) if chosen(trial) else trial for trial in grid)


def with_momenta(
    optimizer: str, batches: Batches, seeds: Iterable[int], reach: Reach, **fixed: Any
) -> tuple[Trial, ...]:
    """The cells of `batches` again with the other momenta."""
    seeds = list(seeds)
    return tuple(trial for a in MOMENTA for trial in grid(optimizer, batches, seeds, reach, momentum=a, **fixed))


def for_optimizer(optimizer: str, **recipe: Any) -> Experiment:
    """The experiment for any optimizer. `recipe` are fields of all its trials, such as another schedule.

    The rates were found with the linear decay, which is the default. With schedule="trapezoid" and warmup=0 the budgets
    of a batch size and a rate begin with the same steps, which are then trained once.
    """
    tiny: dict[str, Any] = {"width": 16, "depth": 2, "seq_len": 16, "val_seq_len": 16, "val_tokens": 2**12, **recipe}
    small: dict[str, Any] = {"width": 32, "depth": 2, "seq_len": 32, "val_seq_len": 32, **recipe}
    medium: dict[str, Any] = {"width": 64, "depth": 3, "seq_len": 64, "val_seq_len": 64, **recipe}
    large: dict[str, Any] = {
        "width": 384,
        "depth": 6,
        "head_dim": 64,
        "seq_len": 256,
        "val_seq_len": 256,
        "val_tokens": 2**18,
        **recipe,
    }
    smoke = {2**12: octaves(1, 4), 2**13: octaves(2, 4), 2**14: octaves(4, 4)}
    laptop = {2**16: octaves(1), 2**17: octaves(2), 2**18: octaves(2, 7), 2**19: octaves(4)}
    full = {
        2**17: octaves(1, 7),
        2**18: octaves(1, 7),
        2**19: octaves(2, 7),
        2**20: octaves(2, 7),
        2**21: octaves(4, 7),
    }
    gpu = {2**21: octaves(1, 7), 2**22: octaves(2, 7), 2**23: octaves(2, 7), 2**24: octaves(4, 7)}
    return Experiment(
        name="batch" if optimizer == "scion" else named_for("batch", optimizer),
        title=f"Batch size, learning rate and token budget, {optimizer}",
        question="How should batch size and learning rate grow with the number of tokens?",
        study="batch-scaling",
        presets={
            "smoke": Preset(
                about="three budgets, four batch sizes, under a minute; shows that everything runs",
                trials=probed(grid(optimizer, smoke, (0, 1), (1, 1), **tiny), smoke, 2),
            ),
            "laptop": Preset(
                about="four budgets spanning 8×, six batch sizes or seven, three seeds, eighteen minutes on two cores",
                trials=probed(grid(optimizer, laptop, (0, 1, 2), **small), laptop)
                + with_momenta(optimizer, {2**16: [4], 2**18: [8]}, (0, 1, 2), (1, 1), **small),
            ),
            "full": Preset(
                about="five budgets spanning 16×, seven batch sizes, three seeds, width 64; a day on a workstation",
                trials=probed(grid(optimizer, full, (0, 1, 2), (2, 3), **medium), full)
                + with_momenta(optimizer, {2**17: [4], 2**19: [8], 2**21: [16]}, (0, 1, 2), (1, 2), **medium),
            ),
            "gpu": Preset(
                about="10M parameters, four budgets spanning 8× in less than two epochs, three seeds",
                trials=probed(grid(optimizer, gpu, (0, 1, 2), (3, 3), **large), gpu)
                + with_momenta(optimizer, {2**21: [8], 2**24: [32]}, (0, 1, 2), (2, 2), **large),
            ),
        },
    )


SPEC = for_optimizer("scion")

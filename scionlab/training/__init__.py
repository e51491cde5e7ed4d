"""Training: trials in, one summary row, a curve and layers of each out; pure functions of trial and data, no disk.

`run` takes one trial through its stages, `stack` several of one shape together, `stem` those of several budgets as far
as they are the same; `passes` is what a model does with a batch, `oracle` how gradients are found, `feed` where batches
come from, and `log` keeps the losses.
"""

from scionlab.training.check import check_own
from scionlab.training.graphs import ARCHITECTURE
from scionlab.training.log import MAX_CURVE_ROWS, OnRow, Outcome
from scionlab.training.prepare import build, resolve
from scionlab.training.run import Run, train
from scionlab.training.stack import Stack, can_stack, seconds_per_step, stack_key, train_stack
from scionlab.training.stem import Stem, part, shared_steps, stem_key, train_stem

__all__ = [
    "ARCHITECTURE",
    "MAX_CURVE_ROWS",
    "OnRow",
    "Outcome",
    "Run",
    "Stack",
    "Stem",
    "build",
    "can_stack",
    "check_own",
    "part",
    "resolve",
    "seconds_per_step",
    "shared_steps",
    "stack_key",
    "stem_key",
    "train",
    "train_stack",
    "train_stem",
]

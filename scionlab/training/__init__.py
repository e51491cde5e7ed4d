"""Training: trials in, one summary row, a curve and layers of each out; pure functions of trial and data, no disk.

`run` takes one trial through its stages, `stack` several of one shape together; `passes` is what a model does with a
batch, `gradients` how they are found, `feed` where batches come from, and `log` keeps the losses.
"""

from scionlab.training.check import check_own
from scionlab.training.graphs import ARCHITECTURE
from scionlab.training.log import MAX_CURVE_ROWS, OnRow, Outcome
from scionlab.training.prepare import build, resolve
from scionlab.training.run import Run, train
from scionlab.training.stack import Stack, can_stack, seconds_per_step, stack_key, train_stack

__all__ = [
    "ARCHITECTURE",
    "MAX_CURVE_ROWS",
    "OnRow",
    "Outcome",
    "Run",
    "Stack",
    "build",
    "can_stack",
    "check_own",
    "resolve",
    "seconds_per_step",
    "stack_key",
    "train",
    "train_stack",
]

"""Training: trials in, one summary row, a curve and layers of each out; pure functions of trial and data, no disk.

`run` takes one trial through its stages, `passes` is what a model does with a batch, `log` keeps the losses.
"""

from scionlab.prepare import build, resolve
from scionlab.training.log import MAX_CURVE_ROWS, Outcome
from scionlab.training.run import Run, train

__all__ = ["MAX_CURVE_ROWS", "Outcome", "Run", "build", "resolve", "train"]

"""What a table of runs may say of them: the columns of the store's imports table that a file can fill."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Bools, Floats

# What runs are without where only the law L(N, T) is asked for.
SETTING = ("batch_size", "seq_len", "lr")
STATUSES = ("ok", "diverged")
# What trackers and schedulers call a run that went to its end; whether its loss is finite is said by the loss.
ENDED = ("finished", "completed", "complete", "success", "succeeded", "done")
EXACT = 2.0**53  # whole numbers beyond are not all floats
LONGEST_SEED = 2**63 - 1  # what the store holds


@dataclass(frozen=True)
class Target:
    """A column of the imports table. Its values lie above `low` and up to `high`; `whole` ones are integers from `low`.

    `default` is a constant that stands in for it. An `optional` one may be absent from the file, or from a row. `zero`:
    the value `low` itself is allowed, too. `below`: `high` itself is not.
    """

    about: str
    default: str = ""
    optional: bool = False
    low: float = 0.0
    high: float = math.inf
    whole: bool = False
    zero: bool = False
    below: bool = False

    def allows(self, values: Floats) -> Bools:
        """Which values are possible; never NaN or infinity."""
        if self.whole:
            return np.asarray((values == np.floor(values)) & (values >= self.low) & (values < EXACT))
        above = values >= self.low if self.zero else values > self.low
        under = values < self.high if self.below else values <= self.high
        return np.asarray(above & under & np.isfinite(values))

    @property
    def allowed(self) -> str:
        """What `allows` does, in words."""
        if self.whole:
            return f"a whole number, {self.low:g} or more, and below 2^53"
        least = f"{self.low:g} or more" if self.zero else f"above {self.low:g}"
        most = f"{'below' if self.below else 'at most'} {self.high:g}" if math.isfinite(self.high) else "finite"
        return f"{least} and {most}"


TEXTS = {
    "optimizer": Target("name of the method", default="imported"),
    "group": Target("name of the source or series", optional=True),
    "run": Target("name of the run", optional=True),
    "status": Target("ok or diverged", optional=True),
    "schedule": Target("shape of the learning rate", optional=True),
    "data": Target("name of the data set", optional=True),
}
NUMBERS = {
    "n_params": Target("N, number of parameters", optional=True),
    "width": Target("width of the residual stream", optional=True, low=1, whole=True),
    "depth": Target("number of blocks", optional=True, low=1, whole=True),
    "tokens": Target("T, tokens the run was trained on"),
    "flops": Target("C, floating-point operations of the whole run", optional=True),
    "batch_size": Target("B, sequences a step"),
    "seq_len": Target("S, tokens a sequence; 1 if batch_size is in tokens"),
    "steps": Target("K, optimizer steps", optional=True),
    "checkpoint_step": Target("step that the loss is of", optional=True),
    "lr": Target("γ, peak learning rate"),
    "momentum": Target("α, weight of the new gradient", optional=True, high=1.0),
    "beta2": Target("β₂, weight of the old average of squares", optional=True, high=1.0, zero=True, below=True),
    "weight_decay": Target("λ", optional=True, zero=True),
    "warmup": Target("share of the run over which the rate rises", optional=True, high=1.0, zero=True),
    "seed": Target("whole number", default="0", whole=True),
    "val_loss": Target("final validation loss, nats per token"),
}
# Of the logged steps of a run, and of no column of its own row.
STEP, TRAIN_LOSS = "step", "train_loss"
CURVES = {
    STEP: Target("optimizer steps at which a row was logged", optional=True, zero=True),
    TRAIN_LOSS: Target("training loss there, nats per token", optional=True),
}
TARGETS = TEXTS | NUMBERS | CURVES

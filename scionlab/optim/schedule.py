"""Learning-rate schedules: a factor on the peak rate for every point of a run, by warm-up, plateau and decay."""

import math
from collections.abc import Callable

from scionlab.spec import Trial

Schedule = Callable[[float], float]
# What a trial says of its schedule.
FIELDS = ("schedule", "warmup", "decay_fraction", "decay", "min_lr_ratio")
# What is left of the rate when a share x of the decay is left.
DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda left: left,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,
    "sqrt": lambda left: 1 - math.sqrt(1 - left),  # Hägele et al., arXiv 2405.18392
}


def schedule(
    name: str,
    steps: float,
    decay_fraction: float,
    warmup: float = 0.0,
    decay: str = "linear",
    min_lr_ratio: float = 0.0,
) -> Schedule:
    """Factor in (0, 1] for step k = 0 … steps − 1, or for any point 0 ≤ k < steps between.

    name: "trapezoid" (warm-up, plateau, decay: also called WSD) is constant, then falls over the last `decay_fraction`
        of the run; "linear" and "cosine" fall from the end of the warm-up to that of the run; "constant" never.
    steps: K, length of the run.
    warmup: share of the run over which the factor rises to 1, in equal steps from 1/(warmup · K). Default: none.
    decay: how a trapezoid falls, one of DECAYS: linearly, by half a cosine, or as 1 − √(share gone). Default: linear.
    min_lr_ratio: factor that the decay falls to. Default: 0, which the step after the last would have.
    """
    warm = warmup * steps
    decay_steps = decay_fraction * steps if name == "trapezoid" else steps - warm
    fall = DECAYS["cosine" if name == "cosine" else decay if name == "trapezoid" else "linear"]

    def factor(k: float) -> float:
        risen = min(1.0, (k + 1) / warm) if warm > 0 else 1.0
        left = 1.0 if name == "constant" else max(0.0, min(1.0, (steps - k) / decay_steps))
        return risen * (min_lr_ratio + (1 - min_lr_ratio) * fall(left))

    return factor


def schedule_of(trial: Trial, steps: float) -> Schedule:
    """The schedule of a resolved trial over so many steps."""
    warmup = trial.warmup or 0.0
    return schedule(trial.schedule, steps, trial.decay_fraction, warmup, trial.decay, trial.min_lr_ratio)

"""Do the methods converge as the theorems say? A convex problem whose smoothness and noise are known.

f(W) = ‖W − W*‖_F²/(2d) has L = 1 in the spectral norm, and gradients come with noise of E‖Ξ‖_F² = σ². For horizons n,

    constant α, γ = 1/√n                   E‖∇f‖_* ≤ O(1/√n + σ)           without noise the rate is 1/2
    α_k = 1/√k, γ = 3/(4 n^(3/4))          E‖∇f‖_* ≤ O(1/n^(1/4))          noise or not
    ALMOND, the average of LMOs            stalls where E lmo(∇f + Ξ) = 0, at ‖∇f‖_* = √d σ/3 for skewed noise
    clipped steps, γ = 1                   f never rises without noise

at an iterate drawn from the run (arXiv 2502.07529, 2506.01913); `watch` measures ‖∇f‖_* at evenly spaced ones.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

# A sample of the noise, of nuclear norm √d σ in root mean square, is about as large as the gradient at the start.
NOISE = 0.1
WATCH = 128
# The one matrix is the model's last linear layer; it starts at 0, the centre of the unit spectral ball.
BALL: dict[str, Any] = {"norm_output": "spectral-exact", "radius_output": 1.0}


def constant(horizon: int) -> dict[str, Any]:
    """The theorem's schedule for constant α."""
    return {"lr": horizon**-0.5}


def vanishing(horizon: int) -> dict[str, Any]:
    """The theorem's schedule for vanishing α."""
    return {"lr": 0.75 * horizon**-0.75, "momentum_schedule": "vanishing"}


def full_step(horizon: int) -> dict[str, Any]:
    """The largest step; clipping is to shorten it."""
    return {"lr": 1.0, "momentum": 1.0}


SKEWED, GAUSSIAN, NONE = f"noise:skewed-{NOISE:g}", f"noise:gaussian-{NOISE:g}", "noise:none"
ARMS = (
    ("scion", NONE, constant),
    ("uscion", NONE, constant),
    ("scion", SKEWED, constant),
    ("uscion", SKEWED, constant),
    ("scion", SKEWED, vanishing),
    ("uscion", SKEWED, vanishing),
    ("almond", SKEWED, constant),
    ("almond", SKEWED, vanishing),
    ("almond", GAUSSIAN, constant),
    ("clipped-scion", NONE, full_step),
    ("clipped-uscion", NONE, full_step),
)


def grid(horizons: Iterable[int], seeds: Iterable[int], width: int) -> tuple[Trial, ...]:
    """Every arm × horizon × seed; without noise all seeds are the same run, and two are to show it."""
    seeds = list(seeds)
    common: dict[str, Any] = {
        "model": "quadratic",
        "width": width,
        "options": BALL,
        "schedule": "constant",
        "seq_len": 1,
        "val_seq_len": 1,
        "val_tokens": 1,
        "batch_size": 1,
        "watch": WATCH,
    }
    return tuple(
        trial
        for optimizer, data, schedule in ARMS
        for horizon in horizons
        for trial in trials(
            {"optimizer": optimizer, "data": data, "tokens": horizon, **common, **schedule(horizon)},
            seed=seeds[:2] if data == NONE else seeds,
        )
    )


SPEC = Experiment(
    name="convergence",
    title="Rates of convergence on a known problem",
    question="Do the methods converge at the rates of their theorems, and stall where they should?",
    study="convergence",
    presets={
        "smoke": Preset(
            about="four horizons to 512 steps, seconds",
            trials=grid([2**e for e in range(6, 10)], (0, 1), 16),
        ),
        "laptop": Preset(
            about="eleven arms, horizons 2^7 to 2^13, five seeds, about six minutes on two cores",
            trials=grid([2**e for e in range(7, 14)], range(5), 16),
        ),
        "full": Preset(
            about="horizons to 2^16, eight seeds; an hour on a workstation",
            trials=grid([2**e for e in range(6, 17)], range(8), 32),
        ),
        "gpu": Preset(
            about="width 256, horizons to 2^14; the problem is too small to need a GPU",
            trials=grid([2**e for e in range(6, 15)], range(8), 256),
        ),
    },
)

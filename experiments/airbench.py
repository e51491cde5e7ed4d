"""The published airbench runs: CifarNet on CIFAR-10 in eight epochs, by Scion.

Settings of Scion are those of the two scripts beside arXiv 2502.07529, model, data and evaluation those of airbench
(arXiv 2404.00498), which both share. What each must reach, and what differs from the authors' code: docs/experiments/
airbench.md.

The presets for GPUs read CIFAR-10 at `DATA`, relative to where they are called; the others are the same model, start,
methods and schedule on embedded digits, which are not flipped, as most of them would be no digits then.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

DATA = "cifar10:data/cifar-10,flip=alternating,translate=2,standardize=channels,smoothing=0.2,views=6"
MNIST = "mnist,translate=2,smoothing=0.2,views=6"
DIGITS = "digits,enlarge=4,translate=2,smoothing=0.2,views=6"

# Of all runs. The start is that of the authors' code, which is on no ball.
FIXED: dict[str, Any] = {
    "model": "cifarnet",
    "initialization": "model",
    "schedule": "linear",
    "warmup": 0.0,
    "seq_len": 1,
    "val_seq_len": 1,
}
# 50,000 images, eight times, in batches of 2000; validated on the 10,000 of the test batch.
CIFAR: dict[str, Any] = {
    **FIXED,
    "data": DATA,
    "width": 256,
    "batch_size": 2000,
    "tokens": 8 * 50_000,
    "val_tokens": 10_000,
}


def scion(convolutions: float, norms: float, momentum: float) -> dict[str, Any]:
    """Scion with these radii: of all convolutions but the first, which has 8, and of the norms' biases.

    The head's is 128. The average starts at the first gradient, as in the authors' code.
    """
    options = {"norm_input": "spectral", "radius_hidden": convolutions, "first_average": "gradient"}
    rules = (rf".*\.norm\d\.bias=bias,radius={norms:g}",)
    return {"optimizer": "scion", "momentum": momentum, "options": options, "rules": rules}


PUBLISHED, SPEEDRUN = scion(8.0, 8.0, 0.6), scion(16.0, 4.0, 0.65)
OTHERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "momentum": 0.1, "options": {"weight_decay": 0.01}},
    "sgd": {"optimizer": "sgd", "momentum": 0.15},
}


def grid(seeds: Iterable[int], rates: dict[str, list[float]], **fixed: Any) -> tuple[Trial, ...]:
    """The methods, each at its learning rates, with every seed."""
    methods = {"scion": PUBLISHED, **OTHERS}
    seeds = list(seeds)
    return tuple(
        trial for name, found in rates.items() for trial in trials({**fixed, **methods[name]}, lr=found, seed=seeds)
    )


EMBEDDED: dict[str, Any] = {**FIXED, "data": DIGITS, "width": 16, "batch_size": 64, "val_tokens": 320}
IMAGES = 1463  # digits to train on

SPEC = Experiment(
    name="airbench",
    title="The published airbench runs",
    question="Do the published airbench runs of Scion on CIFAR-10 end where they should?",
    study="comparison",
    settings={"arms": ["optimizer"], "across": "batch_size"},
    presets={
        "smoke": Preset(
            about="the same code on digits: three methods at one rate, width 8, seconds",
            trials=grid(
                (0, 1),
                {"scion": [2.0**-5], "adam": [2.0**-4], "sgd": [2.0**4]},
                **EMBEDDED | {"width": 8, "tokens": 64 * 8, "val_tokens": 64},
            ),
        ),
        "laptop": Preset(
            about="three methods on digits, five rates, two seeds, width 16, 8 epochs; about two minutes on two cores",
            trials=grid(
                (0, 1),
                {"scion": log2_range(-7, -3), "adam": log2_range(-6, -2), "sgd": log2_range(2, 6)},
                **EMBEDDED,
                tokens=8 * IMAGES,
            ),
        ),
        "full": Preset(
            about="MNIST (the extra mnist), width 64, five rates, three seeds, 16 epochs; a night on a workstation",
            trials=grid(
                range(3),
                {"scion": log2_range(-7, -3), "adam": log2_range(-7, -3), "sgd": log2_range(2, 6)},
                **EMBEDDED
                | {
                    "data": MNIST,
                    "width": 64,
                    "batch_size": 128,
                    "val_tokens": 960,
                },
                tokens=16 * 4000,
            ),
        ),
        "gpu": Preset(
            about="CIFAR-10, width 256, 200 steps of 2000 images: Scion at the published values, 50 seeds",
            trials=trials({**CIFAR, **PUBLISHED}, lr=[0.05], seed=range(50)),
        ),
        "gpu-speedrun": Preset(
            about="the speedrun's values: radii 8, 16, 4 and 128, rate 0.04, 200 seeds",
            trials=trials({**CIFAR, **SPEEDRUN}, lr=[0.04], seed=range(200)),
        ),
    },
)

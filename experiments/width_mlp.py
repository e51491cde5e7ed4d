"""Does the best learning rate of a multilayer perceptron stay put when it gets wider?

The same question as `width`, on images: scikit-learn's 8 × 8 digits (MNIST's 28 × 28 in `full`). A token is an image.
Scion's last radius is 64 at every width, in units of the sign norm: published radii are for networks of width 2048.
"""

from typing import Any

from experiments.width import grid
from scionlab.grid import log2_range
from scionlab.spec import Experiment, Preset

LEARNING_RATES = {
    "adam": log2_range(-11, -3),
    "adam-mup": log2_range(-10, -3),
    "muon": log2_range(-9, -2),
    "scion": log2_range(-9, -2),
    "uscion": log2_range(-9, -2),
}
OPTIONS: dict[str, dict[str, Any]] = {"scion": {"radius_output": 64.0}, "uscion": {"radius_output": 64.0}}
DIGITS: dict[str, Any] = {
    "options": OPTIONS,
    "model": "mlp",
    "data": "digits",
    "seq_len": 1,
    "val_seq_len": 1,
    "val_tokens": 320,
    "batch_size": 64,
}

SPEC = Experiment(
    name="width-mlp",
    title="Learning-rate transfer across width: a multilayer perceptron on digits",
    question="Does the best learning rate of a small MLP stay the best when it gets wider?",
    presets={
        "smoke": Preset(
            about="two optimizers, two widths, seconds; shows that everything runs, not who wins",
            trials=grid(
                {"adam": log2_range(-10, -4)[::2], "scion": log2_range(-8, -2)[::2]},
                widths=(16, 32),
                seeds=(0, 1),
                tokens=64 * 20,
                **DIGITS,
            ),
        ),
        "laptop": Preset(
            about="five optimizers, four widths, five seeds, about five minutes on two cores",
            trials=grid(LEARNING_RATES, widths=(32, 64, 128, 256), seeds=range(5), tokens=64 * 128, **DIGITS),
        ),
        "full": Preset(
            about="MNIST (the extra mnist), widths to 1024, five seeds; hours on a workstation",
            trials=grid(
                LEARNING_RATES,
                widths=(64, 128, 256, 512, 1024),
                seeds=range(5),
                tokens=64 * 1024,
                **DIGITS | {"data": "mnist", "val_tokens": 960},
            ),
        ),
        "gpu": Preset(
            about="MNIST, widths 256 to 4096, depth 3",
            trials=grid(
                LEARNING_RATES,
                widths=(256, 512, 1024, 2048, 4096),
                seeds=range(3),
                depth=3,
                tokens=256 * 1024,
                **DIGITS | {"data": "mnist", "val_tokens": 960, "batch_size": 256},
            ),
        ),
    },
)

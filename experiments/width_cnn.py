"""Does the best learning rate of a convolutional network stay put when it has more channels?

The same question as `width`, on images: scikit-learn's 8 × 8 digits (MNIST's 28 × 28 in `full`). A token is an image.
The first layer has the spectral norm in its `max` variant, as the talks advise for images. Muon is left out: PyTorch's
takes no convolutions. Scion's last radius is 32 at every width.
"""

from typing import Any

from experiments.width import grid
from scionlab.grid import log2_range
from scionlab.spec import Experiment, Preset

LEARNING_RATES = {
    "adam": log2_range(-9, -2),
    "adam-mup": log2_range(-7, -1),
    "scion": log2_range(-8, -2),
    "uscion": log2_range(-8, -2),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "scion": {"radius_output": 32.0},
    "uscion": {"radius_output": 32.0},
    "adam-mup": {"base_width": 16},
}
DIGITS: dict[str, Any] = {
    "options": OPTIONS,
    "model": "cnn",
    "data": "digits",
    "seq_len": 1,
    "val_seq_len": 1,
    "val_tokens": 320,
    "batch_size": 32,
    "depth": 1,
}

SPEC = Experiment(
    name="width-cnn",
    title="Learning-rate transfer across width: a convolutional network on digits",
    question="Does the best learning rate of a small CNN stay the best when it has more channels?",
    presets={
        "smoke": Preset(
            about="two optimizers, two widths, seconds; shows that everything runs, not who wins",
            trials=grid(
                {"adam": log2_range(-9, -3)[::2], "scion": log2_range(-8, -2)[::2]},
                widths=(16, 32),
                seeds=(0, 1),
                tokens=32 * 20,
                **DIGITS,
            ),
        ),
        "laptop": Preset(
            about="four optimizers, three widths, five seeds, about four minutes on two cores",
            trials=grid(LEARNING_RATES, widths=(16, 32, 64), seeds=range(5), tokens=32 * 96, **DIGITS),
        ),
        "full": Preset(
            about="MNIST (the extra mnist), widths to 128, two blocks, three seeds; a night on a workstation",
            trials=grid(
                LEARNING_RATES,
                widths=(16, 32, 64, 128),
                seeds=range(3),
                tokens=64 * 512,
                **DIGITS | {"data": "mnist", "val_tokens": 960, "batch_size": 64, "depth": 2},
            ),
        ),
        "gpu": Preset(
            about="MNIST, widths 64 to 512, three blocks",
            trials=grid(
                LEARNING_RATES,
                widths=(64, 128, 256, 512),
                seeds=range(3),
                tokens=256 * 512,
                **DIGITS | {"data": "mnist", "val_tokens": 960, "batch_size": 256, "depth": 3},
            ),
        ),
    },
)

"""The coordinate check: do activations, and how they change, keep their size when the network gets wider?

A few steps at one learning rate, the same for all widths and about the best at the smallest; every layer is measured
after every step. The spectral condition (arXiv 2310.17813) asks ‖h‖_RMS and ‖Δh‖_RMS to be the same at every width.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

# Near the best at width 32 in the `width` experiment, without warm-up: of a few steps none would be left.
LEARNING_RATE = {"adam": 2.0**-5, "adam-mup": 2.0**-5, "muon": 2.0**-2, "scion": 2.0**-5, "uscion": 2.0**-5}


def grid(widths: Iterable[int], seeds: Iterable[int], steps: int, **fixed: Any) -> tuple[Trial, ...]:
    """Every optimizer × width × seed, for `steps` steps at a constant rate."""
    sizes: dict[str, Any] = {"batch_size": 16, "seq_len": 32, "val_seq_len": 32, "val_tokens": 2**10, **fixed}
    common = {
        "schedule": "constant",
        "warmup": 0.0,
        "watch": steps,
        "tokens": steps * sizes["batch_size"] * sizes["seq_len"],
    } | sizes
    return tuple(
        trial
        for optimizer, lr in LEARNING_RATE.items()
        for trial in trials({"optimizer": optimizer, "lr": lr, **common}, width=list(widths), seed=list(seeds))
    )


SPEC = Experiment(
    name="coordinates",
    title="Coordinate check",
    question="Do activations and their changes keep their size when the network gets wider?",
    study="coordinate-check",
    presets={
        "smoke": Preset(
            about="three narrow widths, three steps, seconds",
            trials=grid((16, 32, 64), seeds=(0, 1), steps=3),
        ),
        "laptop": Preset(
            about="five optimizers, widths 32 to 256, three seeds, eight steps, about two minutes on two cores",
            trials=grid((32, 64, 128, 256), seeds=(0, 1, 2), steps=8),
        ),
        "full": Preset(
            about="widths to 1024, five seeds, sixteen steps; an hour on a workstation",
            trials=grid((32, 64, 128, 256, 512, 1024), seeds=range(5), steps=16),
        ),
        "gpu": Preset(
            about="widths 128 to 4096, three seeds, depth 4",
            trials=grid((128, 256, 512, 1024, 2048, 4096), seeds=range(3), steps=16, depth=4, head_dim=64, seq_len=128),
        ),
    },
)

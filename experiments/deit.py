"""The published DeiT-B run: a vision transformer on ImageNet in 200 epochs, by Scion.

Settings are those of the code beside arXiv 2502.07529, its augmentations DeiT's (arXiv 2012.12877).

The preset for GPUs reads ImageNet at `DATA`, relative to where it is called; the others are the same model, start,
schedule and mixing of images on embedded digits, which are not flipped, as most of them would be no digits then, and
without drop path, which is for long runs.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

MIXED = "erase=0.25,mixup=0.8,cutmix=1.0,smoothing=0.1"
DATA = f"folder:data/imagenet,size=224,crop=random,flip=random,randaugment=9,repeat=3,{MIXED}"
DIGITS = f"digits,enlarge=8,{MIXED}"
STEPS = 200 * 312  # 200 epochs, each of 312 whole batches of 4096 of the 1,281,167 images

# Of all runs. The start is that of the authors' code, which is on no ball.
FIXED: dict[str, Any] = {
    "model": "deit",
    "initialization": "model",
    "schedule": "cosine",
    "seq_len": 1,
    "val_seq_len": 1,
}
# Radius 25 everywhere but in the head. Entries of positions and of the class token have it each on their own: the
# authors' norm is a root mean square over their first axis, which has one place.
SCION: dict[str, Any] = {
    "optimizer": "scion",
    "momentum": 0.1,
    "warmup": 0.0,
    "options": {"norm_input": "spectral", "radius_input": 25.0, "radius_hidden": 25.0, "radius_output": 500.0},
    "rules": (
        r"positions\.weight=input,norm=sign-onehot,radius=25",
        r"class_token\.bias=bias,norm=bias-max,radius=25",
        r".*\.bias=bias,radius=25",
    ),
}
OTHERS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon", "momentum": 0.05, "warmup": 0.0},
    "adam": {"optimizer": "adam", "momentum": 0.1, "warmup": 0.2, "options": {"weight_decay": 0.05}},
}


def grid(seeds: Iterable[int], rates: dict[str, list[float]], **fixed: Any) -> tuple[Trial, ...]:
    """The methods, each at its learning rates, with every seed."""
    methods = {"scion": SCION, **OTHERS}
    seeds = list(seeds)
    return tuple(
        trial for name, found in rates.items() for trial in trials({**fixed, **methods[name]}, lr=found, seed=seeds)
    )


EMBEDDED: dict[str, Any] = {**FIXED, "data": DIGITS, "batch_size": 64, "val_tokens": 320}
IMAGES = 1463  # digits to train on

SPEC = Experiment(
    name="deit",
    title="The published DeiT-B run",
    question="Does the published DeiT-B run of Scion on ImageNet end where it should?",
    study="comparison",
    settings={"arms": ["optimizer"], "across": "batch_size"},
    presets={
        "smoke": Preset(
            about="the same code on digits: three methods at one rate, width 16, seconds",
            trials=grid(
                (0, 1),
                {"scion": [2.0**-9], "muon": [2.0**-6], "adam": [2.0**-9]},
                **EMBEDDED | {"val_tokens": 64},
                width=16,
                depth=1,
                tokens=64 * 8,
            ),
        ),
        "laptop": Preset(
            about="three methods on digits, five rates, two seeds, width 32, depth 2, 16 epochs; two minutes",
            trials=grid(
                (0, 1),
                {"scion": log2_range(-12, -8), "muon": log2_range(-7, -3), "adam": log2_range(-8, -4)},
                **EMBEDDED,
                width=32,
                depth=2,
                tokens=16 * IMAGES,
            ),
        ),
        "full": Preset(
            about="width 128, depth 6, five rates, three seeds, 64 epochs of digits; a night on a workstation",
            trials=grid(
                range(3),
                {"scion": log2_range(-12, -8), "muon": log2_range(-9, -5), "adam": log2_range(-11, -7)},
                **EMBEDDED,
                width=128,
                depth=6,
                tokens=64 * IMAGES,
            ),
        ),
        "gpu": Preset(
            about="DeiT-B on ImageNet, 62,400 steps of 4096 images: Scion at the published values, one seed",
            trials=trials(
                {
                    **FIXED,
                    **SCION,
                    "data": DATA,
                    "width": 768,
                    "depth": 12,
                    "head_dim": 64,
                    "drop_path": 0.1,
                    "batch_size": 4096,
                    "tokens": STEPS * 4096,
                    "val_tokens": 50_000,
                    "min_lr_ratio": 1e-7 / 6.4e-4,
                },
                lr=[6.4e-4],
                seed=[0],
            ),
        ),
    },
)

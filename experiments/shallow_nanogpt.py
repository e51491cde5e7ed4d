"""The published transfer of the learning rate across width: GPTs of depth 2 on characters of Shakespeare, 122 steps.

Settings are those of the scripts beside arXiv 2502.07529; of AdamW, in the standard parametrization and in μP, steps
and schedule are theirs, the starts are ours. In the authors' folders the names of the two Scions are swapped, as
`uscion` there is run without --scion_unconstrained; here `uscion` is the unconstrained one. What each must reach:
docs/experiments/shallow-nanogpt.md.

The preset for GPUs reads nanoGPT's files of characters at `DATA`, relative to where it is called; the others are the
same methods on embedded text.
"""

from collections.abc import Iterable
from typing import Any

from experiments import width
from scionlab.grid import log2_range
from scionlab.spec import Experiment, Preset, Trial

DATA = "tokens:data/shakespeare_char/*.bin,vocabulary=65"

# Radii 1, 3 and 10, and a head that starts on its sphere, as the authors start all layers.
SCION: dict[str, Any] = {"norm_input": "sign-onehot", "output_init": 1.0}
FIXED: dict[str, Any] = {"roles": "shakespeare", "residual": "1", "warmup": 0.0, "momentum": 0.1, "depth": 2}


def grid(
    learning_rates: dict[str, list[float]], widths: Iterable[int], seeds: Iterable[int], **fixed: Any
) -> tuple[Trial, ...]:
    """Every optimizer × width × learning rate × seed. The base of μP is the smallest width."""
    widths = list(widths)
    options = {"scion": SCION, "uscion": SCION, "adam-mup": {"base_width": min(widths)}}
    return width.grid(learning_rates, widths, seeds, options, **FIXED, **fixed)


SPEC = Experiment(
    name="shallow-nanogpt",
    title="The published transfer across width",
    question="Is the best learning rate the same from width 256 to 2048, as published?",
    presets={
        "smoke": Preset(
            about="the same methods on bytes, two widths, seconds",
            trials=grid(
                {"adam": [2.0**-8, 2.0**-6], "scion": [2.0**-6, 2.0**-4]},
                (16, 32),
                (0, 1),
                tokens=2**14,
                val_tokens=2**12,
            ),
        ),
        "laptop": Preset(
            about="two methods on bytes, three widths, two seeds, 128 steps; about three minutes on two cores",
            trials=grid(
                {"adam": log2_range(-9, -2), "scion": log2_range(-8, -2)},
                (16, 32, 64),
                (0, 1),
                tokens=2**17,
                val_tokens=2**14,
            ),
        ),
        "full": Preset(
            about="four methods on bytes, widths to 512, three seeds, four times the tokens; a night on a workstation",
            trials=grid(
                {
                    "adam": log2_range(-12, -4),
                    "adam-mup": log2_range(-10, -4),
                    "scion": log2_range(-9, -2),
                    "uscion": log2_range(-10, -2),
                },
                (64, 128, 256, 512),
                range(3),
                tokens=2**19,
                head_dim=64,
            ),
        ),
        "gpu": Preset(
            about="the published grid: widths 256 to 2048, Scion's rates 2^-12 to 2^-1, 122 steps of 2^15 characters",
            trials=grid(
                {
                    "adam": log2_range(-14, -6),
                    "adam-mup": log2_range(-13, -5),
                    "scion": log2_range(-12, -1),
                    "uscion": log2_range(-12, -1),
                },
                (256, 512, 1024, 2048),
                range(3),
                data=DATA,
                head_dim=64,
                batch_size=32,
                seq_len=1024,
                tokens=122 * 32 * 1024,
                val_seq_len=1024,
                val_tokens=108 * 1024,
                dtype="float32",
            ),
        ),
    },
)

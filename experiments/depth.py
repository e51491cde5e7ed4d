"""Does the best learning rate stay put when the network gets deeper, and what has the residual scale to do with it?

A branch of a block is multiplied by 1, by 1/√(2L) or by 1/L before it is added to the stream, for L blocks of two
branches each: as many random branches as there are add up to growing, constant, or vanishing variance.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

RESIDUAL = ("1", "1/sqrt(2L)", "1/L")
LEARNING_RATES = {"adam": log2_range(-7, -1), "scion": log2_range(-8, -2)}


def grid(rates: dict[str, list[float]], depths: Iterable[int], seeds: Iterable[int], **fixed: Any) -> tuple[Trial, ...]:
    """Every optimizer × residual scale × depth × learning rate × seed."""
    return tuple(
        trial
        for optimizer, of_optimizer in rates.items()
        for trial in trials(
            {"optimizer": optimizer, **fixed},
            residual=RESIDUAL,
            depth=list(depths),
            lr=of_optimizer,
            seed=list(seeds),
        )
    )


SPEC = Experiment(
    name="depth",
    title="Learning-rate transfer across depth",
    question="Does the best learning rate of a shallow network stay the best when it gets deeper?",
    study="lr-transfer",
    settings={"axis": "depth", "series": ["optimizer", "residual"]},
    presets={
        "smoke": Preset(
            about="depths 1 and 2, seconds; shows that everything runs",
            trials=grid(
                {"adam": log2_range(-9, -5)[::2], "scion": log2_range(-7, -3)[::2]},
                depths=(1, 2),
                seeds=(0, 1),
                width=16,
                tokens=2**12,
                val_tokens=2**12,
            ),
        ),
        "laptop": Preset(
            about="two optimizers, three residual scales, depths 2, 4 and 8, three seeds, about five minutes",
            trials=grid(
                LEARNING_RATES,
                depths=(2, 4, 8),
                seeds=range(3),
                width=32,
                tokens=2**15,
                batch_size=8,
                seq_len=32,
                val_seq_len=32,
                val_tokens=2**13,
            ),
        ),
        "full": Preset(
            about="depths 2 to 32 at width 64, three seeds; a night on a workstation",
            trials=grid(LEARNING_RATES, depths=(2, 4, 8, 16, 32), seeds=range(3), width=64, tokens=2**18),
        ),
        "gpu": Preset(
            about="depths 4 to 64 at width 256",
            trials=grid(
                {"adam": log2_range(-14, -6), "scion": log2_range(-12, -4)},
                depths=(4, 8, 16, 32, 64),
                seeds=range(3),
                width=256,
                head_dim=64,
                tokens=2**23,
                batch_size=32,
                seq_len=256,
                val_seq_len=256,
                val_tokens=2**18,
            ),
        ),
    },
)

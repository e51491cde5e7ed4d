"""How much warm-up does a method want, and does its best rate transfer better with it?

The search behind the methods' own warm-ups (`Recipe.warmup`): every method with the same shares of the run as warm-up,
at the same number of learning rates around its optimum, widths and seeds.
"""

from collections.abc import Iterable
from typing import Any

from experiments import width
from scionlab.grid import log2_range
from scionlab.spec import Experiment, Preset, Trial

SHARES = (0.0, 0.1, 0.2, 0.4)
# Around where each method trains best at widths 32 and 128, with and without warm-up.
LEARNING_RATES = {
    "adam": log2_range(-8, -2),
    "adam-mup": log2_range(-7, -2),
    "muon": log2_range(-5, 0),
    "scion": log2_range(-7, -2),
}


def grid(
    learning_rates: dict[str, list[float]],
    shares: Iterable[float],
    widths: Iterable[int],
    seeds: Iterable[int],
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every optimizer × warm-up × width × learning rate × seed."""
    shares, widths, seeds = list(shares), list(widths), list(seeds)
    return tuple(
        trial
        for optimizer, rates in learning_rates.items()
        for share in shares
        for trial in width.grid({optimizer: rates}, widths, seeds, warmup=share, **fixed)
    )


SPEC = Experiment(
    name="warmup",
    title="Warm-up and learning-rate transfer",
    question="Which methods want a warm-up, and how far does it change what their best rate costs at another width?",
    settings={"series": ["optimizer", "warmup"]},
    presets={
        "smoke": Preset(
            about="one method with and without, two widths, seconds",
            trials=grid(
                {"adam": log2_range(-9, -3)[::2]}, (0.0, 0.2), (16, 32), (0, 1), tokens=2**14, val_tokens=2**12
            ),
        ),
        "laptop": Preset(
            about="four methods, four warm-ups, two widths, two seeds, twenty minutes on two cores",
            trials=grid(LEARNING_RATES, SHARES, (32, 128), (0, 1), tokens=2**17, val_tokens=2**14),
        ),
        "full": Preset(
            about="widths to 256, three seeds, eight times the tokens; two nights on a workstation",
            trials=grid(
                {name: log2_range(-8, 0) if name == "muon" else log2_range(-10, -2) for name in LEARNING_RATES},
                SHARES,
                (32, 64, 128, 256),
                range(3),
                tokens=2**20,
            ),
        ),
        "gpu": Preset(
            about="widths 256 and 1024, batch 32, length 1024, 122 steps",
            trials=grid(
                {name: log2_range(-11, 0) if name == "muon" else log2_range(-13, -2) for name in LEARNING_RATES},
                SHARES,
                (256, 1024),
                range(2),
                **width.SHALLOW_GPT,
            ),
        ),
    },
)

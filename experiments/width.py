"""Does the best learning rate stay put when the network gets wider?

Every optimizer is trained at every width and learning rate of its grid; everything else is held fixed. Learning rates
lie one octave apart. An optimizer's grid is centred on where it trains well at the smallest width, and wide enough to
bracket the optimum at every width; the report flags any optimum at an edge. For `adam-mup` the learning rate is the one
at its base width, 32 (256 in the `gpu` preset), from which the method rescales.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

LEARNING_RATES = {
    "adam": log2_range(-8, -2),
    "adam-mup": log2_range(-8, -2),
    "muon": log2_range(-6, 0),
    "scion": log2_range(-8, -2),
    "uscion": log2_range(-8, -2),
}


# Sizes of the published shallow-GPT transfer experiment, but for its widths.
SHALLOW_GPT: dict[str, Any] = {
    "depth": 2,
    "head_dim": 64,
    "batch_size": 32,
    "seq_len": 1024,
    "val_seq_len": 1024,
    "val_tokens": 2**18,
    "tokens": 122 * 32 * 1024,
}


def grid(
    learning_rates: dict[str, list[float]],
    widths: Iterable[int],
    seeds: Iterable[int],
    options: dict[str, dict[str, Any]] | None = None,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every optimizer × width × learning rate × seed; `options` go to the optimizer of that name."""
    return tuple(
        trial
        for optimizer, rates in learning_rates.items()
        for trial in trials(
            {"optimizer": optimizer, "options": (options or {}).get(optimizer, {}), **fixed},
            width=list(widths),
            lr=rates,
            seed=list(seeds),
        )
    )


SPEC = Experiment(
    name="width",
    title="Learning-rate transfer across width",
    question="Does the best learning rate of a small network stay the best when the network gets wider?",
    presets={
        "smoke": Preset(
            about="two optimizers, two widths, under a minute; shows that everything runs, not who wins",
            trials=grid(
                {"adam": log2_range(-8, -2)[::2], "scion": log2_range(-8, -2)[::2]},
                widths=(16, 32),
                seeds=(0, 1),
                tokens=2**14,
                val_tokens=2**12,
            ),
        ),
        "laptop": Preset(
            about="five optimizers, three widths, two seeds, about five minutes on two cores",
            trials=grid(
                LEARNING_RATES,
                widths=(32, 64, 128),
                seeds=(0, 1),
                tokens=2**17,
                val_tokens=2**14,
            ),
        ),
        "full": Preset(
            about="five optimizers, widths to 512, three seeds, eight times the tokens; a night on a workstation",
            trials=grid(
                {
                    "adam": log2_range(-12, -2),
                    "adam-mup": log2_range(-10, -2),
                    "muon": log2_range(-8, 0),
                    "scion": log2_range(-10, -2),
                    "uscion": log2_range(-10, -2),
                },
                widths=(32, 64, 128, 256, 512),
                seeds=(0, 1, 2),
                tokens=2**20,
            ),
        ),
        "gpu": Preset(
            about="the published shallow-GPT transfer experiment's shape: widths 256 to 2048, batch 32, length 1024",
            trials=grid(
                {
                    "adam": log2_range(-14, -2),
                    "adam-mup": log2_range(-13, -2),
                    "muon": log2_range(-11, 0),
                    "scion": log2_range(-13, -2),
                    "uscion": log2_range(-13, -2),
                },
                widths=(256, 512, 1024, 2048),
                seeds=(0, 1, 2),
                options={"adam-mup": {"base_width": 256}},
                **SHALLOW_GPT,
            ),
        ),
    },
)

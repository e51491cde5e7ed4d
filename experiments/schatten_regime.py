"""Does the best Schatten norm depend on how many steps there are for the width?

For a loss that is smooth in the spectral norm, the bound of the Schatten-p method after K steps goes as
(width/K)^(2/p)/K: with more steps than the width the smallest p is best, with fewer the spectral norm (p = ∞). The
claim is that of arXiv 2606.15268, the bound is derived here; it is of the worst case, and where a real loss turns over
is open. Steps are LMOs, whose length is the rate's alone. Norms are means over the singular values, as in `schatten`.
"""

from collections.abc import Iterable
from typing import Any

from experiments.batch_tolerance import rates
from experiments.schatten import NAMES, POWERS
from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

BATCH, LENGTH = 8, 32
SHORTEST, LONGEST = 16, 1024  # steps


def grid(
    powers: Iterable[str], steps: Iterable[int], seeds: Iterable[int], half_width: int = 2, **fixed: Any
) -> tuple[Trial, ...]:
    """Every p × number of steps × learning rate × seed."""
    steps = list(steps)
    sizes: dict[str, Any] = {"optimizer": "scion", "batch_size": BATCH, "seq_len": LENGTH, "val_seq_len": LENGTH}
    return tuple(
        trial
        for p in powers
        for count in steps
        for trial in trials(
            {"tokens": count * BATCH * LENGTH, "options": {"norm_hidden": f"schatten-mean-{p}"}, **sizes, **fixed},
            lr=rates("scion", count, half_width),
            seed=list(seeds),
        )
    )


def _beats(of: str, than: str, steps: int) -> dict[str, Any]:
    text = f"{of} beats {than} in {steps:,} steps"
    return {"kind": "better", "of": of, "than": than, "at": steps * BATCH * LENGTH, "text": text}


SPEC = Experiment(
    name="schatten-regime",
    title="Schatten norms against the number of steps",
    question="Do smaller Schatten norms win once there are more steps than the width?",
    study="comparison",
    settings={
        "arms": ["options.norm_hidden"],
        "across": "tokens",
        "labels": NAMES,
        "claims": [
            _beats("p = ∞", "p = 2", SHORTEST),
            _beats("p = 2", "p = ∞", LONGEST),
            _beats("p = 4", "p = ∞", LONGEST),
        ],
    },
    presets={
        "smoke": Preset(
            about="three p, 16 and 1,024 steps, one rate, width 16; a minute",
            trials=grid(("2", "4", "inf"), (SHORTEST, LONGEST), (0, 1), 0, width=16, depth=1, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="five p, width 32, 16 to 1,024 steps, five rates, two seeds",
            trials=grid(POWERS, (SHORTEST, 64, 256, LONGEST), (0, 1), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 64, 16 to 4,096 steps, three seeds; a night on a workstation",
            trials=grid(POWERS, (SHORTEST, 64, 256, LONGEST, 4096), range(3), width=64),
        ),
        "gpu": Preset(
            about="width 384, depth 6, 16 to 16,384 steps",
            trials=grid(POWERS, (SHORTEST, 256, LONGEST, 4096, 16384), range(3), width=384, depth=6, head_dim=64),
        ),
    },
)

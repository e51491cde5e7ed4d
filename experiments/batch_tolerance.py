"""Who tolerates large batches? Batch size at a fixed token budget, for Scion, Muon and Adam.

With four times the batch there are a quarter of the steps, at the largest batch still 64 or more. Every method's rate
and momentum are tuned at every batch size, the rate on a grid around where earlier trials of as many steps had their
optimum; Muon and Scion both step by Nesterov's average, as is Muon's default. What is compared is the rise of the tuned
loss from a method's own best batch to the largest.
"""

from collections.abc import Iterable
from math import log2
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

# Of each method log₂ of the rate that trains well in very few steps, and how fast that falls with their number.
MOMENTA = (0.05, 0.1, 0.2, 0.4, 0.8)
NESTEROV: dict[str, dict[str, Any]] = {name: {"average": "nesterov"} for name in ("scion", "uscion")}
CENTRE = {"adam": (-3.0, 0.6), "muon": (-0.9, 1.1), "scion": (-4.2, 1.0), "uscion": (-4.2, 1.0)}


def rates(optimizer: str, steps: int, half_width: int) -> list[float]:
    """One rate an octave around top − slope·log₂(1 + K/100), which followed the optima of earlier trials of K steps."""
    top, slope = CENTRE[optimizer]
    centre = round(top - slope * log2(1 + steps / 100))
    return log2_range(centre - half_width, centre + half_width)


def grid(
    optimizers: Iterable[str],
    batches: Iterable[int],
    tokens: int,
    seeds: Iterable[int],
    half_width: int = 3,
    momenta: Iterable[float] = MOMENTA,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every optimizer × batch size × momentum × learning rate × seed."""
    sizes: dict[str, Any] = {"tokens": tokens, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for optimizer in optimizers
        for batch in batches
        for trial in trials(
            {"optimizer": optimizer, "batch_size": batch, "options": NESTEROV.get(optimizer, {}), **sizes},
            momentum=list(momenta),
            lr=rates(optimizer, tokens // (batch * sizes["seq_len"]), half_width),
            seed=list(seeds),
        )
    )


METHODS = ("adam", "muon", "scion")

SPEC = Experiment(
    name="batch-tolerance",
    title="Batch size at a fixed token budget",
    question="Which method loses least when the batch grows and the steps become few?",
    study="comparison",
    settings={
        "arms": ["optimizer"],
        "across": "batch_size",
        "tuned": ["momentum"],
        "claims": [
            {"kind": "flatter", "of": "scion", "than": "adam", "text": "Scion tolerates larger batches than Adam"},
            {"kind": "flatter", "of": "scion", "than": "muon", "text": "Scion tolerates larger batches than Muon"},
            {"kind": "flatter", "of": "muon", "than": "adam", "text": "Muon tolerates larger batches than Adam"},
        ],
    },
    presets={
        "smoke": Preset(
            about="two batch sizes, two momenta, seconds",
            trials=grid(METHODS, (4, 16), 2**13, (0, 1), half_width=1, momenta=(0.1, 0.4), width=16, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="three optimizers, batches 4 to 64 of 32 tokens, five momenta, seven rates, two seeds, 18 minutes",
            trials=grid(METHODS, (4, 16, 64), 2**17, range(2), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="four optimizers, batches 4 to 256, three seeds, eight times the tokens; a night on a workstation",
            trials=grid((*METHODS, "uscion"), (4, 16, 64, 256), 2**20, range(3), width=64),
        ),
        "gpu": Preset(
            about="width 384, batches 16 to 4096 of 256 tokens",
            trials=grid(
                (*METHODS, "uscion"),
                (16, 64, 256, 1024, 4096),
                2**26,
                range(3),
                width=384,
                depth=6,
                head_dim=64,
                seq_len=256,
                val_seq_len=256,
                val_tokens=2**18,
            ),
        ),
    },
)

"""How much of the distance between Muon and Scion is Nesterov's average?

Muon steps along Nesterov's average of the gradients by default, and Scion along the plain one. Here both do both, at
widths 32 and 128; what else differs between them stays: where matrices start, how embedding and head are trained, the
pull towards 0 (docs/experiments/nesterov.md says what of these matters).
"""

from collections.abc import Iterable
from typing import Any

from experiments import width
from scionlab.grid import log2_range
from scionlab.spec import Experiment, Preset, Trial

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Muon, Nesterov": ("muon", {"nesterov": True}),
    "Muon, plain": ("muon", {"nesterov": False}),
    "Scion, Nesterov": ("scion", {"average": "nesterov"}),
    "Scion, plain": ("scion", {}),
}
LABELS = {
    "muon, True": "Muon, Nesterov",
    "muon, False": "Muon, plain",
    "scion, nesterov": "Scion, Nesterov",
    "scion": "Scion, plain",  # its default is not written
}
RATES = {"muon": log2_range(-5, -1), "scion": log2_range(-7, -3)}


def grid(
    widths: Iterable[int], seeds: Iterable[int], rates: dict[str, list[float]] = RATES, **fixed: Any
) -> tuple[Trial, ...]:
    """Every arm × width × learning rate × seed."""
    widths, seeds = list(widths), list(seeds)
    return tuple(
        trial
        for optimizer, options in ARMS.values()
        for trial in width.grid({optimizer: rates[optimizer]}, widths, seeds, {optimizer: options}, **fixed)
    )


def _better(of: str, than: str, text: str) -> dict[str, Any]:
    return {"kind": "better", "of": of, "than": than, "at": 128, "text": text}


SPEC = Experiment(
    name="nesterov",
    title="Nesterov's average in Muon and Scion",
    question="How much of the distance between Muon and Scion is the average of gradients that they step along?",
    study="comparison",
    settings={
        "arms": ["optimizer", "options.nesterov", "options.average"],
        "across": "width",
        "labels": LABELS,
        "claims": [
            _better("Scion, Nesterov", "Scion, plain", "Nesterov's average helps Scion at width 128"),
            _better("Muon, Nesterov", "Muon, plain", "Nesterov's average helps Muon at width 128"),
            _better("Muon, plain", "Scion, plain", "Muon ends lower with plain averages, too"),
            _better("Muon, Nesterov", "Scion, Nesterov", "Muon ends lower where both have Nesterov's"),
        ],
    },
    presets={
        "smoke": Preset(
            about="two tiny widths, one rate, seconds",
            trials=grid(
                (16, 128), (0, 1), {"muon": [0.125], "scion": [2.0**-5]}, depth=1, tokens=2**12, val_tokens=2**12
            ),
        ),
        "laptop": Preset(
            about="four arms, two widths, five rates, two seeds, about five minutes on two cores",
            trials=grid((32, 128), (0, 1), tokens=2**17, val_tokens=2**14),
        ),
        "full": Preset(
            about="widths 32 to 512, three seeds, eight times the tokens; a night on a workstation",
            trials=grid(
                (32, 128, 512), range(3), {"muon": log2_range(-7, -1), "scion": log2_range(-9, -3)}, tokens=2**20
            ),
        ),
        "gpu": Preset(
            about="widths 128 and 1024, batch 32, length 1024",
            trials=grid(
                (128, 1024),
                range(2),
                {"muon": log2_range(-9, -1), "scion": log2_range(-11, -3)},
                **width.SHALLOW_GPT,
            ),
        ),
    },
)

"""A pull to the start in place of weight decay: does one setting serve all horizons?

SODA adds (x₀ − x)/(k + 2) to the step k of a method without decay (arXiv 2605.11172). It has nothing to tune, where a
decay's best λ depends on the length of a run. Unconstrained Scion and Muon are trained over three horizons without
decay, with several decays, and with the pull, also faded out by half a cosine between two thirds and eleven twelfths of
the run, which was better for a GPT of 124M (docs/optimizers.md has the sources). Rates are tuned for every arm and
horizon; Scion with decay 1 is constrained Scion from the same start.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

FADED: dict[str, Any] = {"anchored": True, "anchor_fade_start": 2 / 3, "anchor_fade_end": 11 / 12}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Scion without decay": ("uscion", {}),
    "Scion, decay 0.1": ("uscion", {"weight_decay": 0.1}),
    "Scion, decay 1/3": ("uscion", {"weight_decay": 1 / 3}),
    "Scion, decay 1": ("uscion", {"weight_decay": 1.0}),
    "Scion, anchored": ("uscion", {"anchored": True}),
    "Scion, anchored and faded": ("uscion", FADED),
    "Muon without decay": ("muon", {"weight_decay": 0.0}),
    "Muon, decay 0.1": ("muon", {"weight_decay": 0.1}),
    "Muon, anchored": ("muon", {"weight_decay": 0.0, "anchored": True}),
    "Muon, anchored and faded": ("muon", {"weight_decay": 0.0} | FADED),
}
LABELS = {
    "uscion": "Scion without decay",
    "uscion, weight decay 0.1": "Scion, decay 0.1",
    f"uscion, weight decay {1 / 3:.10g}": "Scion, decay 1/3",
    "uscion, weight decay 1": "Scion, decay 1",
    "uscion, anchored": "Scion, anchored",
    f"uscion, anchored, anchor fade start {2 / 3:.10g}": "Scion, anchored and faded",
    "muon, weight decay 0": "Muon without decay",
    "muon, weight decay 0.1": "Muon, decay 0.1",
    "muon, weight decay 0, anchored": "Muon, anchored",
    f"muon, weight decay 0, anchored, anchor fade start {2 / 3:.10g}": "Muon, anchored and faded",
}
SHORTEST, LONGEST = 2**13, 2**17


def grid(
    horizons: Iterable[int], rates: dict[str, list[float]], seeds: Iterable[int], **fixed: Any
) -> tuple[Trial, ...]:
    """Every arm × horizon in tokens × learning rate of its method × seed."""
    sizes: dict[str, Any] = {"batch_size": 8, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for optimizer, options in ARMS.values()
        for trial in trials(
            {"optimizer": optimizer, "options": options, **sizes},
            tokens=list(horizons),
            lr=rates[optimizer],
            seed=list(seeds),
        )
    )


def _claim(kind: str, of: str, than: str, at: int, text: str) -> dict[str, Any]:
    return {"kind": kind, "of": of, "than": than, "at": at, "text": text}


SPEC = Experiment(
    name="soda",
    title="A pull to the start in place of decay",
    question="Does a pull to the start, which has nothing to tune, serve as well as a tuned decay at every horizon?",
    study="comparison",
    settings={
        "arms": ["optimizer", "options.weight_decay", "options.anchored", "options.anchor_fade_start"],
        "across": "tokens",
        "labels": LABELS,
        "claims": [
            _claim(
                "no-worse", "Scion, anchored", "Scion without decay", SHORTEST, "The pull does no harm to a short run"
            ),
            _claim("better", "Scion, anchored", "Scion without decay", LONGEST, "In a long run it beats no decay"),
            _claim("no-worse", "Scion, anchored", "Scion, decay 1/3", LONGEST, "It is no worse than a weak decay"),
            _claim("no-worse", "Scion, anchored", "Scion, decay 1", LONGEST, "It is no worse than Scion's own decay"),
            _claim("better", "Scion, anchored and faded", "Scion, anchored", LONGEST, "Fading it out helps"),
            _claim("better", "Muon, anchored", "Muon without decay", LONGEST, "Around Muon it beats no decay"),
            _claim("no-worse", "Muon, anchored", "Muon, decay 0.1", LONGEST, "Around Muon it is no worse than decay"),
            _claim("better", "Muon, anchored and faded", "Muon, anchored", LONGEST, "Around Muon fading helps"),
        ],
    },
    presets={
        "smoke": Preset(
            about="all arms, two horizons, one rate, width 16; two minutes",
            trials=grid(
                (SHORTEST, LONGEST),
                {"uscion": [2.0**-5], "muon": [2.0**-3]},
                (0, 1),
                width=16,
                depth=1,
                val_tokens=2**12,
            ),
        ),
        "laptop": Preset(
            about="ten arms, three horizons, six rates, two seeds, about three minutes on two cores",
            trials=grid(
                (SHORTEST, 2**15, LONGEST),
                {"uscion": log2_range(-8, -3), "muon": log2_range(-5, 0)},
                (0, 1),
                width=32,
                val_tokens=2**14,
            ),
        ),
        "full": Preset(
            about="width 128, horizons to 2^20 tokens, eight rates, three seeds; a night on a workstation",
            trials=grid(
                (SHORTEST, LONGEST, 2**20),
                {"uscion": log2_range(-10, -3), "muon": log2_range(-7, 0)},
                range(3),
                width=128,
                val_tokens=2**15,
            ),
        ),
        "gpu": Preset(
            about="width 512, depth 4, horizons to 2^22 tokens",
            trials=grid(
                (SHORTEST, LONGEST, 2**22),
                {"uscion": log2_range(-12, -3), "muon": log2_range(-8, 0)},
                range(3),
                width=512,
                depth=4,
                head_dim=64,
                val_tokens=2**16,
            ),
        ),
    },
)

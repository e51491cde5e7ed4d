"""Many epochs over little text: does the constraint resist overfitting?

Scion's steps stay in a ball, unconstrained ones do not. With weight decay λ they do again if it is decoupled, x ←
(1 − γλ)x, which is the ball of radius ρ/λ; coupled, λx is added to the gradient, and the LMO normalizes both together.
Each is trained for one, eight and thirty-two passes over the first 2^14 bytes, its rate tuned every time.
"""

from collections.abc import Iterable
from math import log2
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

# Of every arm its method and options, and log₂ of a rate that trains well for 32 epochs; for one, that is -4 for all.
ARMS: dict[str, tuple[str, dict[str, Any], int]] = {
    "scion": ("scion", {}, -4),
    "unconstrained": ("uscion", {}, -9),
    "decoupled decay 1/3": ("uscion", {"weight_decay": 1 / 3}, -3),
    "coupled decay 0.001": ("uscion", {"weight_decay": 0.001, "coupled": True}, -5),
    "coupled decay 0.01": ("uscion", {"weight_decay": 0.01, "coupled": True}, -8),
}
LABELS = {
    "scion": "scion",
    "uscion": "unconstrained",
    f"uscion, weight decay {1 / 3:.10g}": "decoupled decay 1/3",
    "uscion, weight decay 0.001, coupled": "coupled decay 0.001",
    "uscion, weight decay 0.01, coupled": "coupled decay 0.01",
}


def grid(
    limit: int, epochs: Iterable[int], half_width: int, seeds: Iterable[int], shift: int = 0, **fixed: Any
) -> tuple[Trial, ...]:
    """Every arm × number of epochs over `limit` tokens × learning rate × seed; `shift` moves all rates, in octaves."""
    sizes: dict[str, Any] = {"train_limit": limit, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for optimizer, options, last in ARMS.values()
        for count in epochs
        for trial in trials(
            {"optimizer": optimizer, "options": options, "tokens": limit * count, **sizes},
            lr=rates(last, count, half_width, shift),
            seed=list(seeds),
        )
    )


def rates(last: int, epochs: int, half_width: int, shift: int) -> list[float]:
    """One rate an octave around the arm's, which goes from -4 at one epoch to `last` at 32 with their logarithm."""
    centre = round(-4 + (last + 4) * log2(epochs) / 5) + shift
    return log2_range(centre - half_width, centre + half_width)


def _claim(kind: str, of: str, than: str, at: int | None, text: str) -> dict[str, Any]:
    claim: dict[str, Any] = {"kind": kind, "of": of, "than": than, "text": text}
    return claim if kind == "flatter" else claim | {"at": at}


LONGEST = 2**19

SPEC = Experiment(
    name="epochs",
    title="Many epochs over little text",
    question="Does a norm constraint resist overfitting better than no constraint, or than weight decay?",
    study="comparison",
    settings={
        "arms": ["optimizer", "options.weight_decay", "options.coupled"],
        "across": "tokens",
        "labels": LABELS,
        "claims": [
            _claim("flatter", "scion", "unconstrained", None, "The constraint loses less to overfitting than none"),
            _claim("better", "scion", "unconstrained", LONGEST, "The constraint beats none after the most epochs"),
            _claim("better", "scion", "coupled decay 0.001", LONGEST, "The constraint beats weak coupled decay"),
            _claim("better", "scion", "coupled decay 0.01", LONGEST, "The constraint beats strong coupled decay"),
            _claim("no-worse", "scion", "decoupled decay 1/3", LONGEST, "The constraint is no worse than a wider ball"),
        ],
    },
    presets={
        "smoke": Preset(
            about="the most epochs alone, width 16, one rate; a minute",
            trials=grid(2**14, (1, 32), 0, (0, 1), width=16, depth=1, batch_size=64, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="five arms, 1, 8 and 32 epochs, five rates, two seeds, about six minutes on two cores",
            trials=grid(2**14, (1, 8, 32), 2, (0, 1), width=32, batch_size=32, val_tokens=2**14),
        ),
        "full": Preset(
            about="the same at width 128 with more rates and seeds; a night on a workstation",
            trials=grid(2**14, (1, 4, 8, 16, 32), 3, range(4), width=128, val_tokens=2**15),
        ),
        "gpu": Preset(
            about="the same at width 512, depth 4",
            trials=grid(2**14, (1, 4, 8, 16, 32), 3, range(4), shift=-2, width=512, depth=4, head_dim=64),
        ),
    },
)

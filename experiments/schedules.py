"""Schedules from theory and from practice, for step size and momentum.

Theory (arXiv 2502.07529): a constant step γ ∝ n^(-1/2) with constant α, or γ ∝ n^(-3/4) with α_k = 1/√k, n the number
of steps. Practice: constant α, and γ that decays linearly at the end or all along. Every combination's peak rate is
tuned at several budgets, so that the page shows both what a schedule costs and how its best rate falls with n.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

SHAPES = ("constant", "trapezoid", "linear")
NAMES = {
    "constant, constant": "α and γ constant",
    "constant, trapezoid": "α constant, γ decays at the end",
    "constant, linear": "α constant, γ decays linearly",
    "vanishing, constant": "α = 1/√k, γ constant",
    "vanishing, trapezoid": "α = 1/√k, γ decays at the end",
    "vanishing, linear": "α = 1/√k, γ decays linearly",
}


def grid(budgets: Iterable[int], rates: list[float], seeds: Iterable[int], **fixed: Any) -> tuple[Trial, ...]:
    """Every momentum schedule × step schedule × budget × learning rate × seed."""
    sizes: dict[str, Any] = {"optimizer": "scion", "seq_len": 32, "val_seq_len": 32, **fixed}
    return trials(
        sizes,
        momentum_schedule=["constant", "vanishing"],
        schedule=list(SHAPES),
        tokens=list(budgets),
        lr=rates,
        seed=list(seeds),
    )


def _better(of: str, than: str, text: str) -> dict[str, Any]:
    return {"kind": "better", "of": of, "than": than, "at": 2**17, "text": text}


SPEC = Experiment(
    name="schedules",
    title="Schedules of step size and momentum",
    question="How do the schedules of the theorems compare with those of practice?",
    study="comparison",
    settings={
        "arms": ["momentum_schedule", "schedule"],
        "across": "tokens",
        "labels": NAMES,
        "claims": [
            _better(NAMES["constant, linear"], NAMES["constant, constant"], "Linear decay beats a constant step"),
            _better(NAMES["constant, linear"], NAMES["constant, trapezoid"], "Decay all along beats decay at the end"),
            _better(
                NAMES["constant, linear"],
                NAMES["vanishing, constant"],
                "Practice beats theory's vanishing momentum with its constant step",
            ),
            _better(
                NAMES["constant, constant"],
                NAMES["vanishing, constant"],
                "With a constant step, constant momentum beats vanishing momentum",
            ),
        ],
    },
    presets={
        "smoke": Preset(
            about="one budget, one rate, seconds",
            trials=grid((2**17,), [2.0**-6], (0, 1), width=16, depth=1, batch_size=64, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="six schedules, two budgets, six rates, two seeds, about five minutes on two cores",
            trials=grid((2**15, 2**17), log2_range(-9, -4), (0, 1), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 128, three budgets, three seeds; a night on a workstation",
            trials=grid((2**15, 2**17, 2**19), log2_range(-10, -3), range(3), width=128),
        ),
        "gpu": Preset(
            about="width 384, depth 6, budgets to 2^24",
            trials=grid(
                (2**17, 2**20, 2**24), log2_range(-13, -4), range(3), width=384, depth=6, head_dim=64, batch_size=64
            ),
        ),
    },
)

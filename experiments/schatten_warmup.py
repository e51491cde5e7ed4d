"""Which Schatten norms want a warm-up?

Dual averaging in the geometry of p moves in its k-th step by about k^((p + 2)/(p(p - 1)) - 1): at p = 2 that is a
linear warm-up of its own, from p = 3 on it falls from the start. So methods of p = 2 should want a warm-up and those of
p ≥ 3 should not (a claim of arXiv 2605.11172; the exponent is derived here). Steps are LMOs, whose length is the rate's
alone. Norms are means over the singular values, as in `schatten`.
"""

from collections.abc import Iterable
from typing import Any

from experiments.batch_tolerance import rates
from experiments.schatten import NAMES
from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

POWERS = ("2", "3", "4", "inf")
SHARES = (0.0, 0.1)


def grid(
    powers: Iterable[str], tokens: int, seeds: Iterable[int], half_width: int = 2, **fixed: Any
) -> tuple[Trial, ...]:
    """Every p × warm-up × learning rate × seed."""
    sizes: dict[str, Any] = {"optimizer": "scion", "batch_size": 16, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for p in powers
        for trial in trials(
            {"tokens": tokens, "options": {"norm_hidden": f"schatten-mean-{p}"}, **sizes},
            warmup=list(SHARES),
            lr=rates("scion", tokens // (16 * sizes["seq_len"]), half_width),
            seed=list(seeds),
        )
    )


def _claim(kind: str, p: str, of: float, than: float, text: str) -> dict[str, Any]:
    arms = {"of": f"p = {p}, warmup {of:g}", "than": f"p = {p}, warmup {than:g}"}
    return {"kind": kind, **arms, "text": text}


SPEC = Experiment(
    name="schatten-warmup",
    title="Warm-up and Schatten norms",
    question="Does p = 2 want a warm-up, and p ≥ 3 none?",
    study="comparison",
    settings={
        "arms": ["options.norm_hidden", "warmup"],
        "labels": NAMES,
        "claims": [
            _claim("better", "2", 0.1, 0, "p = 2 is better with a warm-up of 10%"),
            *(_claim("no-worse", p, 0, 0.1, f"p = {p} needs none") for p in ("3", "4", "∞")),
        ],
    },
    presets={
        "smoke": Preset(
            about="four p, with and without, one rate, width 16; seconds",
            trials=grid(POWERS, 2**14, (0, 1), 0, width=16, depth=1, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="four p, width 32, 128 steps, five rates, three seeds",
            trials=grid(POWERS, 2**16, range(3), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 64, 2,048 steps, three seeds; a night on a workstation",
            trials=grid(POWERS, 2**20, range(3), width=64),
        ),
        "gpu": Preset(
            about="width 384, depth 6, 8,192 steps",
            trials=grid(POWERS, 2**22, range(3), width=384, depth=6, head_dim=64),
        ),
    },
)

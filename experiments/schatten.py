"""Which Schatten norm for the hidden layers: Frobenius (p = 2), spectral (p = ∞), or between?

Norms are means over the singular values, ‖W‖ = √(d_in/d_out)(mean σ^p)^(1/p), so that radius and rate mean the same for
every p; p = ∞ is the spectral norm of the other experiments, by an exact SVD for all. Theory (arXiv 2606.15268) says
that large p favours large batches, and that a smaller p may be better in the low-dimensional regime.
"""

from collections.abc import Iterable
from typing import Any

from experiments.batch_tolerance import rates
from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

POWERS = ("2", "3", "4", "8", "inf")


def grid(
    powers: Iterable[str],
    batches: Iterable[int],
    tokens: int,
    seeds: Iterable[int],
    half_width: int = 2,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every p × batch size × learning rate × seed."""
    batches = list(batches)
    sizes: dict[str, Any] = {"optimizer": "scion", "tokens": tokens, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for p in powers
        for batch in batches
        for trial in trials(
            {"batch_size": batch, "options": {"norm_hidden": f"schatten-mean-{p}"}, **sizes},
            lr=rates("scion", tokens // (batch * sizes["seq_len"]), half_width),
            seed=list(seeds),
        )
    )


def names(powers: Iterable[str]) -> dict[str, str]:
    """What the norms of these p are called."""
    return {f"schatten-mean-{p}": f"p = {'∞' if p == 'inf' else p}" for p in powers}


NAMES = names(POWERS)

SPEC = Experiment(
    name="schatten",
    title="Schatten norms of the hidden layers",
    question="Is the spectral norm the best of the Schatten norms, and does that depend on the batch?",
    study="comparison",
    settings={
        "arms": ["options.norm_hidden"],
        "across": "batch_size",
        "labels": NAMES,
        "claims": [
            {"kind": "better", "of": "p = ∞", "than": "p = 2", "at": 64, "text": "p = ∞ beats p = 2 at batch size 64"},
            {"kind": "better", "of": "p = ∞", "than": "p = 2", "at": 4, "text": "p = ∞ beats p = 2 at batch size 4"},
            {"kind": "better", "of": "p = 4", "than": "p = ∞", "at": 4, "text": "p = 4 beats p = ∞ at batch size 4"},
            {"kind": "flatter", "of": "p = ∞", "than": "p = 2", "text": "p = ∞ tolerates larger batches than p = 2"},
        ],
    },
    presets={
        "smoke": Preset(
            about="two p, two batches, seconds",
            trials=grid(("2", "4", "inf"), (4, 64), 2**13, (0, 1), 0, width=16, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="five p, batches 4 and 64, five rates, two seeds, about six minutes on two cores",
            trials=grid(POWERS, (4, 64), 2**15, (0, 1), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 64, batches 4 to 256, three seeds, sixteen times the tokens; a night on a workstation",
            trials=grid(POWERS, (4, 16, 64, 256), 2**19, range(3), width=64),
        ),
        "gpu": Preset(
            about="width 384, depth 6, batches 4 to 1024",
            trials=grid(POWERS, (4, 64, 1024), 2**23, range(3), width=384, depth=6, head_dim=64),
        ),
    },
)

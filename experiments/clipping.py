"""To clip or not to clip: steps that shorten as the gradient does, against steps of fixed length.

Clipped Scion steps by min{γ, ‖d‖_*/L}, constrained by the short step of Frank and Wolfe, where plain Scion steps by γ.
L is the smoothness that the step assumes, in the network's norm: with a small one nothing is ever clipped. As clipping
shortens steps late in training, it may stand in for the schedule: both a constant rate and a linear decay are run.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

SMOOTHNESS = (2.0**7, 2.0**8, 2.0**9)


def grid(smoothness: Iterable[float], rates: list[float], seeds: Iterable[int], **fixed: Any) -> tuple[Trial, ...]:
    """Plain and clipped, constrained and not, × L × schedule × learning rate × seed."""
    arms: list[tuple[str, dict[str, Any]]] = [("scion", {}), ("uscion", {})]
    for value in smoothness:
        arms += [(name, {"smoothness": value}) for name in ("clipped-scion", "clipped-uscion")]
    sizes: dict[str, Any] = {"seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for optimizer, options in arms
        for trial in trials(
            {"optimizer": optimizer, "options": options, **sizes},
            schedule=["constant", "linear"],
            lr=rates,
            seed=list(seeds),
        )
    )


def _better(of: str, than: str, at: str, text: str) -> dict[str, Any]:
    return {"kind": "better", "of": of, "than": than, "at": at, "text": text}


SPEC = Experiment(
    name="clipping",
    title="Clipped steps",
    question="Does it pay to shorten the steps with the gradient, and can that replace a schedule?",
    study="comparison",
    settings={
        "arms": ["optimizer", "options.smoothness"],
        "across": "schedule",
        "claims": [
            _better(f"clipped-{name}, smoothness {2**8}", name, at, f"Clipping helps {name} with {what}")
            for name in ("uscion", "scion")
            for at, what in (("constant", "a constant rate"), ("linear", "linear decay"))
        ],
    },
    presets={
        "smoke": Preset(
            about="one L, two rates, seconds",
            trials=grid((2.0**8,), log2_range(-6, -5), (0, 1), width=16, tokens=2**13, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="plain and three L, with and without decay, five rates, two seeds, about six minutes on two cores",
            trials=grid(SMOOTHNESS, log2_range(-8, -4), (0, 1), width=32, tokens=2**16, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 128, five L, three seeds; a night on a workstation",
            trials=grid([2.0**e for e in range(6, 13, 2)], log2_range(-9, -2), range(3), width=128, tokens=2**19),
        ),
        "gpu": Preset(
            about="width 384, depth 6",
            trials=grid(
                [2.0**e for e in range(6, 15, 2)], log2_range(-12, -4), range(3), width=384, depth=6, head_dim=64
            ),
        ),
    },
)

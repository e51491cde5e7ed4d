"""Does a method say how large the weights may become, and do they keep to it?

Constrained steps never leave the ball of radius ρ; unconstrained ones go no further than ρ·Σγ from where they started.
Every layer's weight is measured in its own norm along the run; Adam and Muon, which promise nothing, in Scion's norms.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

# Near the best at width 64 in the `width` experiment.
LEARNING_RATE = {"adam": 2.0**-5, "muon": 2.0**-2, "scion": 2.0**-5, "uscion": 2.0**-5}


def grid(seeds: Iterable[int], **fixed: Any) -> tuple[Trial, ...]:
    """Every optimizer × seed, at its rate held constant: the norms shall have all the time they want."""
    common: dict[str, Any] = {"schedule": "constant", "watch": 32, "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for optimizer, lr in LEARNING_RATE.items()
        for trial in trials({"optimizer": optimizer, "lr": lr, **common}, seed=list(seeds))
    )


SPEC = Experiment(
    name="norm-control",
    title="Norms of the weights during training",
    question="Do the weights stay within what the method promises?",
    study="norm-control",
    presets={
        "smoke": Preset(
            about="narrow and short, seconds",
            trials=grid((0, 1), width=16, tokens=2**13, val_tokens=2**12, watch=8),
        ),
        "laptop": Preset(
            about="four optimizers, width 64, 512 steps, three seeds, about two minutes on two cores",
            trials=grid(range(3), width=64, tokens=2**18, val_tokens=2**13),
        ),
        "full": Preset(
            about="width 256, 4,096 steps, three seeds; a few hours on a workstation",
            trials=grid(range(3), width=256, tokens=2**21, val_tokens=2**15),
        ),
        "gpu": Preset(
            about="width 768, depth 6, length 256, three seeds",
            trials=grid(
                range(3), width=768, depth=6, head_dim=64, seq_len=256, val_seq_len=256, batch_size=32, tokens=2**25
            ),
        ),
    },
)

"""How heavy is the tail of a GPT's gradients, and over how many directions does their noise spread?

Theory tells Schatten norms apart by the tail of the noise. With moments below p only, p < 2, norms up to p/(p − 1)
cost nothing in dimensions, and nothing is gained beyond; with a variance there is no reason to go above 2 (arXiv
2606.14560). The noise of single windows is measured along runs at rates near the best of each method.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

# Near the best at width 32 in the `width` experiment.
LEARNING_RATE = {"adam": 2.0**-4, "muon": 2.0**-2, "scion": 2.0**-5}


def grid(seeds: Iterable[int], **fixed: Any) -> tuple[Trial, ...]:
    """Every optimizer × seed, at its rate, measured at four steps."""
    common: dict[str, Any] = {"noise_probe": 4, "seq_len": 64, "val_seq_len": 64, **fixed}
    return tuple(
        trial
        for optimizer, lr in LEARNING_RATE.items()
        for trial in trials({"optimizer": optimizer, "lr": lr, **common}, seed=list(seeds))
    )


SPEC = Experiment(
    name="gradient-noise",
    title="The noise of single gradients",
    question="Does the noise of gradients have a variance, layer by layer and over training?",
    study="gradient-noise",
    presets={
        "smoke": Preset(
            about="narrow and short, seconds",
            trials=grid(
                (0, 1), width=16, depth=1, seq_len=16, val_seq_len=16, batch_size=8, tokens=2**11, val_tokens=2**12
            ),
        ),
        "laptop": Preset(
            about="three optimizers, width 32, 128 steps, three seeds, about two minutes on two cores",
            trials=grid(range(3), width=32, batch_size=16, tokens=2**17, val_tokens=2**14),
        ),
        "full": Preset(
            about="width 256, depth 4, 2,048 steps, three seeds; an hour on a workstation",
            trials=grid(range(3), width=256, depth=4, head_dim=64, batch_size=16, tokens=2**21, val_tokens=2**15),
        ),
        "gpu": Preset(
            about="width 768, depth 6, length 256, three seeds",
            trials=grid(
                range(3), width=768, depth=6, head_dim=64, seq_len=256, val_seq_len=256, batch_size=32, tokens=2**25
            ),
        ),
    },
)

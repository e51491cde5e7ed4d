"""Is there one norm of the last layer at which training is best, whatever the width and the token budget?

Filatov et al. (arXiv 2510.03871): at the best learning rate and batch size, the output layer's ‖W‖_{RMS→∞} at the end
of training is the same across widths and budgets. Every combination is trained, and the last layer measured at the end.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial


def grid(
    widths: Iterable[int],
    budgets: Iterable[int],
    batches: Iterable[int],
    rates: list[float],
    seeds: Iterable[int],
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every width × budget × batch size × learning rate × seed of unconstrained Scion: in a ball, ρ would decide."""
    sizes: dict[str, Any] = {"optimizer": "uscion", "watch": 1, "seq_len": 32, "val_seq_len": 32, **fixed}
    return trials(sizes, width=list(widths), tokens=list(budgets), batch_size=list(batches), lr=rates, seed=list(seeds))


SPEC = Experiment(
    name="norm-transfer",
    title="The last layer's norm at the best learning rate and batch size",
    question="Is the norm of the output layer at the best setting the same across widths and budgets?",
    study="norm-transfer",
    presets={
        "smoke": Preset(
            about="two widths, two budgets, seconds",
            trials=grid((16, 32), (2**12, 2**13), (4, 16), log2_range(-6, -4), (0, 1), val_tokens=2**12),
        ),
        "laptop": Preset(
            about="three widths, three budgets, three batches, six rates, two seeds, about eight minutes on two cores",
            trials=grid((16, 32, 64), (2**14, 2**15, 2**16), (4, 8, 16), log2_range(-8, -3), (0, 1), val_tokens=2**13),
        ),
        "full": Preset(
            about="widths 32 to 256, budgets 2^17 to 2^20, three seeds; a day on a workstation",
            trials=grid(
                (32, 64, 128, 256), (2**17, 2**18, 2**19, 2**20), (4, 8, 16, 32), log2_range(-11, -5), range(3)
            ),
        ),
        "gpu": Preset(
            about="widths 256 to 1024, budgets 2^22 to 2^26",
            trials=grid(
                (256, 512, 1024),
                (2**22, 2**24, 2**26),
                (16, 64, 256),
                log2_range(-14, -6),
                range(2),
                depth=4,
                head_dim=64,
            ),
        ),
    },
)

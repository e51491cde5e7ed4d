"""Is there one norm of the last layer at which training is best, whatever the width and the token budget?

Filatov et al. (arXiv 2510.03871): at the best learning rate and batch size, the output layer's ‖W‖_{RMS→∞} at the end
of training is the same across widths and budgets. Every combination is trained, and the last layer measured at the end.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.batch_tolerance import rates
from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

# Batch sizes for each budget: around the best, which grows about in proportion.
LAPTOP = {2**15: (2, 4, 8), 2**16: (2, 4, 8), 2**17: (4, 8, 16)}
FULL = {2**17: (4, 8, 16, 32), 2**18: (8, 16, 32, 64), 2**19: (16, 32, 64, 128)}


def grid(
    widths: Iterable[int],
    batches: Mapping[int, Iterable[int]],
    seeds: Iterable[int],
    half_width: int = 2,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every width × budget × batch size × learning rate × seed of unconstrained Scion: in a ball, ρ would decide."""
    sizes: dict[str, Any] = {"optimizer": "uscion", "watch": 1, "seq_len": 16, "val_seq_len": 16, **fixed}
    return tuple(
        trial
        for tokens, of_budget in batches.items()
        for batch in of_budget
        for trial in trials(
            {"tokens": tokens, "batch_size": batch, **sizes},
            width=list(widths),
            lr=rates("uscion", tokens // (batch * sizes["seq_len"]), half_width)[1:],  # the optima are above the middle
            seed=list(seeds),
        )
    )


SPEC = Experiment(
    name="norm-transfer",
    title="The last layer's norm at the best learning rate and batch size",
    question="Is the norm of the output layer at the best setting the same across widths and budgets?",
    study="norm-transfer",
    presets={
        "smoke": Preset(
            about="two widths, two budgets, half a minute",
            trials=grid((16, 32), {2**11: (2, 4, 8), 2**12: (4, 8, 16)}, (0, 1), 1, depth=1, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="two widths, three budgets with three batches each, four rates, two seeds, about eight minutes",
            trials=grid((16, 64), LAPTOP, (0, 1), val_tokens=2**13),
        ),
        "full": Preset(
            about="widths 32 to 256, budgets 2^17 to 2^19, three seeds; a day on a workstation",
            trials=grid((32, 64, 128, 256), FULL, range(3), seq_len=32, val_seq_len=32),
        ),
        "gpu": Preset(
            about="widths 256 to 1024, budgets 2^22 to 2^26",
            trials=grid(
                (256, 512, 1024),
                {2**22: (8, 16, 32, 64), 2**24: (16, 32, 64, 128), 2**26: (32, 64, 128, 256)},
                range(2),
                depth=4,
                head_dim=64,
                seq_len=256,
                val_seq_len=256,
            ),
        ),
    },
)

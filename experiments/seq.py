"""Does the sequence length play the batch size's part? Only the tokens of a step, B·S, enter the theory.

Two budgets, one batch size in sequences, and sequence lengths an octave apart; validation is on one fixed length, so
that lengths below it also pay for positions they have not seen, which is not in the theory. What
`experiments/batch.py` says of grids holds here, too: it sets the learning rates by the tokens of a step.
"""

from collections.abc import Iterable
from typing import Any

from experiments.batch import Reach, octaves, rates
from scionlab.grid import named_for, trials
from scionlab.spec import Experiment, Preset, Trial


def grid(
    optimizer: str,
    tokens: Iterable[int],
    lengths: Iterable[int],
    seeds: Iterable[int],
    reach: Reach | None = None,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Budget × sequence length × learning rate × seed; `fixed` must name the batch_size."""
    return tuple(
        trial
        for budget in tokens
        for length in lengths
        for trial in trials(
            {"optimizer": optimizer, "tokens": budget, "seq_len": length, **fixed},
            lr=rates(optimizer, budget, length * fixed["batch_size"], reach),
            seed=list(seeds),
        )
    )


def for_optimizer(optimizer: str) -> Experiment:
    """The experiment for any optimizer."""
    small: dict[str, Any] = {"width": 32, "depth": 2, "batch_size": 8, "val_seq_len": 64}
    return Experiment(
        name="seq" if optimizer == "scion" else named_for("seq", optimizer),
        title=f"Sequence length and token budget, {optimizer}",
        question="Does the best number of tokens a step depend on whether they come as more or as longer sequences?",
        study="batch-scaling",
        presets={
            "smoke": Preset(
                about="two budgets, three lengths, under a minute; shows that everything runs",
                trials=grid(optimizer, (2**14, 2**15), octaves(8, 3), (0,), (1, 1), **(small | {"width": 16})),
            ),
            "laptop": Preset(
                about="two budgets, six lengths from 8 to 256, two seeds, about four minutes on two cores",
                trials=grid(optimizer, (2**16, 2**18), octaves(8), (0, 1), **small),
            ),
            "full": Preset(
                about="four budgets, seven lengths, three seeds at width 64; two hours on a workstation",
                trials=grid(
                    optimizer, octaves(2**16, 4), octaves(8, 7), (0, 1, 2), **(small | {"width": 64, "depth": 3})
                ),
            ),
            "gpu": Preset(
                about="10M parameters, 2^21 and 2^24 tokens, lengths from 32 to 1024, batch 16",
                trials=grid(
                    optimizer, (2**21, 2**24), octaves(32), (0, 1, 2), (3, 3),
                    width=384, depth=6, head_dim=64, batch_size=16, val_seq_len=1024, val_tokens=2**18,
                ),
            ),
        },
    )  # fmt: skip


SPEC = for_optimizer("scion")

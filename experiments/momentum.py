"""How much of the gradient should be new? Momentum α against batch size and token budget.

α is the weight of the new gradient: 1 has no memory, 0.1 is what others call 0.9. Averaging fights the noise of small
batches, and costs staleness: theory wants a larger α where batch/horizon is large, and a small one at small batches.
"""

from collections.abc import Iterable
from typing import Any

from experiments.batch_tolerance import rates
from scionlab.grid import trials
from scionlab.spec import Experiment, Preset, Trial

MOMENTA = (0.05, 0.1, 0.2, 0.5, 1.0)


def grid(
    batches: Iterable[int],
    budgets: Iterable[int],
    seeds: Iterable[int],
    momenta: Iterable[float] = MOMENTA,
    half_width: int = 2,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """Every batch size × budget × momentum × learning rate × seed."""
    sizes: dict[str, Any] = {"optimizer": "scion", "seq_len": 32, "val_seq_len": 32, **fixed}
    return tuple(
        trial
        for batch in batches
        for tokens in budgets
        for trial in trials(
            {"batch_size": batch, "tokens": tokens, **sizes},
            momentum=list(momenta),
            lr=rates("scion", tokens // (batch * sizes["seq_len"]), half_width),
            seed=list(seeds),
        )
    )


def _settings(batches: tuple[int, int], budgets: tuple[int, int]) -> dict[str, Any]:
    (small, large), (short, long) = batches, budgets

    def arm(batch: int, tokens: int) -> str:
        return f"batch size {batch}, tokens {tokens}"

    claims = [
        {
            "kind": "grows",
            "of": [arm(small, tokens), arm(large, tokens)],
            "with": "batch_size",
            "text": f"The best momentum grows with the batch size, at {tokens:,} tokens",
        }
        for tokens in (short, long)
    ]
    claims += [
        {
            "kind": "flatter",
            "of": arm(large, tokens),
            "than": arm(small, tokens),
            "text": f"No memory (α = 1) costs less at the large batch, at {tokens:,} tokens",
        }
        for tokens in (short, long)
    ]
    claims += [
        {
            "kind": "falls",
            "of": [arm(batch, short), arm(batch, long)],
            "with": "tokens",
            "text": f"The best momentum falls with the token budget, at batch size {batch}",
        }
        for batch in (small, large)
    ]
    return {"arms": ["batch_size", "tokens"], "across": "momentum", "claims": claims}


SPEC = Experiment(
    name="momentum",
    title="Momentum, batch size and horizon",
    question="Which momentum is best, and how does that change with the batch size and the token budget?",
    study="comparison",
    settings=_settings((4, 64), (2**15, 2**17)),
    presets={
        "smoke": Preset(
            about="the same batches and budgets, three momenta, one rate each, width 16; a minute",
            trials=grid((4, 64), (2**15, 2**17), (0, 1), (0.1, 0.3, 1.0), 0, width=16, depth=1, val_tokens=2**12),
        ),
        "laptop": Preset(
            about="two batch sizes, two budgets, five momenta, five rates, two seeds, about seven minutes on two cores",
            trials=grid((4, 64), (2**15, 2**17), (0, 1), width=32, val_tokens=2**13),
        ),
        "full": Preset(
            about="the same at width 64 with more batches, budgets and seeds; a night on a workstation",
            trials=grid((4, 16, 64), (2**15, 2**17, 2**19), range(4), width=64, val_tokens=2**15),
        ),
        "gpu": Preset(
            about="the same batches and budgets and larger ones, width 256",
            trials=grid((4, 64, 1024), (2**15, 2**17, 2**24), range(4), width=256, depth=4, head_dim=64),
        ),
    },
)

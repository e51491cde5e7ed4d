"""The published NanoGPT runs: 124M, 775M and 1B parameters on FineWeb, by Scion, Muon and AdamW.

Settings are the authors' where they are known: Scion's of arXiv 2502.07529 and its code, batches and sizes of arXiv
2603.21191, Muon's of modded-nanogpt's record of 17 October 2024, AdamW's of that project's notes on its track for
optimizers. What each must reach, what is not published, and what differs from the authors' code: docs/experiments/
nanogpt.md.

The presets for GPUs read shards of modded-nanogpt at `DATA`, relative to where they are called; the others are the
same model, start, methods and schedule on embedded text.
"""

from collections.abc import Iterable
from typing import Any

from scionlab.grid import log2_range, trials
from scionlab.spec import Experiment, Preset, Trial

DATA = "tokens:data/fineweb10B/*.bin,multiple=128"
WARMDOWN = 1450 / 5100  # steps of the authors' run over which the rate falls to 0

# Of all runs. The start is that of the authors' code, which is on no ball.
FIXED: dict[str, Any] = {
    "model": "nanogpt",
    "initialization": "model",
    "schedule": "trapezoid",
    "decay_fraction": WARMDOWN,
}
# Norms and radii of Scion are those of the roles `nanogpt`, which the model has by default: 50 hidden, 3000 shared.
SCION: dict[str, Any] = {"optimizer": "scion", "momentum": 0.1, "warmup": 0.0}
# The record's Muon multiplies by √max(d_out, d_in), PyTorch's by a fifth of that: its 0.1 · 0.0036 is 0.0018 here.
MUON: dict[str, Any] = {
    "optimizer": "muon",
    "momentum": 0.05,
    "warmup": 0.0,
    "options": {"adjust_lr": "match_rms_adamw", "adam_lr": 0.0036, "adam_beta1": 0.9, "weight_decay": 0.0},
}
ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.1, "options": {"weight_decay": 0.125}}
SCION_LR, README_LR, MUON_LR, ADAM_LR = 3.6e-4, 2.0**-12, 0.0018, 0.0015
ADAM_WARMUP = 250 / 5100

# Of all runs on FineWeb. 10,485,760 tokens are validated on, as by the authors.
FINEWEB: dict[str, Any] = {
    **FIXED,
    "data": DATA,
    "seq_len": 1024,
    "val_seq_len": 1024,
    "val_tokens": 10_485_760,
}
SMALL: dict[str, Any] = {**FINEWEB, "width": 768, "depth": 12, "head_dim": 128}
MEDIUM: dict[str, Any] = {**FINEWEB, "width": 1280, "depth": 36, "head_dim": 64}
LARGE: dict[str, Any] = {**FINEWEB, "width": 2048, "depth": 18, "head_dim": 128}


def grid(
    seeds: Iterable[int],
    scion: Iterable[float],
    muon: Iterable[float],
    adam: Iterable[float],
    adam_warmup: float = ADAM_WARMUP,
    **fixed: Any,
) -> tuple[Trial, ...]:
    """The three methods, each at its learning rates, with every seed."""
    methods = (SCION, scion), (MUON, muon), (ADAM | {"warmup": adam_warmup}, adam)
    seeds = list(seeds)
    return tuple(trial for method, rates in methods for trial in trials({**fixed, **method}, lr=rates, seed=seeds))


# On bytes of the State of the Union addresses. AdamW has the warm-up of other experiments here, as 250 steps are more
# than there are.
EMBEDDED: dict[str, Any] = {**FIXED, "adam_warmup": 0.2, "head_dim": 16, "batch_size": 16}

SPEC = Experiment(
    name="nanogpt",
    title="The published NanoGPT runs",
    question="Do the published NanoGPT runs of Scion, and Muon's and AdamW's beside them, end where they should?",
    study="comparison",
    settings={"arms": ["optimizer"], "across": "batch_size"},
    presets={
        "smoke": Preset(
            about="the same code on bytes: three methods at one rate, width 32, seconds",
            trials=grid(
                (0, 1), [2.0**-11], [2.0**-6], [2.0**-8], **EMBEDDED, width=32, depth=1, tokens=2**14, val_tokens=2**12
            ),
        ),
        "laptop": Preset(
            about="three methods on bytes, five rates, two seeds, width 64, 128 steps; about five minutes on two cores",
            trials=grid(
                (0, 1),
                log2_range(-13, -9),
                log2_range(-8, -4),
                log2_range(-10, -6),
                **EMBEDDED,
                width=64,
                tokens=2**17,
                val_tokens=2**14,
            ),
        ),
        "full": Preset(
            about="width 256 and depth 4 on bytes, five rates, three seeds, sixteen times the tokens; a night or two",
            trials=grid(
                range(3),
                log2_range(-14, -10),
                log2_range(-9, -5),
                log2_range(-11, -7),
                **EMBEDDED | {"head_dim": 64},
                width=256,
                depth=4,
                tokens=2**21,
            ),
        ),
        "gpu": Preset(
            about="124M, 5100 steps of 512 × 1024 tokens: Scion at two rates, Muon's record, AdamW; 3 seeds",
            trials=grid(
                range(3),
                [README_LR, SCION_LR],
                [MUON_LR],
                [ADAM_LR],
                **SMALL,
                batch_size=512,
                tokens=5100 * 512 * 1024,
            ),
        ),
        "gpu-bst": Preset(
            about="124M, Scion on 1.3e9 tokens: batches 64 to 4096 at the three published rates, 5 seeds",
            trials=trials(
                {**SMALL, **SCION, "tokens": 1_300_000_000},
                batch_size=[64, 128, 256, 512, 1024, 2048, 4096],
                lr=[1.2e-4, 2.4e-4, 3.6e-4],
                seed=range(5),
            ),
        ),
        "gpu-775m": Preset(
            about="775M on 10.8e9 tokens at batch 1024; Muon and AdamW at their values of 124M",
            trials=grid([0], [1.8e-4], [MUON_LR], [ADAM_LR], **MEDIUM, batch_size=1024, tokens=10_800_000_000),
        ),
        "gpu-1b": Preset(
            about="1B on 10.8e9 tokens at batch 1024; Muon and AdamW at their values of 124M",
            trials=grid([0], [1.8e-4], [MUON_LR], [ADAM_LR], **LARGE, batch_size=1024, tokens=10_800_000_000),
        ),
    },
)

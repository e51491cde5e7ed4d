"""What does it lose to tune the smallest model, and use its values elsewhere as they are?

Learning rate, momentum and what else decides a method's steps are searched on the proxy, and at each target from
scratch, with the same ranges, the same number of trials and the same search seeds, several of them: what one search
finds is luck, and the regret's interval holds it where there are two or more. Learning rates range over the grids of
`experiments/width.py`; other ranges reach four or five times below and above a default of the method, so that the
middle of all ranges, which every search tries first, is close to how one would start by hand. The longer target has
eight times the tokens, so that by the BST rule the batch grows fourfold and the rate halves exactly.
"""

from typing import Any

from scionlab.tuning_spec import Method, TransferExperiment, TransferPreset

MOMENTUM = (0.02, 0.5)
RADII = {"radius_input": (0.25, 4.0), "radius_hidden": (0.75, 12.0), "radius_output": (16.0, 256.0)}


def methods(base_width: int, octaves_down: int = 0) -> dict[str, Method]:
    """The four methods; `base_width` is the proxy's, and learning rates begin so many octaves lower."""

    def rates(first: int, last: int) -> tuple[float, float]:
        return 2.0 ** (first - octaves_down), 2.0**last

    return {
        "adam": Method(optimizer="adam", space={"lr": rates(-8, -2), "momentum": MOMENTUM}),
        "adam-mup": Method(
            optimizer="adam-mup",
            options={"base_width": base_width},
            space={"lr": rates(-8, -2), "momentum": MOMENTUM},
        ),
        "muon": Method(
            optimizer="muon",
            space={"lr": rates(-6, 0), "momentum": MOMENTUM, "adam_lr_ratio": (1 / 32, 1 / 2)},
        ),
        "scion": Method(optimizer="scion", space={"lr": rates(-8, -2), "momentum": MOMENTUM, **RADII}),
    }


SMALL: dict[str, Any] = {"depth": 2, "seq_len": 64, "val_tokens": 2**14}
FEW = {name: method for name, method in methods(16).items() if name in ("adam", "scion")}

SPEC = TransferExperiment(
    name="transfer",
    title="Tuned on the proxy, used at the target",
    question="What do values tuned on the smallest model lose at a larger one, and what do they save?",
    presets={
        "smoke": TransferPreset(
            about="two methods, two targets, a few trials, under a minute; shows that everything runs, not who wins",
            fixed={"depth": 1, "val_tokens": 2**12},
            methods=FEW,
            proxy={"width": 16, "tokens": 2**13, "batch_size": 4},
            targets={"wider": {"width": 32}, "longer": {"tokens": 2**16}},
            trials=4,
            search_seeds=(0, 1),
            seeds=(11, 12),
        ),
        "laptop": TransferPreset(
            about="four methods, three targets, three searches of 16 trials, two seeds; an hour on two cores",
            fixed=SMALL,
            methods=methods(32),
            proxy={"width": 32, "tokens": 2**16, "batch_size": 8},
            targets={"wider": {"width": 128}, "deeper": {"depth": 8}, "longer": {"tokens": 2**19}},
            trials=16,
            search_seeds=(0, 1, 2),
            seeds=(11, 12),
        ),
        "full": TransferPreset(
            about="targets of width 256, depth 16, 2^21 tokens, three searches of 48 trials; nights on a workstation",
            fixed=SMALL | {"val_tokens": 2**15},
            methods=methods(32, octaves_down=2),
            proxy={"width": 32, "tokens": 2**18, "batch_size": 16},
            targets={"wider": {"width": 256}, "deeper": {"depth": 16}, "longer": {"tokens": 2**21}},
            trials=48,
            search_seeds=(0, 1, 2),
            seeds=(11, 12, 13, 14),
        ),
        "gpu": TransferPreset(
            about="proxy of width 256, targets of width 1024, depth 12, 2^28 tokens, two searches of 48 trials",
            fixed={
                "depth": 3, "head_dim": 64, "seq_len": 1024, "val_seq_len": 1024, "val_tokens": 2**18,
            },
            methods=methods(256, octaves_down=4),
            proxy={"width": 256, "tokens": 2**25, "batch_size": 16},
            targets={"wider": {"width": 1024}, "deeper": {"depth": 12}, "longer": {"tokens": 2**28}},
            trials=48,
            search_seeds=(0, 1),
            seeds=(11, 12, 13),
        ),
    },
)  # fmt: skip

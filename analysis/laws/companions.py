"""What else changes with width and depth: multipliers that go with any rule for the budget.

    from the base's network to one m_N times as wide and m_L times as deep

CompleteP is for AdamW, from its authors' branch of nanoGPT (EleutherAI/nanoGPT-mup, `completep`); the learning rates of
matrix optimizers are those of arXiv 2512.05620 and its code (gmbabreu/scaling-matrix-preconditioning). All were read in
the source. RMS matching (0.2·√max(d_out, d_in), as in Moonlight) shares one rate with AdamW and is no transfer across
width: it is not to be combined with these.
"""

from dataclasses import dataclass

from scionlab.errors import UserError, unknown


@dataclass(frozen=True)
class CompleteP:
    """Multipliers of AdamW's settings; 1 at the base's width and depth.

    `residual` of what a residual branch adds; `hidden_lr` of hidden matrices, `gain_lr` of hidden norms and biases;
    `hidden_std` of hidden matrices' start; `logits` of the output; `hidden_decay` of λ, for decay lr·λ; `eps` of ε.
    """

    residual: float
    hidden_lr: float
    gain_lr: float
    hidden_std: float
    logits: float
    hidden_decay: float
    eps: float


def complete_p(width: float, depth: float, exponent: float = 1.0) -> CompleteP:
    """CompleteP's multipliers at `width` and `depth` times the base's, above 0; `exponent` a of depth, from 1/2 to 1.

    a = 1, the default, is CompleteP itself: hidden layers learn at every depth. Attention's logits are divided by the
    head's width, at any size. UserError for what is out of range.
    """
    for name, value in (("width", width), ("depth", depth)):
        if not value > 0:
            raise UserError(f"{name}: {value:g} is not allowed; it must be above 0, a multiple of the base's")
    if not 1 / 2 <= exponent <= 1:
        raise UserError(f"exponent: {exponent:g} is not allowed; it must be from 0.5 to 1")
    return CompleteP(
        residual=depth**-exponent,
        hidden_lr=depth ** (exponent - 1) / width,
        gain_lr=depth ** (exponent - 1),
        hidden_std=width**-0.5,
        logits=1 / width,
        hidden_decay=width,
        eps=depth**-exponent / width,
    )


@dataclass(frozen=True)
class Sizes:
    """Of one matrix, each over the base's: its sides, the network's depth, and blocks into which a side is cut."""

    d_in: float
    d_out: float
    depth: float = 1.0
    blocks_in: float = 1.0
    blocks_out: float = 1.0


def matrix_lr(optimizer: str, sizes: Sizes, power: float = 1 / 4) -> float:
    """The multiplier of a matrix's learning rate, with residual branches divided by the depth.

    `optimizer`  adam (also what is matched to its RMS or grafted to it), muon (spectral scale), shampoo, soap, sgd, or
                 normalized, whose updates have the spectral norm of the layer's own scale
    `power`      of either side's preconditioner in Shampoo, 1/4 by default; 0 is SGD

    Decay that does not go with the rate goes as 1/width for all of them. UserError for another optimizer.
    """
    aspect, e = sizes.d_out / sizes.d_in, 2 * power
    blocks = sizes.blocks_in * sizes.blocks_out
    table = {
        "adam": 1 / sizes.d_in,
        "muon": aspect**0.5,
        "shampoo": aspect ** (1 - e) * blocks**-e * sizes.depth ** (1 - 2 * e),
        "soap": aspect**0.5 * blocks**-0.5,
        "sgd": aspect * sizes.depth,
        "normalized": 1.0,
    }
    if optimizer not in table:
        raise unknown("optimizer", optimizer, table)
    return table[optimizer]

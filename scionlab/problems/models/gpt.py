"""A decoder-only transformer whose only width-dependent parts are its matrices.

RMS norm without gains, rotary positions, RMS-normalized queries and keys, separate q, k and v, fixed head size
(more width is more heads), √2-scaled GELU, residual branches scaled by a constant. The choices follow the GPT of
arXiv 2502.07529: a forward pass keeps its variance, and every weight is a matrix with a norm of its own.

Shapes: B batch, S sequence, D width, H heads, E head size, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scionlab.problems.models.chunks import mean_cross_entropy
from scionlab.problems.models.residual import residual_scale

MLP_RATIO = 4
ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT. `residual` is "1", "1/sqrt(2L)" or "1/L"; `output_scale` multiplies the logits."""

    width: int
    depth: int
    vocab_size: int = 256
    head_dim: int = 16
    tied: bool = False
    residual: str = "1/sqrt(2L)"
    output_scale: float = 1.0

    @property
    def residual_scale(self) -> float:
        """The constant in x + scale · branch(x), for L blocks of two branches each."""
        return residual_scale(self.residual, self.depth)


def _rms_norm(x_BSD: Tensor) -> Tensor:
    return F.rms_norm(x_BSD, (x_BSD.shape[-1],))


def rotary_angles(seq_len: int, head_dim: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin of position · frequency, each of shape (S, E/2)."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    angles = torch.outer(torch.arange(seq_len, device=device, dtype=torch.float32), ROTARY_BASE**-exponents)
    return angles.cos(), angles.sin()


def rotate(x_BHSE: Tensor, cos_SE: Tensor, sin_SE: Tensor) -> Tensor:
    """Rotary position embedding: the two halves of a head are real and imaginary parts, turned by the angle."""
    real, imag = x_BHSE.float().chunk(2, dim=-1)
    turned = torch.cat((real * cos_SE - imag * sin_SE, real * sin_SE + imag * cos_SE), dim=-1)
    return turned.to(x_BHSE.dtype)


class Attention(nn.Module):
    """Causal self-attention; logits are scaled by 1/√head_dim, which does not change with width."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BSD: Tensor, cos_SE: Tensor, sin_SE: Tensor) -> Tensor:
        def heads(y_BSD: Tensor) -> Tensor:
            return y_BSD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        q, k, v = heads(self.q(x_BSD)), heads(self.k(x_BSD)), heads(self.v(x_BSD))
        q, k = (rotate(_rms_norm(y), cos_SE, sin_SE).to(v.dtype) for y in (q, k))
        y_BHSE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y_BHSE.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """Two matrices around √2·GELU; the √2 keeps the variance through the nonlinearity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.down = nn.Linear(MLP_RATIO * width, width, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return self.down(math.sqrt(2) * F.gelu(self.up(x_BSD)))


class Block(nn.Module):
    """Pre-norm transformer block with scaled residual branches."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.head_dim)
        self.mlp = MLP(config.width)
        self.scale = config.residual_scale

    def forward(self, x_BSD: Tensor, cos_SE: Tensor, sin_SE: Tensor) -> Tensor:
        x_BSD = x_BSD + self.scale * self.attention(_rms_norm(x_BSD), cos_SE, sin_SE)
        return x_BSD + self.scale * self.mlp(_rms_norm(x_BSD))


class GPT(nn.Module):
    """Tokens (B, S) of integers below V in, logits (B, S, V) out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.output_scale = nn.Buffer(torch.tensor(config.output_scale), persistent=False)
        if config.tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens_BS: Tensor, targets_BS: Tensor | None = None) -> Tensor:
        """Logits; with targets their mean cross-entropy in their place, by chunks (`models.chunks`)."""
        cos_SE, sin_SE = rotary_angles(tokens_BS.shape[1], self.config.head_dim, tokens_BS.device)
        x_BSD = self.embed(tokens_BS)
        for block in self.blocks:
            x_BSD = block(x_BSD, cos_SE, sin_SE)
        x_BSD = _rms_norm(x_BSD)
        if targets_BS is not None:
            return mean_cross_entropy(x_BSD, self.head.weight, targets_BS, self.output_scale)
        return self.output_scale * self.head(x_BSD)


def n_params(config: GPTConfig) -> int:
    """All trainable parameters; a tied matrix counts once."""
    embeddings = config.vocab_size * config.width * (1 if config.tied else 2)
    return n_params_hidden(config) + embeddings


def n_params_hidden(config: GPTConfig) -> int:
    """Parameters of the blocks: everything but embedding and head."""
    return config.depth * (4 + 2 * MLP_RATIO) * config.width**2


def train_flops_per_token(config: GPTConfig, seq_len: int) -> int:
    """Floating-point operations of one token's forward and backward pass.

    6 for every weight that multiplies (the embedding looks up), and 12·L·S·D for the two attention products at
    full length S, as in Chowdhery et al. (2204.02311, appendix B): the causal half is not discounted.
    """
    multiplying = n_params_hidden(config) + config.vocab_size * config.width
    return 6 * multiplying + 12 * config.depth * seq_len * config.width

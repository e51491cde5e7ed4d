"""The vision transformer of the published DeiT-B run with Scion: timm's, with two changes of arXiv 2502.07529's code.

    x ← (c, patches · W_p + b_p) + positions;     x ← x + attention(norm(x)), x ← x + mlp(norm(x)), for every block
    logits = scale · (W_out norm(x)₀ + b_out)     mlp(x) = W₂ √2 gelu(W₁ x + b₁) + b₂

The changes are √2 · GELU for GELU, and RMS norm without gains for layer norm. Patches are 16 × 16 pixels, c is learned,
and the logits are read at its place, the first. Queries, keys and values are one matrix, (3·D, D), as in timm; matrices
have biases. All start as timm's: normal with standard deviation 0.02, the patches' as PyTorch's, biases 0.

Drop path (stochastic depth, arXiv 1603.09382), as in timm: in training a branch of block l = 0 … L − 1 is left out of
an image with probability p_l = l/(L − 1) · drop_path, and divided by 1 − p_l where it is not, so that its mean stays.
What is left out is an input, a buffer that is drawn for every pass: so a compiled graph reads the same draws.

Shapes: B batch, S = patches + 1, D width, H heads, E head size, L depth.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 16
MLP_RATIO = 4
STD = 0.02


@dataclass(frozen=True)
class DeiTConfig:
    """Sizes of a DeiT. `output_scale` multiplies the logits; `drop_path` is the last block's probability, below 1."""

    width: int
    depth: int
    head_dim: int
    input_shape: tuple[int, int, int]
    n_outputs: int
    output_scale: float = 1.0
    drop_path: float = 0.0

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.input_shape[1] // PATCH) * (self.input_shape[2] // PATCH)


def _norm(x_BSD: Tensor) -> Tensor:
    return F.rms_norm(x_BSD, (x_BSD.shape[-1],))


class ClassToken(nn.Module):
    """The vector in front of the patches, (D,); it plays the part of a bias, as it is added to the first position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, patches_BPD: Tensor) -> Tensor:
        """With the vector in front, (B, P + 1, D)."""
        first = self.bias.to(patches_BPD.dtype).expand(len(patches_BPD), 1, -1)
        return torch.cat((first, patches_BPD), dim=1)


class Block(nn.Module):
    """Attention and MLP, each on a normalized copy, added to what comes in."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        width = config.width
        self.head_dim = config.head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, MLP_RATIO * width)
        self.down = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x_BSD: Tensor, factors_B2: Tensor | None = None) -> Tensor:
        """Of the same shape; `factors_B2`, by default 1, multiply the two branches of every image."""
        qkv = self.qkv(_norm(x_BSD)).unflatten(-1, (3, -1, self.head_dim))  # (B, S, 3, H, E)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHSE = F.scaled_dot_product_attention(q, k, v)
        x_BSD = x_BSD + _times(self.out(mixed_BHSE.transpose(1, 2).flatten(-2)), factors_B2, 0)
        return x_BSD + _times(self.down(math.sqrt(2) * F.gelu(self.up(_norm(x_BSD)))), factors_B2, 1)


def _times(branch_BSD: Tensor, factors_B2: Tensor | None, number: int) -> Tensor:
    return branch_BSD if factors_B2 is None else branch_BSD * factors_B2[:, number, None, None]


class DeiT(nn.Module):
    """Images (B, C, H, W) in, logits (B, n_outputs) out."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv2d(config.input_shape[0], config.width, PATCH, stride=PATCH)
        self.class_token = ClassToken(config.width)
        self.positions = nn.Embedding(config.patches + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.n_outputs)
        self.output_scale = nn.Buffer(torch.tensor(config.output_scale), persistent=False)
        if config.drop_path:  # (B, L, 2); what is here multiplies no branch, until a pass has its own draws
            self.factors = nn.Buffer(torch.ones(1, config.depth, 2), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=STD)
                nn.init.zeros_(module.bias)
        for values in (self.class_token.bias, self.positions.weight):
            nn.init.trunc_normal_(values, std=STD)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x_BSD = self.class_token(self.embed(images).flatten(2).transpose(1, 2)) + self.positions.weight
        drops = self.training and self.config.drop_path > 0
        for n, block in enumerate(self.blocks):
            x_BSD = block(x_BSD, self.factors[:, n] if drops else None)
        return self.output_scale * self.head(_norm(x_BSD)[:, 0])

    def drawn(self, n_images: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """With drop path, the buffers of a pass over so many images, by name.

        `generator` draws image by image, so that parts of a batch, one after the other, have the draws of the batch.
        """
        config = self.config
        kept = 1 - np.linspace(0.0, config.drop_path, config.depth)[:, None]
        uniform = generator.random((n_images, config.depth, 2))
        return {"factors": torch.from_numpy(((uniform < kept) / kept).astype(np.float32))}


def n_params(config: DeiTConfig) -> int:
    """All trainable parameters."""
    patch = config.input_shape[0] * PATCH**2
    ends = patch + 1 + 1 + config.patches + 1 + config.n_outputs
    return n_params_hidden(config) + ends * config.width + config.n_outputs


def n_params_hidden(config: DeiTConfig) -> int:
    """Parameters of the blocks."""
    matrices = (4 + 2 * MLP_RATIO) * config.width**2
    return config.depth * (matrices + (3 + 1 + MLP_RATIO + 1) * config.width)


def train_flops_per_example(config: DeiTConfig) -> int:
    """Floating-point operations of one image's forward and backward pass.

    6 for every weight of a matrix at each of its positions, and 12·L·S²·D for the products of attention.
    """
    length, patch = config.patches + 1, config.input_shape[0] * PATCH**2
    blocks = config.depth * (4 + 2 * MLP_RATIO) * config.width**2
    weights = blocks * length + (patch * config.patches + config.n_outputs) * config.width
    return 6 * weights + 12 * config.depth * length**2 * config.width

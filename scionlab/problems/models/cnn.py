"""A small residual network for images of 8 × 8 to 32 × 32 pixels, in which only the number of channels is the width.

    x ← stem * p;     x ← x + s · W₂ * √2 relu(W₁ * norm(x))  for L blocks;     logits = scale · W_out norm(max of x)

with the maximum over positions, as in airbench: means mostly cancel, and after a nonlinearity all images look alike.
Every convolution (*) is 3 × 3 without bias and keeps the size; 2 × 2 average pooling comes before a block whose input
is larger than 8 × 8. Normalization divides an image's activations by their RMS, without learned gains, and s is the
trial's residual scale. So every weight is a convolution or a matrix, with a norm of its own.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scionlab.problems.models.residual import residual_scale

KERNEL = 3
TARGET_SIZE = 8


@dataclass(frozen=True)
class CNNConfig:
    """Sizes of a CNN. `residual` is "1", "1/sqrt(2L)" or "1/L"; `output_scale` multiplies the logits."""

    width: int
    depth: int
    input_shape: tuple[int, int, int]
    n_outputs: int
    residual: str = "1/sqrt(2L)"
    output_scale: float = 1.0

    @property
    def residual_scale(self) -> float:
        """The constant in x + scale · branch(x), for L blocks of one branch each."""
        return residual_scale(self.residual, self.depth)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the images in the stem and in every block."""
        sizes = [self.input_shape[1:]]
        for _ in range(self.depth):
            high, wide = sizes[-1]
            sizes.append((high // 2, wide // 2) if min(high, wide) > TARGET_SIZE else (high, wide))
        return sizes


def _norm(x: Tensor) -> Tensor:
    """Every example divided by the RMS of its entries."""
    return F.rms_norm(x, x.shape[1:])


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, KERNEL, padding="same", bias=False)


class Block(nn.Module):
    """A residual block of two convolutions, on images that it may first halve."""

    def __init__(self, width: int, scale: float, halve: bool) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width)
        self.scale, self.halve = scale, halve

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """x + scale · branch(x)."""
        if self.halve:
            x_BCHW = F.avg_pool2d(x_BCHW, 2)
        return x_BCHW + self.scale * self.second(math.sqrt(2) * self.first(_norm(x_BCHW)).relu())


class CNN(nn.Module):
    """Images (B, C, H, W) in, logits (B, n_outputs) out."""

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _convolution(config.input_shape[0], config.width)
        halves = [after != before for before, after in zip(config.sizes, config.sizes[1:], strict=False)]
        self.blocks = nn.ModuleList(Block(config.width, config.residual_scale, halve) for halve in halves)
        self.head = nn.Linear(config.width, config.n_outputs, bias=False)
        self.output_scale = nn.Buffer(torch.tensor(config.output_scale), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x_BCHW = self.stem(images)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return self.output_scale * self.head(_norm(x_BCHW.amax(dim=(2, 3))))


def n_params(config: CNNConfig) -> int:
    """All trainable parameters."""
    return n_params_hidden(config) + (KERNEL**2 * config.input_shape[0] + config.n_outputs) * config.width


def n_params_hidden(config: CNNConfig) -> int:
    """Parameters of the blocks."""
    return config.depth * 2 * KERNEL**2 * config.width**2


def train_flops_per_example(config: CNNConfig) -> int:
    """Floating-point operations of one image's forward and backward pass.

    6 for every weight of a matrix, and for every weight of a convolution at each position of the image.
    """
    stem, *blocks = (high * wide * KERNEL**2 for high, wide in config.sizes)
    weights = stem * config.input_shape[0] + 2 * sum(blocks) * config.width + config.n_outputs
    return 6 * weights * config.width

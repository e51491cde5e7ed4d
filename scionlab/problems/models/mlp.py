"""A plain multilayer perceptron: images in, logits out, and only its matrices depend on the width.

    x ← W₀ p + b₀;     x ← W_ℓ √2 relu(x) + b_ℓ  for ℓ = 1 … L;     logits = scale · W_out √2 relu(x)

without normalization layers or residual branches (a trial's `residual` is not read): each matrix must by itself keep
the size of what passes through it. √2·relu keeps the mean square of a symmetric input.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MLPConfig:
    """Sizes of an MLP with `depth` hidden matrices; `output_scale` multiplies the logits."""

    width: int
    depth: int
    n_inputs: int
    n_outputs: int
    output_scale: float = 1.0


class MLP(nn.Module):
    """Images (B, C, H, W) in, logits (B, n_outputs) out."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.n_inputs, config.width)
        self.hidden = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.n_outputs, bias=False)
        self.output_scale = nn.Buffer(torch.tensor(config.output_scale), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x_BD = self.input(images.flatten(1))
        for layer in self.hidden:
            x_BD = layer(math.sqrt(2) * x_BD.relu())
        return self.output_scale * self.head(math.sqrt(2) * x_BD.relu())


def n_params(config: MLPConfig) -> int:
    """All trainable parameters."""
    return n_params_hidden(config) + (config.n_inputs + 1 + config.n_outputs) * config.width


def n_params_hidden(config: MLPConfig) -> int:
    """Parameters of the hidden matrices and their biases."""
    return config.depth * (config.width + 1) * config.width


def train_flops_per_example(config: MLPConfig) -> int:
    """Floating-point operations of one image's forward and backward pass: 6 for every weight of a matrix."""
    matrices = config.depth * config.width + config.n_inputs + config.n_outputs
    return 6 * matrices * config.width

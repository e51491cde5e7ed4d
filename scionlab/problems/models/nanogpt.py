"""The transformer of the published NanoGPT runs with Scion (arXiv 2502.07529), a simplified modded-nanogpt.

What it shares with `GPT`: RMS norm without gains, normalized queries and keys, rotary positions, separate q, k and v,
no biases. What is its own: an MLP of (√2·ReLU)², residual branches that are not scaled, embedding and head always one
matrix, and the start that its authors train from, which is on no ball: PyTorch's defaults, but for the projections back
into the residual stream, which are 0. A trial asks for that start by `initialization="model"`.

Counts are those of `GPT`.
"""

import math
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from scionlab.problems.models.gpt import GPT, MLP, Block, GPTConfig


class SquaredMLP(MLP):
    """Two matrices around (√2·ReLU)²."""

    def forward(self, x_BSD: Tensor) -> Tensor:
        """The branch, not yet added to x."""
        return self.down((math.sqrt(2) * F.relu(self.up(x_BSD))).square())


class NanoGPT(GPT):
    """Tokens (B, S) in, logits (B, S, V) out; of the config, `tied` and `residual` are not read.

    All matrices start uniform in ±1/√d_in, also the shared one, (V, D); `attention.out` and `mlp.down` at 0.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(replace(config, tied=True, residual="1"))
        self.head.reset_parameters()  # of the shared matrix: tied to an embedding, it had the embedding's start
        for block in self.blocks:
            assert isinstance(block, Block)
            block.mlp = SquaredMLP(config.width)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp.down.weight)

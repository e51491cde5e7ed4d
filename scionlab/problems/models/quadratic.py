"""One square matrix, which is its own output: what `noise:KIND` asks of a model (`problems.data.noise`)."""

from torch import Tensor, nn


class Quadratic(nn.Module):
    """Whatever the inputs, the matrix W (width, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, width, bias=False)

    def forward(self, _: Tensor) -> Tensor:
        """W."""
        return self.head.weight


def train_flops_per_sample(width: int) -> int:
    """Operations of f and its gradient: a difference, a square, a sum and a product of width² entries each way."""
    return 6 * width**2

"""Games: several players, each with parameters and a loss of its own, and no data but the samples of its noise.

    players = {"x": ("x",), "y": ("y",)}      by player, how the names of its parameters begin
    losses(outputs, samples)                  every player's loss, from the outputs of the model that holds them all

The oracle gives every parameter the gradient of its own player's loss, which is the field F(z) of a game; a method of
gradients then plays for all at once. The model is a function of the caller's, and the game an object: docs/extending.md
has one.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.base import DataShape, Source, one_token
from scionlab.problems.data.noise import NoiseBatches

WHAT = "a sample of a game"


class Game(Source):
    """A problem of several players. The first one's loss is the curve's; the table `scores` has everybody's.

    A batch is (B, 3), int64: (seed, stage, n) names the n-th sample of a run, n = 1, 2, …, for a game that draws, and
    n = 0 is none: the game is validated there.
    """

    traceable: ClassVar[bool] = False  # losses may be the caller's

    @property
    def name(self) -> str:  # type: ignore[override]  # of its class
        """What messages call it."""
        return type(self).__name__

    @property
    def groups(self) -> tuple[str, ...]:  # type: ignore[override]  # follows from the players
        """The players."""
        return tuple(self.players)

    @property
    def sha256(self) -> str:  # type: ignore[override]  # there are no data
        """Of its name: trials are told apart by its code."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def split_sha256(self) -> str:
        """The same."""
        return self.sha256

    @property
    def shape(self) -> DataShape:
        """Samples' names to read, nothing to predict."""
        return DataShape("game", example=torch.zeros(1, 3, dtype=torch.int64))

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> NoiseBatches:
        """Samples without end."""
        one_token("seq_len", seq_len, WHAT)
        if limit:
            raise UserError(f"train_limit: {limit} is not allowed: a game has no data to limit; set 0")
        return NoiseBatches(batch_size, seed, stage)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """One sample, that of no noise."""
        one_token("val_seq_len", seq_len, WHAT)
        one_token("val_tokens", n_tokens, "the game without noise")
        return torch.zeros(1, 3, dtype=torch.int64)

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The samples' names, for the model and for the losses."""
        return batch, batch

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """The loss of every player, 0-d, from the model's outputs and the samples' names (B, 3)."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The first player's."""
        return self.losses(outputs, targets)[next(iter(self.players))]

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Every player's loss."""
        losses, count = self.losses(outputs, targets), len(targets)
        rows = [[float(losses[player]) * count, torch.nan, count] for player in self.players]
        return torch.tensor(rows, dtype=torch.float64)
